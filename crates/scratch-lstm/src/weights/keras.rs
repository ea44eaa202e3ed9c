//! LSTM layers in a file of Keras's weights.
//!
//! Keras 3 numbers the variables of a layer: `layers/lstm/cell/vars/0`, `1` and `2` are `kernel [D,
//! 4H]`, `recurrent_kernel [H, 4H]` and `bias [4H]`; the groups are named after the layer's class
//! and its place in the model, and an attribute has the name that its author gave it. The older
//! format, which `model.save("model.h5")` still writes, has the names themselves:
//! `lstm/lstm_cell/kernel`. Gates are input, forget, cell, output in both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorCreationOptions, TensorData};

use crate::cell::CellWeights;

use crate::config::{Activation, Activations, ScratchLstmConfig};
use crate::gates;
use crate::lstm::ScratchLstm;
use crate::random::Key;

use super::error::{Problems, WeightsError};
use super::file::{self, FLOATS};
use super::hdf5::{self, Container};
use super::names::Part;
use super::order::GateOrder;
use super::shapes::{check_dims, presence};
use super::stacked::StackedWeights;

/// A file of Keras's weights: `model.save_weights("model.weights.h5")`, or the older
/// `model.save("model.h5")`; arrays are read when asked for.
///
/// A layer is found by its path in the file (`layers/lstm_1`) or by the name that it has in the
/// model (`encoder`).
///
/// ```no_run
/// use burn::tensor::Device;
/// use scratch_lstm::weights::{KerasFile, KerasOptions};
///
/// let device = Device::default();
/// let file = KerasFile::open("model.weights.h5")?;
/// for layer in file.lstm_layers() {
///     println!("{layer}");
/// }
/// let stack = ["layers/lstm", "layers/lstm_1"];
/// let lstm = file.lstm(&stack, &KerasOptions::default(), &device)?;
/// let embed = file.tensor::<2>("layers/embedding/vars/0", &device)?;
/// # Ok::<(), scratch_lstm::WeightsError>(())
/// ```
#[derive(Debug)]
pub struct KerasFile {
    path: PathBuf,
    /// Bytes in the file.
    size: u64,
    container: Container,
    layers: Vec<Found>,
}

/// An LSTM layer of a [`KerasFile`], or a `Bidirectional` around one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KerasLayer {
    /// Its path in the file: `layers/lstm_1`.
    pub path: String,
    /// The name that it has in the model, if the file says it.
    pub name: Option<String>,
    /// `D`, the width of its input.
    pub d_input: usize,
    /// `H`, Keras's `units`.
    pub d_hidden: usize,
    /// Whether it is a `Bidirectional`.
    pub bidirectional: bool,
}

/// What the weights do not say of a layer.
#[derive(Debug, Clone)]
pub struct KerasOptions {
    /// Keras's `activation`, of the candidate and on the cell state; tanh by default, as there.
    pub activation: Activation,
    /// Keras's `recurrent_activation`, of the gates; sigmoid by default, as there.
    pub recurrent_activation: Activation,
    /// Whether input and output are `[B, T, _]`; true by default, as in Keras.
    pub batch_first: bool,
    /// Dropout between layers; 0 by default.
    pub dropout: f64,
    /// Element type of the module; the device's default (f32 unless configured otherwise) if
    /// absent.
    pub dtype: Option<DType>,
    /// Where parameter identities come from; ones that nobody can repeat if absent.
    pub key: Option<Key>,
}

impl Default for KerasOptions {
    fn default() -> Self {
        Self {
            activation: Activation::Tanh,
            recurrent_activation: Activation::Sigmoid,
            batch_first: true,
            dropout: 0.0,
            dtype: None,
            key: None,
        }
    }
}

/// The activation function that Keras 3 has under a name.
///
/// # Errors
///
/// If there is none of that name, or none like it here.
pub fn keras_activation(name: &str) -> Result<Activation, WeightsError> {
    let known = ACTIVATIONS.iter().find(|(theirs, _)| *theirs == name);
    known
        .map(|(_, ours)| *ours)
        .ok_or_else(|| WeightsError::Setting {
            name: "activation".into(),
            expected: ACTIVATIONS.map(|(name, _)| name).join(", "),
            found: name.into(),
        })
}

const ACTIVATIONS: [(&str, Activation); 9] = [
    ("tanh", Activation::Tanh),
    ("sigmoid", Activation::Sigmoid),
    (
        "hard_sigmoid",
        // Keras 2 had a slope of 0.2.
        Activation::HardSigmoid {
            alpha: 1.0 / 6.0,
            beta: 0.5,
        },
    ),
    ("relu", Activation::Relu),
    ("linear", Activation::Identity),
    ("leaky_relu", Activation::LeakyRelu { alpha: 0.2 }),
    ("elu", Activation::Elu { alpha: 1.0 }),
    ("softsign", Activation::Softsign),
    ("softplus", Activation::Softplus),
];

