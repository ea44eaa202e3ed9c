//! Streams of text, for language models.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::RngExt;
use scratch_lstm::Key;

use super::error::{check_elements, check_positive};
use super::fingerprint::Fingerprint;
use super::{DataError, SequenceData, Start, Window};

/// A window of each stream.
#[derive(Debug, Clone)]
pub struct TextBatch {
    /// The units to read, `[B, T]`.
    pub inputs: Tensor<2, Int>,
    /// The unit that follows each, `[B, T]`.
    pub targets: Tensor<2, Int>,
}

/// A text cut into `B` streams that are read side by side: row `i` of a window continues row `i`
/// of the window before ([`Start::Continue`]), and the state is carried through a whole epoch.
#[derive(Debug, Clone)]
pub struct TextStreams {
    /// The text by the numbers of its units.
    units: Vec<u32>,
    batch_size: usize,
    /// Steps of a window; the last one of an evaluation may be shorter.
    window: usize,
    /// Steps of a stream that are read in an epoch.
    steps: usize,
    /// The key of each epoch's first unit; always the first without one.
    shift: Option<Key>,
}

impl TextStreams {
    /// The training part in `batch_size` streams.
    ///
    /// An epoch begins with one of the first `window` units, which `key` and the epoch determine,
    /// so that windows are not cut at the same places in each. Less than `window` steps at the end
    /// of each stream are not read.
    ///
    /// # Errors
    ///
    /// If a size is zero or too large, or the text too short for one window of each stream.
    pub fn train(
        units: Vec<u32>,
        batch_size: usize,
        window: usize,
        key: &Key,
    ) -> Result<Self, DataError> {
        check_sizes(batch_size, window)?;
        let least = batch_size.saturating_add(1).saturating_mul(window);
        if units.len() < least {
            return Err(DataError::TooShort {
                what: "the training part of the text".into(),
                expected: least,
                unit: "units",
                reason: format!("window {window} x (batch {batch_size} + 1)"),
                found: units.len(),
            });
        }
        check_elements(&[("batch", batch_size), ("window", window)])?;
        // The last unit is only a target, and up to `window - 1` are skipped.
        let windows = (units.len() - window) / batch_size / window;
        Ok(Self {
            units,
            batch_size,
            window,
            steps: windows * window,
            shift: Some(key.child("shift")),
        })
    }

    /// A part for validation or test, from its first unit to its end, where the last window may be
    /// shorter; less than `batch_size` units at the very end are not read. A text too short for
    /// `batch_size` streams of one window gets fewer streams.
    ///
    /// # Errors
    ///
    /// If a size is zero or too large, or the text has less than two units.
    pub fn eval(units: Vec<u32>, batch_size: usize, window: usize) -> Result<Self, DataError> {
        check_sizes(batch_size, window)?;
        let targets = units.len().saturating_sub(1);
        if targets == 0 {
            return Err(DataError::TooShort {
                what: "the validation part of the text".into(),
                expected: 2,
                unit: "units",
                reason: "one to read and one to predict".into(),
                found: units.len(),
            });
        }
        let batch_size = batch_size.min((targets / window).max(1));
        let steps = targets / batch_size;
        let window = window.min(steps);
        check_elements(&[("batch", batch_size), ("window", window)])?;
        Ok(Self {
            units,
            batch_size,
            window,
            steps,
            shift: None,
        })
    }

    /// How many streams there are, `B`.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }
}

impl SequenceData for TextStreams {
    type Batch = TextBatch;

    fn windows(&self) -> usize {
        self.steps.div_ceil(self.window)
    }

    fn fingerprint(&self) -> Option<String> {
        let sizes = [self.batch_size, self.window, self.steps];
        let print = Fingerprint::default().sizes(&sizes).units(&self.units);
        Some(print.finish())
    }

