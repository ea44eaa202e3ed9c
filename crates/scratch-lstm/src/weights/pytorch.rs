//! An LSTM inside a PyTorch state dict: `{prefix}.weight_ih_l{layer}{_reverse}` and so on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor, TensorCreationOptions, TensorData};

use crate::cell::{CellWeights, ScratchLstmCell};
use crate::config::ScratchLstmConfig;
use crate::gates;
use crate::lstm::ScratchLstm;
use crate::random::Key;

use super::burn_lstm::check_joined_each_layer;
use super::error::{WeightsError, joined};
use super::file::PytorchFile;
use super::names::{FIRST, Part, Place, all_places, below, parse, places};
use super::safetensors::save_safetensors;
use super::shapes::{check_dims, presence};
use super::two_biases::TwoBiasWeights;

/// What a state dict does not say of an LSTM.
#[derive(Debug, Clone)]
pub struct PytorchOptions {
    /// Whether input and output are `[B, T, _]`; true by default, as everywhere in this crate. The
    /// weights are the same either way.
    pub batch_first: bool,
    /// Dropout between layers; 0 by default.
    pub dropout: f64,
    /// Element type of the module; the device's default (f32 unless configured otherwise) if
    /// absent.
    pub dtype: Option<DType>,
    /// Where parameter identities come from; ones that nobody can repeat if absent.
    pub key: Option<Key>,
}

impl Default for PytorchOptions {
    fn default() -> Self {
        Self {
            batch_first: true,
            dropout: 0.0,
            dtype: None,
            key: None,
        }
    }
}

impl ScratchLstm {
    /// The LSTM at `prefix` (`"encoder.lstm"`, or `""`) of a state dict in a `.safetensors` or
    /// `.pt` file. Sizes, layers, directions and bias follow from the tensors; PyTorch's two
    /// biases are summed.
    ///
    /// ```no_run
    /// use burn::tensor::Device;
    /// use scratch_lstm::{ScratchLstm, weights::PytorchOptions};
    ///
    /// let options = PytorchOptions::default();
    /// let device = Device::default();
    /// let lstm = ScratchLstm::try_from_pytorch_file("model.pt", "encoder.lstm", &options, &device)?;
    /// # Ok::<(), scratch_lstm::WeightsError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the file cannot be read; if it has no LSTM at `prefix`, or one with a tensor missing, of
    /// another shape or not of floats; if the LSTM has projections (`proj_size`), which are not
    /// supported yet.
    pub fn try_from_pytorch_file(
        path: impl AsRef<Path>,
        prefix: &str,
        options: &PytorchOptions,
        device: &Device,
    ) -> Result<Self, WeightsError> {
        PytorchFile::open(path)?.lstm(prefix, options, device)
    }

    /// Replaces the weights by those of the LSTM at `prefix` of a state dict in a `.safetensors`
    /// or `.pt` file: all of them, or none if there is an error. The parameters keep their
    /// identities, devices and element types, and stay frozen where they are.
    ///
    /// # Errors
    ///
    /// Where [`try_from_pytorch_file`](Self::try_from_pytorch_file) has one, and if the LSTM in
    /// the file has other sizes, layers or directions or differs in having a bias.
    pub fn load_pytorch_file(
        &mut self,
        path: impl AsRef<Path>,
        prefix: &str,
    ) -> Result<(), WeightsError> {
        PytorchFile::open(path)?.load_lstm(prefix, self)
    }

    /// The weights under PyTorch's names below `prefix`, in their element type: the bias as
    /// `bias_ih`, zeros as `bias_hh`.
    ///
    /// # Errors
    ///
    /// If the two directions of a stack are independent, which PyTorch does not have.
    pub fn to_pytorch(&self, prefix: &str) -> Result<BTreeMap<String, TensorData>, WeightsError> {
        let config = self.config();
        check_joined_each_layer(config)?;
        let mut tensors = BTreeMap::new();
        for (place, cell) in places(config).zip(cells(self)) {
            let weights = TwoBiasWeights::try_from_cell(cell.weights())?;
            let mut put = |part: Part, data: TensorData| {
                tensors.insert(joined(prefix, &place.name(part)), data);
            };
            put(Part::WeightIh, weights.weight_ih.into_data());
            put(Part::WeightHh, weights.weight_hh.into_data());
            if let (Some(bias_ih), Some(bias_hh)) = (weights.bias_ih, weights.bias_hh) {
                put(Part::BiasIh, bias_ih.into_data());
                put(Part::BiasHh, bias_hh.into_data());
            }
        }
        Ok(tensors)
    }