impl KerasFile {
    /// Opens a file and reads what it says of its arrays.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it is a folder, empty, cut short or damaged, or no HDF5.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let opened = file::open_regular(path, EXPECTED)?;
        let not_that = |found: String| WeightsError::File {
            path: path.into(),
            expected: EXPECTED.into(),
            found,
        };
        if !hdf5::looks_like(&opened.start) {
            let found = match opened.start.starts_with(b"PK") {
                true => "a zip archive; of a .keras file unzip model.weights.h5",
                false => "something that is no HDF5",
            };
            return Err(not_that(found.into()));
        }
        let container = Container::open(opened.file, opened.size).map_err(not_that)?;
        Ok(Self {
            path: path.into(),
            size: opened.size,
            layers: find_layers(&container),
            container,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The paths of all arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        self.container.names().map(str::to_string).collect()
    }

    /// The LSTM layers, sorted by their paths.
    pub fn lstm_layers(&self) -> Vec<KerasLayer> {
        self.layers
            .iter()
            .map(|found| found.layer.clone())
            .collect()
    }

    /// The shape of an array.
    ///
    /// # Errors
    ///
    /// If there is no such array.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, WeightsError> {
        let shape = self.container.shape(name);
        shape
            .map(<[usize]>::to_vec)
            .ok_or_else(|| self.missing(name))
    }

    /// The element type of an array.
    ///
    /// # Errors
    ///
    /// If there is no such array, or one of other elements than floats.
    pub fn dtype(&self, name: &str) -> Result<DType, WeightsError> {
        let dtype = self
            .container
            .dtype(name)
            .ok_or_else(|| self.missing(name))?;
        dtype.map_err(|found| WeightsError::DType {
            name: name.into(),
            expected: FLOATS.into(),
            found,
        })
    }

    /// An array's values in the element type that the file has.
    ///
    /// # Errors
    ///
    /// If there is no such array, if it has other elements than floats, or if the file does not
    /// hold all of it.
    pub fn data(&self, name: &str) -> Result<TensorData, WeightsError> {
        self.dtype(name)?;
        let data = self.container.data(name, self.size);
        data.ok_or_else(|| self.missing(name))?
            .map_err(|found| WeightsError::damaged(&self.path, name, found))
    }

    /// An array of floats (f64, f32, f16 or bf16), converted to the element type that `options` ask
    /// for, or else to the device's (f32 unless configured otherwise).
    ///
    /// # Errors
    ///
    /// Where [`data`](Self::data) has one; if it has another number of axes, or the device does not
    /// support the element type.
    pub fn tensor<const R: usize>(
        &self,
        name: &str,
        options: impl Into<TensorCreationOptions>,
    ) -> Result<Tensor<R>, WeightsError> {
        self.dtype(name)?;
        file::float_tensor(&self.path, name, &options.into(), || self.data(name))
    }

    /// The LSTM of these layers, from the input upwards: one layer, or a stack in which each reads
    /// the outputs of the one before (`return_sequences`). Each is named by its path or by its name
    /// in the model. `Bidirectional` layers are those whose outputs are concatenated, Keras's
    /// default.
    ///
    /// What Keras calls `go_backwards` is for the caller: turn the input around.
    ///
    /// # Errors
    ///
    /// If no layer is named; if there is no such layer, or several of a name; if the layers differ
    /// in units, directions or in having a bias, or do not fit on each other.
    pub fn lstm(
        &self,
        layers: &[impl AsRef<str>],
        options: &KerasOptions,
        device: &Device,
    ) -> Result<ScratchLstm, WeightsError> {
        let layers = layers.iter().map(|name| self.layer(name.as_ref()));
        let layers: Vec<&Found> = layers.collect::<Result<_, _>>()?;
        let mut config = self.config(&layers)?;
        config = config
            .with_batch_first(options.batch_first)
            .with_dropout(options.dropout);
        config.cell.activations = Activations {
            gate: options.recurrent_activation,
            cell: options.activation,
            hidden: options.activation,
        };
        config.validate()?;
        let creation = TensorCreationOptions {
            device: device.clone(),
            dtype: options.dtype,
        };
        let cells = layers.iter().flat_map(|layer| layer.cells());
        let weights = cells.map(|cell| self.cell(cell, &creation));
        let weights = weights.collect::<Result<_, _>>()?;
        let key = options.key.clone().unwrap_or_else(file::unrepeatable_key);
        ScratchLstm::from_weights(&config, weights, &key)
    }

