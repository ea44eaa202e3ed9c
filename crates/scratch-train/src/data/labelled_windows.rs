//! Batches of labelled sequences.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::seq::SliceRandom;
use scratch_lstm::Key;
use serde::{Deserialize, Serialize};

use super::error::{check_elements, check_positive};
use super::fingerprint::Fingerprint;
use super::order::EpochOrder;
use super::{DataError, LabelledData, SequenceData, Start, Vocabulary, Window};

/// How labelled sequences become batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelledConfig {
    /// Sequences in a batch.
    pub batch_size: usize,
    /// Units of a sequence that are read; what comes after is cut off.
    pub max_length: usize,
    /// Batches are padded to a multiple of so many time steps: some padding for fewer shapes,
    /// each of which GPU backends have to get to know.
    pub length_step: usize,
}

impl Default for LabelledConfig {
    fn default() -> Self {
        Self {
            batch_size: 64,
            max_length: 1024,
            length_step: 4,
        }
    }
}

/// Sequences of different lengths, and their labels.
#[derive(Debug, Clone)]
pub struct LabelledBatch {
    /// The units, `[B, T]`; 0 past a sequence's length.
    pub inputs: Tensor<2, Int>,
    /// How many units of each row are valid, at least 1.
    pub lengths: Vec<usize>,
    /// The labels, `[B]`.
    pub labels: Tensor<1, Int>,
}

/// A part of labelled data as batches of sequences of about the same length
/// ([`Start::Fresh`] always).
#[derive(Debug)]
pub struct LabelledWindows {
    sequences: Vec<Sequence>,
    config: LabelledConfig,
    truncated: usize,
    /// The key of an epoch's order; by length without one.
    shuffle: Option<Key>,
    order: EpochOrder<Vec<Vec<usize>>>,
}

#[derive(Debug)]
struct Sequence {
    units: Vec<u32>,
    label: usize,
}

impl LabelledWindows {
    /// The training part: the examples at `positions`, in an order that `key` and the epoch
    /// determine. Sequences are shuffled, sorted by length within pools of 20 batches, cut
    /// into batches, and the batches shuffled: little padding, and other neighbours in each epoch.
    ///
    /// # Errors
    ///
    /// If a size is zero or too large, or there are no examples.
    ///
    /// # Panics
    ///
    /// If there is no example at one of the positions.
    pub fn train(
        data: &LabelledData,
        positions: &[usize],
        vocabulary: &Vocabulary,
        config: &LabelledConfig,
        key: &Key,
    ) -> Result<Self, DataError> {
        let shuffle = Some(key.child("shuffle"));
        Self::new("training", data, positions, vocabulary, config, shuffle)
    }

    /// A part for validation or test: each example once, sorted by length.
    ///
    /// # Errors
    ///
    /// As [`train`](Self::train).
    ///
    /// # Panics
    ///
    /// As [`train`](Self::train).
    pub fn eval(
        data: &LabelledData,
        positions: &[usize],
        vocabulary: &Vocabulary,
        config: &LabelledConfig,
    ) -> Result<Self, DataError> {
        Self::new("evaluation", data, positions, vocabulary, config, None)
    }

    /// How many sequences are longer than what is read of them.
    pub fn truncated(&self) -> usize {
        self.truncated
    }

    fn new(
        part: &str,
        data: &LabelledData,
        positions: &[usize],
        vocabulary: &Vocabulary,
        config: &LabelledConfig,
        shuffle: Option<Key>,
    ) -> Result<Self, DataError> {
        config.validate()?;
        if positions.is_empty() {
            return Err(DataError::TooShort {
                what: format!("the {part} part"),
                expected: 1,
                unit: "labelled sequences",
                reason: "an example to read".into(),
                found: 0,
            });
        }
        let mut truncated = 0;
        let sequence = |&position: &usize| {
            let example = &data.examples[position];
            let mut units = vocabulary.encode(&example.text);
            truncated += usize::from(units.len() > config.max_length);
            units.truncate(config.max_length);
            let label = example.label;
            Sequence { units, label }
        };
        let sequences: Vec<_> = positions.iter().map(sequence).collect();
        let longest = sequences.iter().map(|s| s.units.len()).max().unwrap_or(0);
        check_elements(&[
            ("batch", config.batch_size.min(sequences.len())),
            (
                "longest sequence",
                longest.next_multiple_of(config.length_step),
            ),
        ])?;
        Ok(Self {
            sequences,
            config: config.clone(),
            truncated,
            shuffle,
            order: EpochOrder::new(),
        })
    }

