//! Dividing data into parts for training, validation and test.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::DataError;

/// Which shares of the data are for what; the rest is the test part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// The share to learn from.
    pub train: f64,
    /// The share by which the model is chosen.
    pub valid: f64,
}

/// Consecutive parts of a series, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The rows to learn from.
    pub train: Range<usize>,
    /// The rows by which the model is chosen.
    pub valid: Range<usize>,
    /// The rows that are looked at once, at the end.
    pub test: Range<usize>,
}

/// [`SplitConfig::SERIES`].
impl Default for SplitConfig {
    fn default() -> Self {
        Self::SERIES
    }
}

impl SplitConfig {
    /// 64/16/20, for series: a fifth for the test, and a fifth of the rest for validation.
    pub const SERIES: Self = Self {
        train: 0.64,
        valid: 0.16,
    };

    /// 80/10/10, for labelled sequences.
    pub const LABELLED: Self = Self {
        train: 0.8,
        valid: 0.1,
    };

    /// Checks the shares.
    ///
    /// # Errors
    ///
    /// If a share is not more than 0, or nothing is left for the test.
    pub fn validate(&self) -> Result<(), DataError> {
        for (field, share) in [("split.train", self.train), ("split.valid", self.valid)] {
            if !(share > 0.0 && share < 1.0) {
                return Err(DataError::setting(
                    field,
                    "more than 0 and less than 1",
                    share,
                ));
            }
        }
        // Half a millionth for shares that add up to 1 in decimal figures.
        if self.train + self.valid > 1.0 - 5e-7 {
            return Err(DataError::setting(
                "split",
                "shares of training and validation that leave some for the test",
                format!("{} and {}", self.train, self.valid),
            ));
        }
        Ok(())
    }

    /// Cuts `rows` rows in time. The boundaries are rounded to the nearest row: of 2820 rows at
    /// 64/16/20 the last 564 are the test part.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate), or if a part would have no rows.
    pub fn split(&self, rows: usize) -> Result<Split, DataError> {
        self.validate()?;
        let boundary = |share: f64| (share * rows as f64).round() as usize;
        let (train, valid) = (boundary(self.train), boundary(self.train + self.valid));
        let split = Split {
            train: 0..train,
            valid: train..valid,
            test: valid..rows,
        };
        if split.train.is_empty() || split.valid.is_empty() || split.test.is_empty() {
            let smallest = self
                .train
                .min(self.valid)
                .min(1.0 - self.train - self.valid);
            return Err(DataError::TooShort {
                what: "the series".into(),
                expected: (1.0 / smallest).ceil() as usize,
                unit: "rows",
                reason: "one for each part".into(),
                found: rows,
            });
        }
        Ok(split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2820 * 0.64 = 1804.8 and 2820 * 0.8 = 2256.
    #[test]
    fn the_sunspots_are_tested_on_the_last_564_months() {
        let split = SplitConfig::SERIES.split(2820).unwrap();
        assert_eq!(split.train, 0..1805);
        assert_eq!(split.valid, 1805..2256);
        assert_eq!(split.test, 2256..2820);
    }

    #[test]
    fn parts_must_have_rows() {
        for (train, valid) in [
            (0.0, 0.5),
            (0.9, 0.1),
            (0.5, f64::NAN),
            (-1.0, 0.5),
            (0.6, 0.6),
        ] {
            assert!(SplitConfig { train, valid }.split(100).is_err());
        }
        for rows in 0..4 {
            let error = SplitConfig::SERIES.split(rows).unwrap_err().to_string();
            assert!(error.contains("at least 7 rows"), "{error}");
        }
        assert!(SplitConfig::SERIES.split(7).is_ok());
    }
}
