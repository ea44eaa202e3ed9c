//! Forecasts and guesses without a model: what a model has to beat.

use std::ops::Range;

use crate::data::{Forecasts, Series};

/// Persistence: every step of the forecast is the last value known, `y(t-1)` for rows `t`,
/// `t+1`, ...
///
/// # Panics
///
/// If nothing is known at the first origin, or an origin lies beyond the series.
pub fn persistence(series: &Series, origins: Range<usize>, horizon: usize) -> Forecasts {
    seasonal_naive(series, origins, horizon, 1)
}

/// Seasonal naive: the value a season ago; for steps beyond a season, the last season known again.
///
/// # Panics
///
/// If the season is 0 or longer than what is known at the first origin, or an origin lies beyond
/// the series.
pub fn seasonal_naive(
    series: &Series,
    origins: Range<usize>,
    horizon: usize,
    season: usize,
) -> Forecasts {
    assert!(
        season > 0 && season <= origins.start,
        "a season of {season} rows before the origin {}",
        origins.start
    );
    let values = origins
        .clone()
        .flat_map(|origin| (0..horizon).map(move |step| origin - season + step % season))
        .flat_map(|row| series.values[row].iter().copied())
        .collect();
    Forecasts::new(origins, horizon, series.columns(), values)
}

/// The length of the season of a column: the highest peak of its autocorrelation, its linear trend
/// taken away, after that has first fallen below zero (before, a smooth series just resembles
/// itself). At least two seasons must fit. `None` if no peak reaches a correlation of 0.1 or the
/// two standard errors of white noise, `2 / sqrt(n)`.
///
/// Meant for the training part.
pub fn season_length(values: &[f64]) -> Option<usize> {
    let rest = without_trend(values);
    let variance: f64 = rest.iter().map(|value| value * value).sum();
    if rest.len() < 8 || variance <= 0.0 {
        return None;
    }
    // A season of more rows than this is nobody's, and the search takes time.
    let longest = (rest.len() / 2).min(1000);
    let correlation: Vec<f64> = (0..=longest + 1)
        .map(|lag| {
            let pairs = rest.iter().zip(&rest[lag..]);
            pairs.map(|(early, late)| early * late).sum::<f64>() / variance
        })
        .collect();
    let apart = correlation.iter().position(|&value| value < 0.0)?;
    let is_peak = |&lag: &usize| {
        let around = correlation[lag - 1].max(correlation[lag + 1]);
        correlation[lag] >= around
    };
    let season = (apart.max(2)..=longest)
        .filter(is_peak)
        .max_by(|&a, &b| correlation[a].total_cmp(&correlation[b]))?;
    let noise = (2.0 / (rest.len() as f64).sqrt()).max(0.1);
    (correlation[season] > noise).then_some(season)
}

/// The label that occurs most often, by position, the first of them if there are several: always
/// guessing it is what a classifier has to beat. `None` without labels.
pub fn most_frequent(labels: &[usize]) -> Option<usize> {
    let mut counts = vec![0usize; labels.iter().max()? + 1];
    for &label in labels {
        counts[label] += 1;
    }
    let highest = counts.iter().copied().max()?;
    counts.iter().position(|&count| count == highest)
}

/// The share of `labels` that a constant guess gets right; 0 without labels.
pub fn constant_accuracy(labels: &[usize], guess: usize) -> f64 {
    if labels.is_empty() {
        return 0.0;
    }
    let right = labels.iter().filter(|&&label| label == guess).count();
    right as f64 / labels.len() as f64
}

/// What is left of the values beside the straight line of least squares.
fn without_trend(values: &[f64]) -> Vec<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let middle = (count - 1.0) / 2.0;
    let (mut up, mut across) = (0.0, 0.0);
    for (time, value) in values.iter().enumerate() {
        let time = time as f64 - middle;
        up += time * (value - mean);
        across += time * time;
    }
    let slope = if across > 0.0 { up / across } else { 0.0 };
    let line = |time: usize| mean + slope * (time as f64 - middle);
    let rest = values.iter().enumerate();
    rest.map(|(time, value)| value - line(time)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{SplitConfig, embedded};
    use crate::metrics::{ForecastScores, rmse};

    fn series(values: &[f64]) -> Series {
        Series {
            names: vec!["v".into()],
            values: values.iter().map(|&value| vec![value]).collect(),
            times: None,
        }
    }

    #[test]
    fn steps_beyond_a_season_repeat_it() {
        let series = series(&[1., 2., 3., 4., 5., 6., 7., 8.]);
        let naive = seasonal_naive(&series, 3..5, 4, 3);
        assert_eq!(naive.column(0), [1., 2., 3., 1., 2., 3., 4., 2.]);
        let persistent = persistence(&series, 3..5, 4);
        assert_eq!(persistent.column(0), [3., 3., 3., 3., 4., 4., 4., 4.]);
    }

    /// One step ahead on the last 564 of 2820 months.
    #[test]
    fn persistence_of_the_sunspots() {
        let series = embedded::sunspots().unwrap();
        let split = SplitConfig::SERIES.split(series.len()).unwrap();
        assert_eq!(split.test.len(), 564);
        let truth = Forecasts::truth(&series, split.test.clone(), 1).column(0);
        let train: Vec<_> = series.column(0)[split.train].to_vec();
        let naive = persistence(&series, split.test.clone(), 1).column(0);
        let scores = ForecastScores::of(&truth, &naive, &train);
        assert!((scores.rmse - 20.09).abs() < 0.005, "{scores:?}");
        assert!((scores.mae - 14.4).abs() < 0.5, "{scores:?}");

        let season = season_length(&train).unwrap();
        assert_eq!(season, SUNSPOT_SEASON);
        let seasonal = seasonal_naive(&series, split.test, 1, season).column(0);
        let error = rmse(&truth, &seasonal);
        assert!((error - 43.08).abs() < 0.05, "{error}");
    }

    /// Months: between ten and eleven years, the solar cycle.
    const SUNSPOT_SEASON: usize = 127;

    #[test]
    fn airline_passengers_repeat_every_twelve_months() {
        let values = embedded::airline().column(0);
        let split = SplitConfig::SERIES.split(values.len()).unwrap();
        assert_eq!(season_length(&values[split.train]), Some(12));
    }

    #[test]
    fn what_does_not_repeat_has_no_season() {
        let line: Vec<_> = (0..100).map(f64::from).collect();
        assert_eq!(season_length(&line), None);
        assert_eq!(season_length(&[3.0; 50]), None);
        assert_eq!(season_length(&[]), None);
        assert_eq!(season_length(&[1.0]), None);
    }

    #[test]
    fn always_guessing_the_most_frequent() {
        assert_eq!(most_frequent(&[2, 0, 2, 1, 0]), Some(0));
        assert_eq!(most_frequent(&[]), None);
        assert_eq!(constant_accuracy(&[0, 1, 1, 0, 0], 0), 0.6);
        assert_eq!(constant_accuracy(&[], 0), 0.0);
    }
}
