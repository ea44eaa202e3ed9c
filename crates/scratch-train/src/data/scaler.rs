//! Scaling series to zero mean and unit variance.

use serde::{Deserialize, Serialize};

/// Mean and standard deviation of each column, of the training part only: the other parts must
/// not have a say in what the model sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaler {
    /// The means, by column.
    pub mean: Vec<f64>,
    /// The standard deviations, by column; 1 for a column that is constant.
    pub std: Vec<f64>,
}

impl Scaler {
    /// Fits the scaler on the rows of the training part.
    ///
    /// # Panics
    ///
    /// If there are no rows, or rows of several widths.
    pub fn fit(rows: &[Vec<f64>]) -> Self {
        let columns = rows.first().expect("a row to fit the scaler on").len();
        let count = rows.len() as f64;
        let (mut mean, mut std) = (Vec::new(), Vec::new());
        for column in 0..columns {
            let values = || rows.iter().map(|row| row[column]);
            // Divided before they are summed and squared, so that large numbers do not overflow.
            let average = values().map(|value| value / count).sum::<f64>();
            let largest = values().fold(0.0, |largest: f64, value| {
                largest.max((value - average).abs())
            });
            let share: f64 = values()
                .map(|value| ((value - average) / largest).powi(2))
                .sum();
            let deviation = largest * (share / count).sqrt();
            mean.push(average);
            let negligible = average.abs() * f64::EPSILON * 16.0;
            std.push(if deviation > negligible {
                deviation
            } else {
                1.0
            });
        }
        Self { mean, std }
    }

    /// How many columns it scales.
    pub fn columns(&self) -> usize {
        self.mean.len()
    }

    /// `(value - mean) / std` of rows, flat: by row, then column.
    ///
    /// # Panics
    ///
    /// If a row has another number of columns than the scaler was fitted on.
    pub fn scale(&self, rows: &[Vec<f64>]) -> Vec<f32> {
        let scale_row = |row: &Vec<f64>| {
            assert_eq!(
                row.len(),
                self.columns(),
                "columns of the row and the scaler"
            );
            let columns = row.iter().zip(&self.mean).zip(&self.std);
            columns
                .map(|((value, mean), std)| ((value - mean) / std) as f32)
                .collect::<Vec<_>>()
        };
        rows.iter().flat_map(scale_row).collect()
    }

    /// Undoes [`scale`](Self::scale) on flat numbers whose column changes the fastest: whole rows,
    /// or a model's outputs `[.., K*C]`.
    ///
    /// # Panics
    ///
    /// If the numbers are no whole rows.
    pub fn unscale(&self, scaled: &[f32]) -> Vec<f64> {
        assert_eq!(scaled.len() % self.columns(), 0, "whole rows of columns");
        let columns = self.mean.iter().zip(&self.std).cycle();
        scaled
            .iter()
            .zip(columns)
            .map(|(&value, (mean, std))| f64::from(value) * std + mean)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Column 0: mean (1 + 3 + 5) / 3 = 3, variance (4 + 0 + 4) / 3. Column 1 is constant.
    #[test]
    fn scales_by_column_and_back() {
        let rows = [vec![1.0, 0.1], vec![3.0, 0.1], vec![5.0, 0.1]];
        let scaler = Scaler::fit(&rows);
        assert!((scaler.mean[0] - 3.0).abs() < 1e-12);
        assert!((scaler.std[0] - (8.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(scaler.std[1], 1.0);
        let scaled = scaler.scale(&rows);
        assert!((scaled[0] + 1.224745).abs() < 1e-6 && scaled[1].abs() < 1e-6);
        for (back, value) in scaler.unscale(&scaled).iter().zip(rows.concat()) {
            assert!((back - value).abs() < 1e-6);
        }
    }

    #[test]
    fn huge_numbers_do_not_overflow() {
        let scaler = Scaler::fit(&[vec![1e308], vec![1.5e308], vec![-1e308]]);
        assert!(scaler.mean[0].is_finite() && scaler.std[0].is_finite());
        assert!(scaler.scale(&[vec![1e308]])[0].is_finite());
    }
}
