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

use super::error::{Problems, WeightsError, joined};
use super::expressible::Abilities;
use super::file::{self, PytorchFile};
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
    /// `.pt` file. Sizes, layers, directions, bias and projections (`proj_size`) follow from the
    /// tensors; PyTorch's two biases are summed.
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
    /// If the file cannot be read; if it has no LSTM at `prefix`, or one with tensors missing, of
    /// another shape or not of floats: all of them are named.
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
    /// the file has other sizes, layers or directions or differs in having a bias or projections.
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
    /// If this LSTM has something that PyTorch's has not, all of which is named: independent
    /// directions of a stack, connections between layers, a learned state, any setting of
    /// [`CellConfig`](crate::config::CellConfig), projections not narrower than the cell.
    pub fn to_pytorch(&self, prefix: &str) -> Result<BTreeMap<String, TensorData>, WeightsError> {
        let config = self.config();
        PYTORCH.check(config)?;
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
            if let Some(weight_hr) = weights.weight_hr {
                put(Part::WeightHr, weight_hr.into_data());
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
        let key = options.key.clone().unwrap_or_else(file::unrepeatable_key);
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
            if let (Some(weight), Some(value)) = (&mut cell.weight_hr, weights.weight_hr) {
                replace(weight, value);
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
                let [rows, mut d_hidden] = self.exact_shape(name)?.try_into().ok()?;
                let projection = joined(prefix, &FIRST.name(Part::WeightHr));
                if let Some(shape) = self.exact_shape(&projection) {
                    [_, d_hidden] = shape.try_into().ok()?;
                }
                // A GRU has three gates, a plain recurrent layer one.
                let four = d_hidden.checked_mul(gates::COUNT) == Some(rows);
                four.then(|| prefix.to_string())
            })
            .collect();
        prefixes.sort();
        prefixes
    }

    /// The prefix of an LSTM as the file has it: `state_dict.encoder.lstm` for `encoder.lstm`.
    pub(super) fn full_prefix(&self, prefix: &str) -> Result<String, WeightsError> {
        self.found(prefix).map(|(prefix, _)| prefix)
    }

    /// What is stored at `prefix`, checked: every tensor that its settings call for is there, has
    /// its shape and holds floats.
    fn stored(&self, prefix: &str) -> Result<Stored, WeightsError> {
        let (prefix, found) = self.found(prefix)?;
        let mut problems = Problems::default();
        problems.add_result(self.check_complete(&prefix, &found));
        let config = match self.config(&prefix, &found) {
            Ok(Some(config)) => config,
            // Without the first layer there are no sizes to compare the others with.
            Ok(None) => return Err(problems.into_error()),
            Err(problem) => {
                problems.add(problem);
                return Err(problems.into_error());
            }
        };
        let rows = ("4H", gates::COUNT * config.d_hidden);
        let units = ("H", config.d_hidden);
        let state = match config.d_proj {
            Some(d_proj) => ("P", d_proj),
            None => units,
        };
        for (place, part) in found {
            let axes: &[(&str, usize)] = match part {
                Part::WeightIh => &[rows, ("D", config.layer_input(place.layer))],
                Part::WeightHh => &[rows, state],
                Part::BiasIh | Part::BiasHh => &[rows],
                Part::WeightHr => &[state, units],
            };
            let name = joined(&prefix, &place.name(part));
            let shape = self.shape(&name);
            problems.add_result(shape.and_then(|shape| check_dims(&name, &shape, axes)));
            problems.add_result(self.check_float(&name));
        }
        problems.into_result()?;
        config.validate()?;
        Ok(Stored { prefix, config })
    }

    /// The prefix as the file has it, and what is there.
    fn found(&self, prefix: &str) -> Result<(String, BTreeSet<(Place, Part)>), WeightsError> {
        let prefix = prefix.trim_end_matches('.');
        let names = self.names();
        self.candidates(prefix)
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
                tensor: joined(prefix, &FIRST.name(Part::WeightIh)),
                found: self.lstm_prefixes(),
            })
    }

    /// That no tensor is missing of an LSTM of which these were found.
    fn check_complete(
        &self,
        prefix: &str,
        found: &BTreeSet<(Place, Part)>,
    ) -> Result<(), WeightsError> {
        // A stray number makes for any number of missing names: the first of them will do.
        const NAMED: usize = 64;
        let kind = Kind::of(found);
        let name = |(place, part): (Place, Part)| joined(prefix, &place.name(part));
        let missing: Vec<String> = all_places(kind.num_layers, kind.bidirectional)
            .flat_map(|place| Part::of(kind.bias, kind.projection).map(move |part| (place, part)))
            .filter(|expected| !found.contains(expected))
            .map(name)
            .take(NAMED)
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(WeightsError::Missing {
                path: self.path().into(),
                missing,
                found: found.iter().copied().map(name).collect(),
            }),
        }
    }

    /// The settings that follow from the names and the shapes of the first layer, of which no
    /// tensor may be missing. Their number of layers is still to be validated.
    fn config(
        &self,
        prefix: &str,
        found: &BTreeSet<(Place, Part)>,
    ) -> Result<Option<ScratchLstmConfig>, WeightsError> {
        let kind = Kind::of(found);
        let columns = |part: Part| {
            let name = joined(prefix, &FIRST.name(part));
            match self.exact_shape(&name).as_deref() {
                None => Ok(None),
                Some([_, columns]) => Ok(Some(*columns)),
                Some(shape) => Err(WeightsError::Shape {
                    name,
                    expected: "of two axes".into(),
                    found: shape.to_vec(),
                }),
            }
        };
        let d_state = columns(Part::WeightHh)?;
        let d_hidden = match kind.projection {
            true => columns(Part::WeightHr)?,
            false => d_state,
        };
        let (Some(d_input), Some(d_hidden)) = (columns(Part::WeightIh)?, d_hidden) else {
            return Ok(None);
        };
        let config = ScratchLstmConfig::new(d_input, d_hidden)
            .with_projection(d_state.filter(|_| kind.projection))
            .with_bidirectional(kind.bidirectional)
            .with_bias(kind.bias);
        config.validate()?;
        Ok(Some(config.with_num_layers(kind.num_layers)))
    }

    /// The weights of one layer and direction.
    fn cell(
        &self,
        prefix: &str,
        place: Place,
        creation: &TensorCreationOptions,
    ) -> Result<CellWeights, WeightsError> {
        let name = |part| joined(prefix, &place.name(part));
        let bias = |part| self.optional::<1>(&name(part), creation);
        TwoBiasWeights {
            weight_ih: self.tensor(&name(Part::WeightIh), creation.clone())?,
            weight_hh: self.tensor(&name(Part::WeightHh), creation.clone())?,
            bias_ih: bias(Part::BiasIh)?,
            bias_hh: bias(Part::BiasHh)?,
            weight_hr: self.optional(&name(Part::WeightHr), creation)?,
        }
        .try_into_cell()
    }

    /// The tensor of exactly this name, if there is one.
    fn optional<const R: usize>(
        &self,
        name: &str,
        creation: &TensorCreationOptions,
    ) -> Result<Option<Tensor<R>>, WeightsError> {
        match self.exact_shape(name) {
            Some(_) => self.tensor(name, creation.clone()).map(Some),
            None => Ok(None),
        }
    }
}

