//! What a recurrent model carries from one window of a sequence to the next.

use std::collections::BTreeMap;
use std::fmt::Debug;

use burn::tensor::{Bool, Device, Tensor, TensorCreationOptions, TensorData};

use crate::error::StateError;

/// What every recurrent state can do. Rows are the sequences of the batch.
pub trait RecurrentState: Clone + Debug + Send {
    /// Cuts the graph: no gradient flows into what came before.
    fn detach(self) -> Self;

    /// Sets the rows marked `true` to the state in which a sequence starts.
    ///
    /// # Panics
    ///
    /// If `rows` has another number of entries than the state has rows.
    fn reset_rows(self, rows: &[bool]) -> Self;

    /// Moves the state.
    fn to_device(self, device: &Device) -> Self;

    /// The state as named tensors, for saving.
    fn to_named(&self) -> BTreeMap<String, TensorData>;

    /// The state that [`to_named`](Self::to_named) took apart.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or has another rank.
    fn try_from_named(
        tensors: &BTreeMap<String, TensorData>,
        device: &Device,
    ) -> Result<Self, StateError>;
}

/// The state of an LSTM, always by name.
///
/// `R` is 3 for a stack, `[L*K, B, H]` (layer by layer, forward before reverse, as PyTorch's `h_n`
/// and `c_n`); 2 for one cell, `[B, H]`, or an unbatched stack, `[L*K, H]`; 1 for an unbatched
/// cell, `[H]`. With a projection the hidden state is narrower: `P` in the place of `H`.
#[derive(Debug, Clone)]
pub struct LstmState<const R: usize = 3> {
    /// The hidden state `h`, what the layer shows.
    pub hidden: Tensor<R>,
    /// The cell state `c`, what it remembers.
    pub cell: Tensor<R>,
}

impl<const R: usize> LstmState<R> {
    /// The state in which a sequence starts.
    pub fn zeros(shape: [usize; R], options: impl Into<TensorCreationOptions>) -> Self {
        let zeros = Tensor::zeros(shape, options);
        Self {
            hidden: zeros.clone(),
            cell: zeros,
        }
    }

    /// Applies `map` to both tensors.
    pub fn map<const R2: usize>(
        self,
        mut map: impl FnMut(Tensor<R>) -> Tensor<R2>,
    ) -> LstmState<R2> {
        LstmState {
            hidden: map(self.hidden),
            cell: map(self.cell),
        }
    }
}

impl LstmState<3> {
    /// The state `[B, H]` of one layer and direction.
    pub(crate) fn of_layer(&self, index: usize) -> LstmState<2> {
        let [count, _, _] = self.hidden.dims();
        self.clone().map(|tensor| match count {
            1 => tensor.squeeze_dim(0),
            _ => tensor.narrow(0, index, 1).squeeze_dim(0),
        })
    }

    /// Stacks the states of all layers and directions.
    pub(crate) fn stack(mut states: Vec<LstmState<2>>) -> Self {
        if states.len() == 1 {
            return states.swap_remove(0).map(|tensor| tensor.unsqueeze_dim(0));
        }
        let (hidden, cell) = states
            .into_iter()
            .map(|state| (state.hidden, state.cell))
            .unzip();
        Self {
            hidden: Tensor::stack(hidden, 0),
            cell: Tensor::stack(cell, 0),
        }
    }
}

impl RecurrentState for LstmState<3> {
    fn detach(self) -> Self {
        self.map(Tensor::detach)
    }

    fn reset_rows(self, rows: &[bool]) -> Self {
        let [_, batch, _] = self.hidden.dims();
        assert_eq!(rows.len(), batch, "one entry for each row of the batch");
        if rows.iter().all(|&reset| !reset) {
            return self;
        }
        self.map(|tensor| {
            let mask = TensorData::new(rows.to_vec(), [1, batch, 1]);
            let mask = Tensor::<3, Bool>::from_data(mask, &tensor.device());
            let mask = mask.expand(tensor.dims());
            tensor.mask_fill(mask, 0.0)
        })
    }

    fn to_device(self, device: &Device) -> Self {
        self.map(|tensor| tensor.to_device(device))
    }

    fn to_named(&self) -> BTreeMap<String, TensorData> {
        BTreeMap::from([
            ("hidden".into(), self.hidden.to_data()),
            ("cell".into(), self.cell.to_data()),
        ])
    }

    fn try_from_named(
        tensors: &BTreeMap<String, TensorData>,
        device: &Device,
    ) -> Result<Self, StateError> {
        Ok(Self {
            hidden: named(tensors, "hidden", device)?,
            cell: named(tensors, "cell", device)?,
        })
    }
}

/// No state: for models that carry nothing.
impl RecurrentState for () {
    fn detach(self) {}

    fn reset_rows(self, _rows: &[bool]) {}

    fn to_device(self, _device: &Device) {}

    fn to_named(&self) -> BTreeMap<String, TensorData> {
        BTreeMap::new()
    }

    fn try_from_named(
        _tensors: &BTreeMap<String, TensorData>,
        _device: &Device,
    ) -> Result<Self, StateError> {
        Ok(())
    }
}

/// burn's state is `(cell, hidden)` in its constructor; the fields go by name.
impl<const R: usize> From<burn::nn::LstmState<R>> for LstmState<R> {
    fn from(state: burn::nn::LstmState<R>) -> Self {
        Self {
            hidden: state.hidden,
            cell: state.cell,
        }
    }
}

impl<const R: usize> From<LstmState<R>> for burn::nn::LstmState<R> {
    fn from(state: LstmState<R>) -> Self {
        Self {
            hidden: state.hidden,
            cell: state.cell,
        }
    }
}

fn named<const R: usize>(
    tensors: &BTreeMap<String, TensorData>,
    name: &str,
    device: &Device,
) -> Result<Tensor<R>, StateError> {
    let data = tensors.get(name).ok_or_else(|| StateError::Missing {
        name: name.into(),
        found: tensors.keys().cloned().collect(),
    })?;
    if data.rank() != R {
        return Err(StateError::Rank {
            name: name.into(),
            expected: R,
            found: data.shape().to_vec(),
        });
    }
    let dtype = data.dtype();
    Ok(Tensor::from_data(data.clone(), (device, dtype)))
}