    /// The arrays that [`lstm`](Self::lstm) reads of a layer: whether each is the reverse
    /// direction's, PyTorch's name for it, and its path.
    pub(super) fn parts_of(&self, layer: &str) -> Result<Vec<(bool, Part, &str)>, WeightsError> {
        let layer = self.layer(layer)?;
        let cells = [
            (false, Some(&layer.forward)),
            (true, layer.reverse.as_ref()),
        ];
        let parts = cells.into_iter().flat_map(|(reverse, cell)| {
            let parts = cell.map(|cell| {
                [
                    (Part::WeightIh, Some(&cell.kernel)),
                    (Part::WeightHh, Some(&cell.recurrent)),
                    (Part::BiasIh, cell.bias.as_ref()),
                ]
            });
            let parts = parts.into_iter().flatten();
            parts.filter_map(move |(part, path)| Some((reverse, part, path?.as_str())))
        });
        Ok(parts.collect())
    }

    /// The layer of that path, or else of that name.
    fn layer(&self, name: &str) -> Result<&Found, WeightsError> {
        let path = name.trim_matches('/');
        if let Some(found) = self.layers.iter().find(|found| found.layer.path == path) {
            return Ok(found);
        }
        let named = |found: &&Found| found.layer.name.as_deref() == Some(path);
        let found: Vec<&Found> = self.layers.iter().filter(named).collect();
        let paths = |layers: &[&Found]| {
            let paths = layers.iter().map(|found| found.layer.path.clone());
            paths.collect::<Vec<_>>()
        };
        match found[..] {
            [one] => Ok(one),
            [] => Err(WeightsError::NoLstm {
                path: self.path.clone(),
                tensor: format!("{path}/cell/vars/0"),
                prefix: path.into(),
                found: paths(&self.layers.iter().collect::<Vec<_>>()),
            }),
            _ => Err(WeightsError::ManyLstms {
                path: self.path.clone(),
                found: paths(&found),
            }),
        }
    }

    /// The settings of a stack, all of whose arrays fit.
    fn config(&self, layers: &[&Found]) -> Result<ScratchLstmConfig, WeightsError> {
        let Some((first, _)) = layers.split_first() else {
            return Err(WeightsError::Setting {
                name: "layers".into(),
                expected: "at least 1".into(),
                found: "0".into(),
            });
        };
        let KerasLayer {
            d_input,
            d_hidden,
            bidirectional,
            ..
        } = first.layer;
        let bias = first.forward.bias.is_some();
        let config = ScratchLstmConfig::new(d_input, d_hidden)
            .with_num_layers(layers.len())
            .with_bidirectional(bidirectional)
            .with_bias(bias);
        let mut problems = Problems::default();
        for (index, layer) in layers.iter().enumerate() {
            let path = &layer.layer.path;
            if layer.layer.bidirectional != bidirectional {
                let of = |bidirectional| match bidirectional {
                    true => "two directions",
                    false => "one direction",
                };
                problems.add(WeightsError::Setting {
                    name: path.clone(),
                    expected: format!("{} as in {}", of(bidirectional), first.layer.path),
                    found: of(layer.layer.bidirectional).into(),
                });
                continue;
            }
            let gates = ("4H", gates::COUNT * d_hidden);
            // `layer_input` multiplies without a check; the sizes are those of arrays in the file.
            let width = match index {
                0 => d_input,
                _ => config.layer_input(index),
            };
            for cell in layer.cells() {
                let mut check = |name: &str, axes: &[(&str, usize)]| {
                    let shape = self.shape(name);
                    problems.add_result(shape.and_then(|found| check_dims(name, &found, axes)));
                    problems.add_result(self.dtype(name).map(drop));
                };
                check(&cell.kernel, &[("D", width), gates]);
                check(&cell.recurrent, &[("H", d_hidden), gates]);
                if let Some(bias) = &cell.bias {
                    check(bias, &[gates]);
                }
                if cell.bias.is_some() != bias {
                    problems.add(WeightsError::Setting {
                        name: path.clone(),
                        expected: format!("{} as in {}", presence(bias), first.layer.path),
                        found: presence(cell.bias.is_some()).into(),
                    });
                }
            }
        }
        problems.into_result()?;
        Ok(config)
    }

    /// The weights of one layer and direction.
    fn cell(
        &self,
        cell: &Cell,
        creation: &TensorCreationOptions,
    ) -> Result<CellWeights, WeightsError> {
        let bias = cell.bias.as_ref();
        StackedWeights {
            weight_x: self.tensor(&cell.kernel, creation.clone())?,
            weight_h: self.tensor(&cell.recurrent, creation.clone())?,
            bias: bias
                .map(|path| self.tensor(path, creation.clone()))
                .transpose()?,
            order: GateOrder::IFGO,
        }
        .try_into_cell()
    }

    fn missing(&self, name: &str) -> WeightsError {
        WeightsError::Missing {
            path: self.path.clone(),
            missing: vec![name.into()],
            found: self.names(),
        }
    }
}

