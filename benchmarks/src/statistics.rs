//! A median and how sure it is.

use serde::Serialize;

/// A median with an interval for it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The sample's median.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The middle value, or the mean of the two in the middle.
///
/// # Panics
///
/// If there are no values.
pub fn median(values: &[f64]) -> f64 {
    middle(&sorted(values))
}

/// The mean of ratios: twice as fast here and half as fast there is 1, whichever way the ratio is
/// taken.
///
/// # Panics
///
/// If there are no values.
pub fn geometric_mean(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "a mean of no values");
    let logarithms: f64 = values.iter().map(|value| value.ln()).sum();
    (logarithms / values.len() as f64).exp()
}

/// The median of `values` and an interval that holds the true median with probability
/// [`coverage`], whatever their distribution.
///
/// Each value is above the true median with probability 1/2, so that the count of those above is
/// binomial: the interval from the k-th smallest to the k-th largest value misses only if fewer
/// than k values lie on one side. Timings have long tails on one side, which is why nothing is
/// assumed about them.
///
/// # Panics
///
/// If there are no values.
pub fn spread(values: &[f64]) -> Spread {
    let sorted = sorted(values);
    let rank = rank(sorted.len());
    Spread {
        median: middle(&sorted),
        low: sorted[rank - 1],
        high: sorted[sorted.len() - rank],
    }
}

/// The probability with which [`spread`] of `count` independent values holds the true median: at
/// least 0.95 from 6 values on.
pub fn coverage(count: usize) -> f64 {
    coverage_of_rank(count, rank(count))
}

const CONFIDENCE: f64 = 0.95;

/// The narrowest interval that has the confidence, or else the widest there is.
fn rank(count: usize) -> usize {
    (2..=count / 2)
        .take_while(|&rank| coverage_of_rank(count, rank) >= CONFIDENCE)
        .last()
        .unwrap_or(1)
}

fn coverage_of_rank(count: usize, rank: usize) -> f64 {
    let mut probability = 0.5f64.powi(count as i32);
    let mut outside = 0.0;
    for above in 0..rank {
        outside += probability;
        probability *= (count - above) as f64 / (above + 1) as f64;
    }
    (1.0 - 2.0 * outside).max(0.0)
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        (sorted[half - 1] + sorted[half]) / 2.0
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    assert!(!values.is_empty(), "a median of no values");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn the_geometric_mean_does_not_care_which_side_is_divided() {
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-12;
        assert!(close(geometric_mean(&[2.0, 0.5]), 1.0));
        assert!(close(geometric_mean(&[1.0, 10.0, 100.0]), 10.0));
        assert!(close(geometric_mean(&[3.5]), 3.5));
        let ratios = [1.2, 0.7, 3.1];
        let inverse = ratios.map(|ratio| 1.0 / ratio);
        assert!(close(
            geometric_mean(&ratios),
            1.0 / geometric_mean(&inverse)
        ));
    }

    /// Ranks and coverages from tables of the sign test (for instance Conover, Practical
    /// Nonparametric Statistics, table A3).
    #[test]
    fn ranks_are_those_of_the_binomial_distribution() {
        for (count, expected_rank, expected_coverage) in [
            (1, 1, 0.0),
            (2, 1, 0.5),
            (5, 1, 0.9375),
            (6, 1, 0.96875),
            (7, 1, 0.984375),
            (8, 1, 0.9921875),
            (9, 2, 0.9609375),
            (10, 2, 0.978515625),
            (15, 4, 0.96484375),
            (20, 6, 0.958610534667969),
        ] {
            assert_eq!(rank(count), expected_rank, "{count} values");
            let found = coverage(count);
            assert!(
                (found - expected_coverage).abs() < 1e-12,
                "{count} values: {found}"
            );
        }
        assert!((0.95..0.96).contains(&coverage(1000)));
    }

    #[test]
    fn an_outlier_moves_neither_median_nor_interval() {
        let mut values: Vec<f64> = (1..=9).map(f64::from).collect();
        let expected = Spread {
            median: 5.0,
            low: 2.0,
            high: 8.0,
        };
        assert_eq!(spread(&values), expected);
        values[8] = 1e9;
        values.reverse();
        assert_eq!(spread(&values), expected);
    }
}
