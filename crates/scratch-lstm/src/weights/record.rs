//! burn's own LSTMs inside a record that burn has written: a `.bpk` file.
//!
//! A record has the parameters of a module by their paths: `lstm.input_gate.input_transform.weight`
//! and so on for a `burn::nn::Lstm`, with `forward` and `reverse` before the gates for a `BiLstm`.
//! It has no settings: activations are taken to be the usual ones, and where there is no forget
//! gate it is coupled.

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::nn::activation::Activation;
use burn::nn::{BiLstm, GateController, Linear, Lstm, Sigmoid, Tanh};
use burn::store::burn_pack::Reader;
use burn::tensor::{Bytes, DType, Tensor, TensorCreationOptions, TensorData};

use crate::lstm::ScratchLstm;
use crate::random::Key;

use super::error::{WeightsError, joined};
use super::file::{FLOATS, Regular, float_tensor, guarded, open_regular};
use super::names::Part;

/// Whether a file that begins so is meant to be one of these.
pub(super) fn looks_like(start: &[u8]) -> bool {
    start.starts_with(b"NRUB")
}

/// A file, all of it read.
#[derive(Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
    tensors: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Stored {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl RecordFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is cut short or damaged.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let Regular { mut file, .. } = open_regular(path, EXPECTED)?;
        let mut bytes = Vec::new();
        file.rewind()
            .and_then(|()| file.read_to_end(&mut bytes))
            .map_err(|source| WeightsError::Io {
                path: path.into(),
                source,
            })?;
        let tensors = guarded(|| {
            let reader = Reader::from_bytes(Bytes::from_bytes_vec(bytes));
            let tensors = reader.and_then(Reader::into_tensors);
            let tensors = tensors.map_err(|error| error.to_string())?;
            let named = tensors.into_iter().map(|tensor| {
                let parts = tensor.into_parts().map_err(|error| error.to_string())?;
                let (name, dtype, shape, _, bytes) = parts;
                let shape = shape.to_vec();
                let stored = Stored {
                    dtype,
                    shape,
                    bytes,
                };
                Ok((name, stored))
            });
            named.collect::<Result<_, String>>()
        });
        Ok(Self {
            path: path.into(),
            tensors: tensors.map_err(|found| WeightsError::File {
                path: path.into(),
                expected: EXPECTED.into(),
                found,
            })?,
        })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// The element type of a tensor.
    pub(super) fn dtype(&self, name: &str) -> Result<DType, WeightsError> {
        self.find(name).map(|stored| stored.dtype)
    }

    /// The shape of a tensor.
    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>, WeightsError> {
        self.find(name).map(|stored| stored.shape.clone())
    }

    /// The paths of burn's LSTMs, sorted; `""` for one at the top.
    pub(super) fn lstm_prefixes(&self) -> Vec<String> {
        let cells = self.tensors.keys().filter_map(|name| {
            let cell = name.strip_suffix(FIRST)?;
            match cell {
                "" => Some(cell),
                _ => cell.strip_suffix('.'),
            }
        });
        let layers = cells.map(|cell| match cell.rsplit_once('.').unwrap_or(("", cell)) {
            (layer, FORWARD | REVERSE) => layer.to_string(),
            _ => cell.to_string(),
        });
        let mut layers: Vec<String> = layers.collect();
        layers.sort();
        layers.dedup();
        layers
    }

    /// The tensors of a layer: whether each is the reverse direction's, PyTorch's name for what it
    /// is a part of, and its own.
    pub(super) fn parts_of(&self, layer: &str) -> Result<Vec<(bool, Part, String)>, WeightsError> {
        let mut parts = Vec::new();
        for (reverse, cell) in self.cells(layer)? {
            for gate in GATES {
                for (transform, weight, bias) in [
                    (ON_INPUT, Part::WeightIh, Part::BiasIh),
                    (ON_HIDDEN, Part::WeightHh, Part::BiasHh),
                ] {
                    for (part, name) in [(weight, "weight"), (bias, "bias")] {
                        let name = joined(&cell, &format!("{gate}.{transform}.{name}"));
                        if self.tensors.contains_key(&name) {
                            parts.push((reverse, part, name));
                        }
                    }
                }
            }
        }
        Ok(parts)
    }

    /// The LSTM of these layers, from the input upwards, `[B, T, _]`.
    pub(super) fn lstm(
        &self,
        layers: &[String],
        creation: &TensorCreationOptions,
        key: &Key,
    ) -> Result<ScratchLstm, WeightsError> {
        let (mut one, mut both) = (Vec::new(), Vec::new());
        for layer in layers {
            let cells = self.cells(layer)?;
            let mut cells = cells.iter().map(|(_, cell)| self.cell(cell, creation));
            let forward = cells.next().expect("there is one at least")?;
            match cells.next() {
                None => one.push(forward),
                Some(reverse) => both.push(BiLstm {
                    d_hidden: forward.d_hidden,
                    forward,
                    reverse: reverse?,
                    batch_first: true,
                }),
            }
        }
        match (one.is_empty(), both.is_empty()) {
            (_, true) => ScratchLstm::try_from_burn(&one, key),
            (true, false) => ScratchLstm::try_from_burn_bidirectional(&both, key),
            (false, false) => Err(WeightsError::Setting {
                name: "directions".into(),
                expected: "the same in all layers".into(),
                found: "both".into(),
            }),
        }
    }

    /// The paths of a layer's cells, and whether each is the reverse direction's: one cell, or two.
    fn cells(&self, layer: &str) -> Result<Vec<(bool, String)>, WeightsError> {
        let has = |cell: &str| self.tensors.contains_key(&joined(cell, FIRST));
        let [forward, reverse] = [FORWARD, REVERSE].map(|direction| joined(layer, direction));
        if has(layer) {
            Ok(vec![(false, layer.into())])
        } else if has(&forward) && has(&reverse) {
            Ok(vec![(false, forward), (true, reverse)])
        } else {
            Err(WeightsError::NoLstm {
                path: self.path.clone(),
                prefix: layer.into(),
                tensor: joined(layer, FIRST),
                found: self.lstm_prefixes(),
            })
        }
    }

    /// burn's LSTM at a path.
    fn cell(&self, path: &str, creation: &TensorCreationOptions) -> Result<Lstm, WeightsError> {
        let gate = |gate: &str| -> Result<GateController, WeightsError> {
            let linear = |transform: &str| -> Result<Linear, WeightsError> {
                let name = |name: &str| joined(path, &format!("{gate}.{transform}.{name}"));
                let bias = name("bias");
                let bias = match self.tensors.contains_key(&bias) {
                    true => Some(self.tensor::<1>(&bias, creation)?),
                    false => None,
                };
                Ok(Linear {
                    weight: Param::from_tensor(self.tensor::<2>(&name("weight"), creation)?),
                    bias: bias.map(Param::from_tensor),
                })
            };
            Ok(GateController {
                input_transform: linear(ON_INPUT)?,
                hidden_transform: linear(ON_HIDDEN)?,
            })
        };
        let [input, forget, cell, output] = GATES;
        let input_gate = gate(input)?;
        let is_coupled = !self
            .tensors
            .contains_key(&joined(path, &format!("{forget}.{ON_INPUT}.weight")));
        Ok(Lstm {
            d_hidden: input_gate.hidden_transform.weight.dims()[1],
            input_gate,
            forget_gate: match is_coupled {
                true => None,
                false => Some(gate(forget)?),
            },
            output_gate: gate(output)?,
            cell_gate: gate(cell)?,
            batch_first: true,
            reverse: false,
            clip: None,
            input_forget: is_coupled,
            gate_activation: Activation::Sigmoid(Sigmoid::new()),
            cell_activation: Activation::Tanh(Tanh::new()),
            hidden_activation: Activation::Tanh(Tanh::new()),
        })
    }

    fn tensor<const R: usize>(
        &self,
        name: &str,
        creation: &TensorCreationOptions,
    ) -> Result<Tensor<R>, WeightsError> {
        let stored = self.find(name)?;
        if !stored.dtype.is_float() {
            return Err(WeightsError::DType {
                name: name.into(),
                expected: FLOATS.into(),
                found: format!("{:?}", stored.dtype),
            });
        }
        float_tensor(&self.path, name, creation, || {
            let bytes = stored.bytes.to_vec();
            TensorData::try_from_bytes_vec(bytes, stored.shape.clone(), stored.dtype)
                .map_err(|error| WeightsError::damaged(&self.path, name, error))
        })
    }

    fn find(&self, name: &str) -> Result<&Stored, WeightsError> {
        self.tensors.get(name).ok_or_else(|| WeightsError::Missing {
            path: self.path.clone(),
            missing: vec![name.into()],
            found: self.names(),
        })
    }
}

const EXPECTED: &str = "a record that burn has written (.bpk)";

/// What burn calls the gates, in the order of this crate.
const GATES: [&str; 4] = ["input_gate", "forget_gate", "cell_gate", "output_gate"];
const ON_INPUT: &str = "input_transform";
const ON_HIDDEN: &str = "hidden_transform";
/// What burn calls the directions.
const FORWARD: &str = "forward";
const REVERSE: &str = "reverse";
/// A tensor that every cell has.
const FIRST: &str = "input_gate.input_transform.weight";
