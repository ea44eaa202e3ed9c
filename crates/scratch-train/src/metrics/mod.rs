//! What results are measured by. Everything is `f64` on the host.

mod classes;
mod forecast;

pub use classes::{ClassScores, Confusion};
pub use forecast::{ForecastScores, mae, mase, naive_mae, rmse};

/// Bits for nats: a loss in nats per character is one in bits per character divided by `ln 2`.
///
/// ```
/// // Guessing among 256 bytes: ln(256) nats, 8 bits.
/// let bits = scratch_train::metrics::nats_to_bits(256f64.ln());
/// assert!((bits - 8.0).abs() < 1e-12);
/// ```
pub fn nats_to_bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

/// Nats for bits.
pub fn bits_to_nats(bits: f64) -> f64 {
    bits * std::f64::consts::LN_2
}

/// Perplexity, `e^nats`: among how many equally likely units a model with this loss per unit
/// might as well guess.
pub fn perplexity(nats: f64) -> f64 {
    nats.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_information() {
        assert_eq!(nats_to_bits(std::f64::consts::LN_2), 1.0);
        assert!((bits_to_nats(nats_to_bits(1.7)) - 1.7).abs() < 1e-12);
        assert!((perplexity(256f64.ln()) - 256.0).abs() < 1e-9);
    }
}
