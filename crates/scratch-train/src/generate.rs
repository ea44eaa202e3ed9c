//! Choosing the next unit from a model's logits.

use rand::RngExt;
use scratch_lstm::Key;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How the next unit is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// What logits are divided by: below 1 the likely become likelier, above 1 the unlikely. 0
    /// always takes the likeliest.
    pub temperature: f64,
    /// Only so many of the likeliest are chosen from; all if absent.
    pub top_k: Option<usize>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
        }
    }
}

/// Settings or logits nothing can be chosen by.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SamplingError {
    /// A temperature outside what it may be.
    #[error("`temperature` must be a finite number of at least 0, found {0}")]
    Temperature(f64),
    /// Nothing to choose from.
    #[error("`top_k` must be at least 1, found 0")]
    TopK,
    /// A model that has gone wrong.
    #[error(
        "the model's logits must be numbers below infinity, found {found} at position {position}"
    )]
    Logit {
        /// Where among the logits.
        position: usize,
        /// Not a number, or infinity.
        found: f32,
    },
    /// No logits, or all of them minus infinity.
    #[error("expected at least one logit above minus infinity, found none")]
    NoLogits,
}

impl Sampling {
    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// If the temperature is negative or no finite number, or `top_k` is 0.
    pub fn validate(&self) -> Result<(), SamplingError> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(SamplingError::Temperature(self.temperature));
        }
        if self.top_k == Some(0) {
            return Err(SamplingError::TopK);
        }
        Ok(())
    }

    /// Chooses one of the logits `[V]` by position. The same key chooses the same; ask each time
    /// with the child of a key for the position in the text. A logit of minus infinity is never
    /// chosen; of equal logits the first counts as the likelier.
    ///
    /// # Errors
    ///
    /// If the settings are not [valid](Self::validate) or a logit is no number.
    pub fn choose(&self, logits: &[f32], key: &Key) -> Result<usize, SamplingError> {
        self.validate()?;
        let broken = |&(_, &logit): &(usize, &f32)| logit.is_nan() || logit == f32::INFINITY;
        if let Some((position, &found)) = logits.iter().enumerate().find(broken) {
            return Err(SamplingError::Logit { position, found });
        }
        let mut candidates: Vec<_> = logits
            .iter()
            .map(|&logit| f64::from(logit))
            .enumerate()
            .filter(|(_, logit)| logit.is_finite())
            .collect();
        candidates.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let &(likeliest, highest) = candidates.first().ok_or(SamplingError::NoLogits)?;
        if self.temperature == 0.0 {
            return Ok(likeliest);
        }
        candidates.truncate(self.top_k.unwrap_or(usize::MAX));
        let weights: Vec<_> = candidates
            .iter()
            .map(|(_, logit)| ((logit - highest) / self.temperature).exp())
            .collect();
        let mut left = key.rng().random::<f64>() * weights.iter().sum::<f64>();
        for (&(position, _), weight) in candidates.iter().zip(weights) {
            left -= weight;
            if left < 0.0 {
                return Ok(position);
            }
        }
        // The subtractions' rounding errors used up the last one's share.
        Ok(likeliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: Sampling, logits: &[f32]) -> Vec<usize> {
        let key = Key::new(5);
        let mut counts = vec![0; logits.len()];
        for position in 0..4000 {
            counts[sampling.choose(logits, &key.child(position)).unwrap()] += 1;
        }
        counts
    }

    fn at(temperature: f64) -> Sampling {
        Sampling {
            temperature,
            top_k: None,
        }
    }

    /// Logits ln 1, ln 2, ln 5: probabilities 1/8, 2/8, 5/8; at temperature 1/2 they are squared:
    /// 1/30, 4/30, 25/30. Of 4000 draws the standard deviation is at most 32.
    #[test]
    fn frequencies_follow_the_temperature() {
        let logits = [1f32.ln(), 2f32.ln(), 5f32.ln()];
        for (temperature, shares) in [
            (1.0, [1. / 8., 2. / 8., 5. / 8.]),
            (0.5, [1. / 30., 4. / 30., 25. / 30.]),
        ] {
            for (count, share) in counts(at(temperature), &logits).into_iter().zip(shares) {
                assert!(
                    (count as f64 - 4000.0 * share).abs() < 100.0,
                    "{count} for {share}"
                );
            }
        }
    }

    #[test]
    fn temperature_0_takes_the_first_of_the_likeliest() {
        assert_eq!(at(0.0).choose(&[1.0, 3.0, 3.0, 2.0], &Key::new(1)), Ok(1));
        // So does nearly 0, without an overflow.
        assert_eq!(at(1e-300).choose(&[1.0, 3.0, 2.0], &Key::new(1)), Ok(1));
    }

    #[test]
    fn top_k_leaves_the_likeliest() {
        let sampling = Sampling {
            temperature: 100.0,
            top_k: Some(2),
        };
        let counts = counts(sampling, &[1.0, 4.0, 2.0, 3.0]);
        assert_eq!((counts[0], counts[2]), (0, 0));
        assert!(counts[1] > 1500 && counts[3] > 1500);
        let more = Sampling {
            top_k: Some(usize::MAX),
            ..sampling
        };
        assert!(more.choose(&[1.0, 2.0], &Key::new(1)).is_ok());
    }

    #[test]
    fn the_same_key_chooses_the_same() {
        let logits = [0.0; 50];
        let choose = |seed| at(1.0).choose(&logits, &Key::new(seed)).unwrap();
        assert_eq!(choose(1), choose(1));
        assert!((2..20).any(|seed| choose(seed) != choose(1)));
    }

    #[test]
    fn broken_logits_and_settings_are_errors() {
        let key = Key::new(1);
        let choose = |logits: &[f32]| at(1.0).choose(logits, &key);
        assert_eq!(choose(&[f32::NEG_INFINITY, 0.0]), Ok(1));
        assert_eq!(choose(&[f32::NEG_INFINITY]), Err(SamplingError::NoLogits));
        assert_eq!(choose(&[]), Err(SamplingError::NoLogits));
        assert!(matches!(
            choose(&[0.0, f32::NAN]),
            Err(SamplingError::Logit { position: 1, .. })
        ));
        assert!(matches!(
            choose(&[f32::INFINITY]),
            Err(SamplingError::Logit { .. })
        ));
        for temperature in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(at(temperature).validate().is_err());
        }
        let none = Sampling {
            temperature: 1.0,
            top_k: Some(0),
        };
        assert_eq!(none.choose(&[1.0], &key), Err(SamplingError::TopK));
    }
}