    /// Writes the weights as a `.safetensors` file that PyTorch's `load_state_dict` takes, under
    /// [`to_pytorch`](Self::to_pytorch)'s names. A file at `path` is replaced only once the new
    /// one is complete and on disk.
    ///
    /// # Errors
    ///
    /// Where [`to_pytorch`](Self::to_pytorch) has one, and if the file cannot be written.
    pub fn save_pytorch_safetensors(
        &self,
        path: impl AsRef<Path>,
        prefix: &str,
    ) -> Result<(), WeightsError> {
        save_safetensors(path, &self.to_pytorch(prefix)?)
    }
}

impl PytorchFile {
    /// The LSTM at `prefix`; see [`ScratchLstm::try_from_pytorch_file`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn lstm(
        &self,
        prefix: &str,
        options: &PytorchOptions,
        device: &Device,
    ) -> Result<ScratchLstm, WeightsError> {
        let stored = self.stored(prefix)?;
        let config = stored
            .config
            .with_batch_first(options.batch_first)
            .with_dropout(options.dropout);
        config.validate()?;
        let creation = TensorCreationOptions {
            device: device.clone(),
            dtype: options.dtype,
        };
        let weights = places(&config).map(|place| self.cell(&stored.prefix, place, &creation));
        let weights = weights.collect::<Result<_, _>>()?;
        let key = options.key.clone().unwrap_or_else(|| {
            let path = burn::module::ParamId::new();
            Key::new(0).child(path)
        });
        ScratchLstm::from_weights(&config, weights, &key)
    }

    /// Replaces the weights of `lstm`; see [`ScratchLstm::load_pytorch_file`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn load_lstm(&self, prefix: &str, lstm: &mut ScratchLstm) -> Result<(), WeightsError> {
        let stored = self.stored(prefix)?;
        check_same(lstm.config(), &stored.config)?;
        let weights = places(&stored.config)
            .zip(cells(lstm))
            .map(|(place, cell)| {
                let like = cell.weight_ih.val();
                let creation = TensorCreationOptions {
                    device: like.device(),
                    dtype: Some(like.dtype()),
                };
                self.cell(&stored.prefix, place, &creation)
            });
        let weights: Vec<CellWeights> = weights.collect::<Result<_, _>>()?;

        // From here on nothing fails.
        for (cell, weights) in cells_mut(lstm).zip(weights) {
            replace(&mut cell.weight_ih, weights.weight_ih);
            replace(&mut cell.weight_hh, weights.weight_hh);
            if let (Some(bias), Some(value)) = (&mut cell.bias, weights.bias) {
                replace(bias, value);
            }
        }
        Ok(())
    }

    /// The prefixes under which there is an LSTM, sorted; `""` for one at the top.
    pub fn lstm_prefixes(&self) -> Vec<String> {
        let names = self.names();
        let mut prefixes: Vec<String> = names
            .iter()
            .filter_map(|name| {
                let (prefix, last) = name.rsplit_once('.').unwrap_or(("", name));
                if last != FIRST.name(Part::WeightHh) {
                    return None;
                }
                // A GRU has three gates, a plain recurrent layer one.
                let [rows, d_hidden] = self.exact_shape(name)?.try_into().ok()?;
                let four = d_hidden.checked_mul(gates::COUNT) == Some(rows);
                four.then(|| prefix.to_string())
            })
            .collect();
        prefixes.sort();
        prefixes
    }

    /// What is stored at `prefix`, checked: every tensor that its settings call for is there, has
    /// its shape and holds floats.
    fn stored(&self, prefix: &str) -> Result<Stored, WeightsError> {
        let prefix = prefix.trim_end_matches('.');
        let names = self.names();
        let (prefix, found) = self
            .candidates(prefix)
            .map(|prefix| {
                let found: BTreeSet<(Place, Part)> = names
                    .iter()
                    .filter_map(|name| parse(below(name, &prefix)?))
                    .collect();
                (prefix, found)
            })
            .find(|(_, found)| !found.is_empty())
            .ok_or_else(|| WeightsError::NoLstm {
                path: self.path().into(),
                prefix: prefix.into(),
                found: self.lstm_prefixes(),
            })?;

        if let Some((place, part)) = found.iter().find(|(_, part)| *part == Part::WeightHr) {
            let name = joined(&prefix, &place.name(*part));
            return Err(WeightsError::Setting {
                found: format!("projections {:?}", self.shape(&name)?),
                name,
                expected: "an LSTM without projections (`proj_size`), which are not supported yet"
                    .into(),
            });
        }
        let config = self.config(&prefix, &found)?;
        for place in places(&config) {
            let rows = ("4H", gates::COUNT * config.d_hidden);
            for (part, columns) in [
                (Part::WeightIh, Some(("D", config.layer_input(place.layer)))),
                (Part::WeightHh, Some(("H", config.d_hidden))),
                (Part::BiasIh, None),
                (Part::BiasHh, None),
            ] {
                if columns.is_none() && !config.bias {
                    continue;
                }
                let name = joined(&prefix, &place.name(part));
                let axes: Vec<_> = std::iter::once(rows).chain(columns).collect();
                check_dims(&name, &self.shape(&name)?, &axes)?;
                self.check_float(&name)?;
            }
        }
        Ok(Stored { prefix, config })
    }

    /// The settings that follow from the names that were found, none of which is missing.
    fn config(
        &self,
        prefix: &str,
        found: &BTreeSet<(Place, Part)>,
    ) -> Result<ScratchLstmConfig, WeightsError> {
        let last = found.iter().map(|(place, _)| place.layer).max();
        let num_layers = last.unwrap_or(0).saturating_add(1);
        let bidirectional = found.iter().any(|(place, _)| place.reverse);
        let bias = found.iter().any(|(_, part)| part.is_bias());

        // A stray number makes for any number of missing names: the first of them will do.
        const NAMED: usize = 8;
        let missing: Vec<String> = all_places(num_layers, bidirectional)
            .flat_map(|place| Part::of(bias).map(move |part| (place, part)))
            .filter(|expected| !found.contains(expected))
            .map(|(place, part)| joined(prefix, &place.name(part)))
            .take(NAMED)
            .collect();
        if !missing.is_empty() {
            let found = found.iter();
            return Err(WeightsError::Missing {
                path: self.path().into(),
                missing,
                found: found
                    .map(|(place, part)| joined(prefix, &place.name(*part)))
                    .collect(),
            });
        }

        let columns = |part: Part| {
            let name = joined(prefix, &FIRST.name(part));
            let shape = self.shape(&name)?;
            match shape[..] {
                [_, columns] => Ok(columns),
                _ => Err(WeightsError::Shape {
                    name,
                    expected: "of two axes".into(),
                    found: shape,
                }),
            }
        };
        let mut config = ScratchLstmConfig::new(columns(Part::WeightIh)?, columns(Part::WeightHh)?)
            .with_num_layers(num_layers)
            .with_bidirectional(bidirectional);
        config.bias = bias;
        config.validate()?;
        Ok(config)
    }

    /// The weights of one layer and direction.
    fn cell(
        &self,
        prefix: &str,
        place: Place,
        creation: &TensorCreationOptions,
    ) -> Result<CellWeights, WeightsError> {
        let name = |part| joined(prefix, &place.name(part));
        let bias = |part| -> Result<Option<Tensor<1>>, WeightsError> {
            let name = name(part);
            match self.exact_shape(&name) {
                Some(_) => self.tensor(&name, creation.clone()).map(Some),
                None => Ok(None),
            }
        };
        TwoBiasWeights {
            weight_ih: self.tensor(&name(Part::WeightIh), creation.clone())?,
            weight_hh: self.tensor(&name(Part::WeightHh), creation.clone())?,
            bias_ih: bias(Part::BiasIh)?,
            bias_hh: bias(Part::BiasHh)?,
        }
        .try_into_cell()
    }
}