/// What the names of an LSTM's tensors say of it.
struct Kind {
    num_layers: usize,
    bidirectional: bool,
    bias: bool,
    projection: bool,
}

impl Kind {
    fn of(found: &BTreeSet<(Place, Part)>) -> Self {
        let last = found.iter().map(|(place, _)| place.layer).max();
        Self {
            num_layers: last.unwrap_or(0).saturating_add(1),
            bidirectional: found.iter().any(|(place, _)| place.reverse),
            bias: found.iter().any(|(_, part)| part.is_bias()),
            projection: found.iter().any(|(_, part)| *part == Part::WeightHr),
        }
    }
}

/// What PyTorch's LSTM has.
const PYTORCH: Abilities = Abilities {
    projection: true,
    ..Abilities::plain("PyTorch")
};

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
    PYTORCH.check(module)?;
    let d_proj = |config: &ScratchLstmConfig| match config.d_proj {
        Some(d_proj) => d_proj.to_string(),
        None => "none".into(),
    };
    let settings = |config: &ScratchLstmConfig| {
        [
            ("d_input", config.d_input.to_string()),
            ("d_hidden", config.d_hidden.to_string()),
            ("d_proj", d_proj(config)),
            ("num_layers", config.num_layers.to_string()),
            ("bidirectional", config.bidirectional.to_string()),
            ("bias", presence(config.bias).into()),
        ]
    };
    let mut problems = Problems::default();
    for ((name, expected), (_, found)) in settings(module).into_iter().zip(settings(file)) {
        if expected != found {
            problems.add(WeightsError::Setting {
                name: name.into(),
                expected: format!("{expected} as in the module"),
                found: format!("{found} in the file"),
            });
        }
    }
    problems.into_result()
}

/// Puts a value into a parameter, which keeps its identity, its device and whether it is trained.
fn replace<const R: usize>(parameter: &mut Param<Tensor<R>>, value: Tensor<R>) {
    *parameter = parameter.clone().transform_for_load(value, parameter.id);
}