    fn window(&self, epoch: usize, index: usize, device: &Device) -> Window<TextBatch> {
        assert!(
            index < self.windows(),
            "window {index} of {}",
            self.windows()
        );
        let shift = self
            .shift
            .as_ref()
            .map_or(0, |key| key.child(epoch).rng().random_range(0..self.window));
        let from = index * self.window;
        let steps = self.window.min(self.steps - from);
        // Streams lie one behind the other, as far apart as the text allows.
        let stream = (self.units.len() - 1 - shift) / self.batch_size;
        let rows = |ahead: usize| {
            let row = |row: usize| {
                let first = shift + row * stream + from + ahead;
                self.units[first..first + steps].iter()
            };
            let numbers: Vec<_> = (0..self.batch_size)
                .flat_map(row)
                .map(|&unit| unit as i32)
                .collect();
            Tensor::from_data(TensorData::new(numbers, [self.batch_size, steps]), device)
        };
        Window {
            batch: TextBatch {
                inputs: rows(0),
                targets: rows(1),
            },
            start: if index == 0 {
                Start::Fresh
            } else {
                Start::Continue
            },
        }
    }
}

fn check_sizes(batch_size: usize, window: usize) -> Result<(), DataError> {
    check_positive("batch_size", batch_size)?;
    check_positive("window", window)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(tensor: &Tensor<2, Int>) -> Vec<Vec<i64>> {
        let [_, steps] = tensor.dims();
        let data = tensor.to_data().convert::<i64>();
        let flat: Vec<i64> = data.try_to_vec().unwrap();
        flat.chunks(steps).map(<[i64]>::to_vec).collect()
    }

    #[test]
    fn rows_continue_their_streams() {
        let device = Device::flex();
        let data = TextStreams::train((0..100).collect(), 3, 5, &Key::new(1)).unwrap();
        // (100 - 5) / 3 = 31 steps: 6 windows of 5.
        assert_eq!(data.windows(), 6);
        let mut firsts = std::collections::BTreeSet::new();
        for epoch in 0..40 {
            let mut before: Option<Vec<Vec<i64>>> = None;
            for index in 0..data.windows() {
                let Window { batch, start } = data.window(epoch, index, &device);
                let (inputs, targets) = (numbers(&batch.inputs), numbers(&batch.targets));
                for (input, target) in inputs.iter().zip(&targets) {
                    assert_eq!(target[..4], input[1..]);
                    assert_eq!(target[4], input[4] + 1);
                }
                match before {
                    None => {
                        assert_eq!(start, Start::Fresh);
                        firsts.insert(inputs[0][0]);
                    }
                    Some(before) => {
                        assert_eq!(start, Start::Continue);
                        for (row, before) in inputs.iter().zip(before) {
                            assert_eq!(row[0], before[4]);
                        }
                    }
                }
                before = Some(targets);
            }
            let again = data.window(epoch, 2, &device).batch.inputs;
            assert_eq!(
                numbers(&again),
                numbers(&data.window(epoch, 2, &device).batch.inputs)
            );
        }
        assert_eq!(firsts, (0..5).collect());
    }

    #[test]
    fn evaluation_reads_to_the_end() {
        let device = Device::flex();
        let data = TextStreams::eval((0..25).collect(), 2, 5).unwrap();
        assert_eq!(data.windows(), 3);
        let last = data.window(9, 2, &device).batch;
        // 24 targets in 2 streams of 12: windows of 5, 5 and 2.
        assert_eq!(numbers(&last.inputs), [[10, 11], [22, 23]]);
        assert_eq!(numbers(&last.targets), [[11, 12], [23, 24]]);

        let short = TextStreams::eval((0..4).collect(), 64, 1_000_000_000).unwrap();
        assert_eq!((short.batch_size(), short.windows()), (1, 1));
        let all = short.window(0, 0, &device).batch.targets;
        assert_eq!(numbers(&all), [[1, 2, 3]]);
    }

    #[test]
    fn too_short_a_text_is_an_error() {
        let key = Key::new(1);
        let train = |units: u32, batch_size, window| {
            TextStreams::train((0..units).collect(), batch_size, window, &key)
        };
        assert!(train(20, 3, 5).is_ok());
        let error = train(19, 3, 5).unwrap_err().to_string();
        assert!(error.contains("at least 20 units (window 5 x (batch 3 + 1)), found 19"));
        for (batch_size, window) in [(0, 5), (3, 0), (3, 1_000_000_000), (usize::MAX, usize::MAX)] {
            assert!(train(100, batch_size, window).is_err());
        }
        for units in 0..2 {
            assert!(TextStreams::eval((0..units).collect(), 1, 1).is_err());
        }
    }
}