    /// The sequences of each batch of an epoch, by position.
    fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let size = self.config.batch_size;
        let mut positions: Vec<_> = (0..self.sequences.len()).collect();
        let length = |&position: &usize| self.sequences[position].units.len();
        let Some(key) = &self.shuffle else {
            positions.sort_by_key(length);
            return positions.chunks(size).map(<[_]>::to_vec).collect();
        };
        let mut rng = key.child(epoch).rng();
        positions.shuffle(&mut rng);
        // A pool is whole batches: only the epoch's last batch can be smaller.
        for pool in positions.chunks_mut(size.saturating_mul(POOL)) {
            pool.sort_by_key(length);
        }
        let mut batches: Vec<_> = positions.chunks(size).map(<[_]>::to_vec).collect();
        batches.shuffle(&mut rng);
        batches
    }
}

/// Batches among which sequences of the same length find each other.
const POOL: usize = 20;

impl SequenceData for LabelledWindows {
    type Batch = LabelledBatch;

    fn windows(&self) -> usize {
        self.sequences.len().div_ceil(self.config.batch_size)
    }

    fn fingerprint(&self) -> Option<String> {
        let print =
            Fingerprint::default().sizes(&[self.config.batch_size, self.config.length_step]);
        let sequences = self.sequences.iter();
        let print = sequences.fold(print, |print, sequence| {
            print.units(&sequence.units).sizes(&[sequence.label])
        });
        Some(print.finish())
    }

    fn window(&self, epoch: usize, index: usize, device: &Device) -> Window<LabelledBatch> {
        assert!(
            index < self.windows(),
            "window {index} of {}",
            self.windows()
        );
        // Evaluation has one order.
        let epoch = self.shuffle.as_ref().map_or(0, |_| epoch);
        let batches = self.order.get(epoch, || self.batches(epoch));
        let rows: Vec<_> = batches[index]
            .iter()
            .map(|&row| &self.sequences[row])
            .collect();
        let lengths: Vec<_> = rows.iter().map(|row| row.units.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let steps = longest.next_multiple_of(self.config.length_step);
        let mut inputs = vec![0i32; rows.len() * steps];
        for (row, padded) in rows.iter().zip(inputs.chunks_exact_mut(steps)) {
            for (input, &unit) in padded.iter_mut().zip(&row.units) {
                *input = unit as i32;
            }
        }
        let labels: Vec<_> = rows.iter().map(|row| row.label as i32).collect();
        let count = rows.len();
        Window {
            batch: LabelledBatch {
                inputs: Tensor::from_data(TensorData::new(inputs, [count, steps]), device),
                lengths,
                labels: Tensor::from_data(TensorData::new(labels, [count]), device),
            },
            start: Start::Fresh,
        }
    }
}

impl LabelledConfig {
    /// Checks the settings by themselves.
    ///
    /// # Errors
    ///
    /// If a size is zero or the padding absurd.
    pub fn validate(&self) -> Result<(), DataError> {
        check_positive("batch_size", self.batch_size)?;
        check_positive("max_length", self.max_length)?;
        if !(1..=MAX_LENGTH_STEP).contains(&self.length_step) {
            return Err(DataError::setting(
                "length_step",
                format!("at least 1 and at most {MAX_LENGTH_STEP}"),
                self.length_step,
            ));
        }
        Ok(())
    }
}

const MAX_LENGTH_STEP: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> LabelledData {
        let words: String = (0..50)
            .map(|k| "ab".repeat(k % 7 + 1) + &format!("{k}\n"))
            .collect();
        LabelledData::from_lines("t", [("x", words.as_str()), ("y", "b\nabc\n")]).unwrap()
    }