/// An LSTM that is in a file with all its tensors.
struct Stored {
    /// As the file has it.
    prefix: String,
    config: ScratchLstmConfig,
}

/// The cells in the order of [`places`].
fn cells(lstm: &ScratchLstm) -> impl Iterator<Item = &ScratchLstmCell> {
    lstm.layers
        .iter()
        .flat_map(|layer| std::iter::once(&layer.forward).chain(&layer.reverse))
}

fn cells_mut(lstm: &mut ScratchLstm) -> impl Iterator<Item = &mut ScratchLstmCell> {
    lstm.layers
        .iter_mut()
        .flat_map(|layer| std::iter::once(&mut layer.forward).chain(&mut layer.reverse))
}

/// That an LSTM in a file is one that `module` can hold.
fn check_same(module: &ScratchLstmConfig, file: &ScratchLstmConfig) -> Result<(), WeightsError> {
    check_joined_each_layer(module)?;
    let differ = |name: &str, expected: &dyn ToString, found: &dyn ToString| {
        Err(WeightsError::Setting {
            name: name.into(),
            expected: format!("{} as in the module", expected.to_string()),
            found: format!("{} in the file", found.to_string()),
        })
    };
    for (name, expected, found) in [
        ("d_input", module.d_input, file.d_input),
        ("d_hidden", module.d_hidden, file.d_hidden),
        ("num_layers", module.num_layers, file.num_layers),
    ] {
        if expected != found {
            return differ(name, &expected, &found);
        }
    }
    if module.bidirectional != file.bidirectional {
        return differ("bidirectional", &module.bidirectional, &file.bidirectional);
    }
    if module.bias != file.bias {
        return differ("bias", &presence(module.bias), &presence(file.bias));
    }
    Ok(())
}

/// Puts a value into a parameter, which keeps its identity, its device and whether it is trained.
fn replace<const R: usize>(parameter: &mut Param<Tensor<R>>, value: Tensor<R>) {
    *parameter = parameter.clone().transform_for_load(value, parameter.id);
}