impl std::fmt::Display for KerasLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.bidirectional {
            true => "Bidirectional(LSTM)",
            false => "LSTM",
        };
        let Self {
            path,
            d_input,
            d_hidden,
            ..
        } = self;
        write!(f, "{path}")?;
        if let Some(name) = &self.name {
            write!(f, " \"{name}\"")?;
        }
        write!(f, ": {kind} of {d_hidden} units on {d_input} inputs")
    }
}

const EXPECTED: &str = "weights that Keras has saved (.weights.h5 or .h5)";

/// A layer in a file.
#[derive(Debug)]
struct Found {
    layer: KerasLayer,
    forward: Cell,
    reverse: Option<Cell>,
}

impl Found {
    /// Forward before reverse.
    fn cells(&self) -> impl Iterator<Item = &Cell> {
        std::iter::once(&self.forward).chain(&self.reverse)
    }
}

/// The paths of one layer and direction's arrays.
#[derive(Debug)]
struct Cell {
    kernel: String,
    recurrent: String,
    bias: Option<String>,
}

/// All LSTM layers: cells by their shapes, two of them joined where they are the directions of one
/// layer.
fn find_layers(container: &Container) -> Vec<Found> {
    let mut cells: BTreeMap<String, Cell> = container
        .names()
        .filter_map(|kernel| find_cell(container, kernel))
        .collect();
    let mut layers = Vec::new();
    while let Some((path, cell)) = cells.pop_first() {
        // Sorted, the backward layer comes first.
        let forward = directions(&path).and_then(|(parent, forward)| {
            let forward = cells.remove(&forward)?;
            Some((parent.to_string(), forward))
        });
        let (path, forward, reverse) = match forward {
            Some((parent, forward)) => (parent, forward, Some(cell)),
            None => (path, cell, None),
        };
        let [d_input, _] = matrix(container, &forward.kernel).unwrap_or_default();
        let [d_hidden, _] = matrix(container, &forward.recurrent).unwrap_or_default();
        let named = container.name_of(&format!("{path}/vars"));
        // The older format has a name for a group.
        let last = path.rsplit('/').next().filter(|_| !is_numbered(&forward));
        let name = named.or(last).map(str::to_string);
        layers.push(Found {
            layer: KerasLayer {
                path,
                name,
                d_input,
                d_hidden,
                bidirectional: reverse.is_some(),
            },
            forward,
            reverse,
        });
    }
    layers.sort_by(|a, b| a.layer.path.cmp(&b.layer.path));
    layers
}

/// The layer's path and the arrays of the cell whose kernel this is, if it is one.
fn find_cell(container: &Container, kernel: &str) -> Option<(String, Cell)> {
    let (group, name) = kernel.rsplit_once('/')?;
    // Keras 2 counts: `kernel:0`.
    let (recurrent, bias, layer) = match name {
        "0" => {
            let layer = group.strip_suffix("/vars")?;
            let last = layer.rsplit('/').next()?;
            let named = container.name_of(group).unwrap_or(last);
            let is_lstm = last == "cell" || last.contains("lstm") || named.contains("lstm");
            is_lstm.then_some(("1", "2", layer.strip_suffix("/cell").unwrap_or(layer)))?
        }
        "kernel" => ("recurrent_kernel", "bias", without_cell(group)),
        "kernel:0" => ("recurrent_kernel:0", "bias:0", without_cell(group)),
        _ => return None,
    };
    let cell = Cell {
        kernel: kernel.into(),
        recurrent: format!("{group}/{recurrent}"),
        bias: Some(format!("{group}/{bias}")).filter(|bias| container.shape(bias).is_some()),
    };
    // A GRU has three gates, a plain recurrent layer one.
    let [d_hidden, columns] = matrix(container, &cell.recurrent)?;
    let four = d_hidden.checked_mul(gates::COUNT) == Some(columns) && d_hidden > 0;
    let fits = matrix(container, kernel).is_some_and(|[_, gates]| gates == columns);
    (four && fits).then(|| (layer.to_string(), cell))
}

/// The parent of a backward layer, and the path of the forward layer beside it.
fn directions(backward: &str) -> Option<(&str, String)> {
    let (parent, name) = backward.rsplit_once('/')?;
    let rest = name.strip_prefix("backward_")?;
    Some((parent, format!("{parent}/forward_{rest}")))
}

/// Whether its arrays have numbers for names.
fn is_numbered(cell: &Cell) -> bool {
    cell.kernel.ends_with("/0")
}

/// The group of a layer, given that of its cell.
fn without_cell(group: &str) -> &str {
    match group.rsplit_once('/') {
        Some((layer, cell)) if cell.starts_with("lstm_cell") => layer,
        _ => group,
    }
}

/// The shape of an array of two axes.
fn matrix(container: &Container, name: &str) -> Option<[usize; 2]> {
    container.shape(name)?.try_into().ok()
}