    fn config() -> LabelledConfig {
        LabelledConfig {
            batch_size: 8,
            max_length: 10,
            length_step: 4,
        }
    }

    fn rows(data: &LabelledWindows, epoch: usize) -> Vec<Vec<(Vec<i64>, i64)>> {
        let device = Device::flex();
        let rows = |index| {
            let Window { batch, start } = data.window(epoch, index, &device);
            assert_eq!(start, Start::Fresh);
            let [_, steps] = batch.inputs.dims();
            assert_eq!(steps % 4, 0);
            let inputs = batch
                .inputs
                .into_data()
                .convert::<i64>()
                .try_to_vec::<i64>()
                .unwrap();
            let labels = batch
                .labels
                .into_data()
                .convert::<i64>()
                .try_to_vec::<i64>()
                .unwrap();
            let row = |((input, &length), label): ((&[i64], &usize), i64)| {
                assert!(input[length..].iter().all(|&unit| unit == 0));
                (input[..length].to_vec(), label)
            };
            let inputs = inputs.chunks(steps).zip(&batch.lengths).zip(labels);
            inputs.map(row).collect()
        };
        (0..data.windows()).map(rows).collect()
    }

    #[test]
    fn every_sequence_once_an_epoch_in_its_own_order() {
        let data = data();
        let positions: Vec<_> = (0..52).collect();
        let vocabulary = Vocabulary::chars(data.texts(&positions));
        let key = Key::new(3);
        let windows =
            LabelledWindows::train(&data, &positions, &vocabulary, &config(), &key).unwrap();
        assert_eq!(windows.windows(), 7);
        // "ab" five times and a number of two digits, or six or seven times.
        assert!(windows.truncated() > 0);
        let (zero, one) = (rows(&windows, 0), rows(&windows, 1));
        assert_ne!(zero, one);
        assert_eq!(zero, rows(&windows, 0));
        let mut expected: Vec<_> = data
            .examples
            .iter()
            .map(|example| {
                let mut units = vocabulary.encode(&example.text);
                units.truncate(10);
                let units: Vec<_> = units.into_iter().map(i64::from).collect();
                (units, example.label as i64)
            })
            .collect();
        expected.sort();
        for epoch in [zero, one] {
            let mut epoch = epoch.concat();
            epoch.sort();
            assert_eq!(epoch, expected);
        }
    }

    #[test]
    fn batches_hold_about_one_length() {
        let data = data();
        let positions: Vec<_> = (0..52).collect();
        let windows =
            LabelledWindows::eval(&data, &positions, &Vocabulary::bytes(), &config()).unwrap();
        let lengths: Vec<_> = rows(&windows, 5)
            .concat()
            .iter()
            .map(|(units, _)| units.len())
            .collect();
        assert!(lengths.is_sorted());
    }

    #[test]
    fn absurd_sizes_are_errors() {
        let data = data();
        let error = |config: LabelledConfig| {
            LabelledWindows::eval(&data, &[0], &Vocabulary::bytes(), &config).is_err()
        };
        assert!(error(LabelledConfig {
            batch_size: 0,
            ..config()
        }));
        assert!(error(LabelledConfig {
            max_length: 0,
            ..config()
        }));
        assert!(error(LabelledConfig {
            length_step: 0,
            ..config()
        }));
        assert!(error(LabelledConfig {
            length_step: usize::MAX,
            ..config()
        }));
        assert!(!error(LabelledConfig {
            batch_size: usize::MAX,
            ..config()
        }));
        let none = LabelledWindows::eval(&data, &[], &Vocabulary::bytes(), &config());
        assert!(none.unwrap_err().to_string().contains("evaluation part"));
    }
}
