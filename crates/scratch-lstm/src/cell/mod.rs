//! One step of an LSTM from raw tensor operations.
//!
//! ```text
//! i = σ(x W_iiᵀ + h W_hiᵀ + b_i)        f = σ(x W_ifᵀ + h W_hfᵀ + b_f)
//! g = tanh(x W_igᵀ + h W_hgᵀ + b_g)     o = σ(x W_ioᵀ + h W_hoᵀ + b_o)
//! c' = f ⊙ c + i ⊙ g                    h' = o ⊙ tanh(c')
//! ```
//!
//! Hochreiter & Schmidhuber, "Long short-term memory" (1997), with the forget gate of Gers,
//! Schmidhuber & Cummins, "Learning to forget" (2000); the equations of `torch.nn.LSTM` with its
//! two biases summed. The four gates are computed at once; [`gates`] has their order.
//! [`CellConfig`] has variants of these equations, `docs/features.md` all of them in one place.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::config::CellConfig;
use crate::error::ForwardError;
use crate::gates;
use crate::random::Key;
use crate::recurrence::Recurrence;
use crate::reference::Product;
use crate::shapes;
use crate::state::LstmState;

mod step;
mod weights;

pub(crate) use step::{Zoneout, activate_plain, advance, norm_gates};
pub use weights::{CellWeights, LayerNormWeights, MapTensors};

/// The weights of one layer and direction, and one step with them (`torch.nn.LSTMCell`).
///
/// `G` is the number of gates with weights of their own: 4, or 3 where the input and the forget
/// gate are coupled (input, cell, output).
#[derive(Module, Debug)]
pub struct ScratchLstmCell {
    /// On the input, `[G*H, D]`.
    pub weight_ih: Param<Tensor<2>>,
    /// On the hidden state, `[G*H, P]`, where `P = H` without a projection.
    pub weight_hh: Param<Tensor<2>>,
    /// `[G*H]`: the sum of PyTorch's two.
    pub bias: Option<Param<Tensor<1>>>,
    /// The projection of the hidden state, `[P, H]`.
    pub weight_hr: Option<Param<Tensor<2>>>,
    /// Peepholes of the gates but the cell gate, `[(G-1)*H]`.
    pub peephole: Option<Param<Tensor<1>>>,
    /// Gains and shift of layer normalization.
    pub layer_norm: Option<LayerNorm>,
    /// The state in which a sequence starts, if it is learned.
    pub initial: Option<InitialState>,
    #[module(skip)]
    config: CellConfig,
}

/// Gains and shift of layer normalization.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Gain of the input's part of the gates, `[G*H]`.
    pub input: Param<Tensor<1>>,
    /// Gain of the hidden state's part of the gates, `[G*H]`.
    pub hidden: Param<Tensor<1>>,
    /// Gain of the cell state, `[H]`.
    pub cell: Param<Tensor<1>>,
    /// Shift of the cell state, `[H]`.
    pub cell_bias: Param<Tensor<1>>,
}

/// The state in which a sequence starts, learned.
#[derive(Module, Debug)]
pub struct InitialState {
    /// `[P]`
    pub hidden: Param<Tensor<1>>,
    /// `[H]`
    pub cell: Param<Tensor<1>>,
}

impl ScratchLstmCell {
    /// A plain cell with these weights, trainable if their device differentiates. The parameters'
    /// identities follow from `key`'s path.
    ///
    /// # Panics
    ///
    /// If there are peepholes or gains of layer normalization among the weights.
    pub fn from_weights(weights: CellWeights, key: &Key) -> Self {
        Self::with_config(weights, &CellConfig::default(), key)
    }

    /// A cell with these weights that computes what `config` says.
    ///
    /// # Panics
    ///
    /// If there are peepholes or gains of layer normalization among the weights where `config` has
    /// none, or the other way round.
    pub fn with_config(weights: CellWeights, config: &CellConfig, key: &Key) -> Self {
        assert_eq!(weights.peephole.is_some(), config.peepholes, "peepholes");
        assert_eq!(
            weights.layer_norm.is_some(),
            config.layer_norm,
            "layer_norm"
        );
        let d_hidden = weights.d_hidden();
        let weights = match config.coupled {
            true => weights.without_forget(d_hidden),
            false => weights,
        };
        let named = |name: &str| key.child(name);
        Self {
            weight_ih: parameter(weights.weight_ih, &named("weight_ih")),
            weight_hh: parameter(weights.weight_hh, &named("weight_hh")),
            bias: weights.bias.map(|bias| parameter(bias, &named("bias"))),
            weight_hr: weights
                .weight_hr
                .map(|weight| parameter(weight, &named("weight_hr"))),
            peephole: weights
                .peephole
                .map(|peephole| parameter(peephole, &named("peephole"))),
            layer_norm: weights
                .layer_norm
                .map(|norm| LayerNorm::from_weights(norm, &named("layer_norm"))),
            initial: None,
            config: config.clone(),
        }
    }

    /// With an initial state that is learned, zeros to begin with.
    pub(crate) fn with_learned_state(mut self, key: &Key) -> Self {
        let options = (&self.weight_hh.device(), self.weight_hh.val().dtype());
        let key = key.child("initial");
        self.initial = Some(InitialState {
            hidden: parameter(
                Tensor::zeros([self.d_state()], options),
                &key.child("hidden"),
            ),
            cell: parameter(
                Tensor::zeros([self.d_hidden()], options),
                &key.child("cell"),
            ),
        });
        self
    }

    /// The weights as tensors, of four gates; gradients flow through them.
    pub fn weights(&self) -> CellWeights {
        let weights = CellWeights {
            weight_ih: self.weight_ih.val(),
            weight_hh: self.weight_hh.val(),
            bias: self.bias.as_ref().map(Param::val),
            weight_hr: self.weight_hr.as_ref().map(Param::val),
            peephole: self.peephole.as_ref().map(Param::val),
            layer_norm: self.layer_norm.as_ref().map(LayerNorm::weights),
        };
        match self.config.coupled {
            true => weights.with_forget(self.d_hidden()),
            false => weights,
        }
    }

    /// What it computes besides the plain equations.
    pub fn config(&self) -> &CellConfig {
        &self.config
    }

    /// `D`, the width of the input.
    pub fn d_input(&self) -> usize {
        self.weight_ih.dims()[1]
    }

    /// `H`, the width of the gates and of the cell state.
    pub fn d_hidden(&self) -> usize {
        self.weight_hh.dims()[0] / (gates::COUNT - usize::from(self.config.coupled))
    }

    /// `P`, the width of the hidden state: `H` without a projection.
    pub fn d_state(&self) -> usize {
        self.weight_hh.dims()[1]
    }

    /// The state `[B, P]`, `[B, H]` in which a sequence starts.
    pub fn initial_state(&self, batch: usize) -> LstmState<2> {
        let (d_state, d_hidden) = (self.d_state(), self.d_hidden());
        let Some(initial) = &self.initial else {
            let options = (&self.weight_hh.device(), self.weight_hh.val().dtype());
            return LstmState {
                hidden: Tensor::zeros([batch, d_state], options),
                cell: Tensor::zeros([batch, d_hidden], options),
            };
        };
        let rows = |of_row: &Param<Tensor<1>>, width: usize| {
            let row: Tensor<2> = of_row.val().unsqueeze_dim(0);
            row.expand([batch, width])
        };
        LstmState {
            hidden: rows(&initial.hidden, d_state),
            cell: rows(&initial.cell, d_hidden),
        }
    }

    /// One step: input `[B, D]` and state `[B, P]`, `[B, H]` (the initial one if absent) to the
    /// next state.
    ///
    /// # Panics
    ///
    /// Where [`try_forward`](Self::try_forward) has an error.
    pub fn forward(&self, input: Tensor<2>, state: Option<LstmState<2>>) -> LstmState<2> {
        self.try_forward(input, state)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// One step: input `[B, D]` and state `[B, P]`, `[B, H]` (the initial one if absent) to the
    /// next state.
    ///
    /// # Errors
    ///
    /// If a tensor has another shape, element type or device than the weights imply.
    pub fn try_forward(
        &self,
        input: Tensor<2>,
        state: Option<LstmState<2>>,
    ) -> Result<LstmState<2>, ForwardError> {
        let weights = self.weights();
        let (dtype, device) = (weights.weight_ih.dtype(), weights.weight_ih.device());
        let [batch, _] = input.dims();
        shapes::check_step("input", &input, batch, self.d_input())?;
        shapes::check_kind("input", &input, dtype, &device)?;
        let state = match state {
            Some(state) => {
                shapes::check_step("state.hidden", &state.hidden, batch, self.d_state())?;
                shapes::check_step("state.cell", &state.cell, batch, self.d_hidden())?;
                shapes::check_kind("state.hidden", &state.hidden, dtype, &device)?;
                shapes::check_kind("state.cell", &state.cell, dtype, &device)?;
                state
            }
            None => self.initial_state(batch),
        };
        let recurrence = Recurrence::of(weights, self.config.clone());
        Ok(Product::new(&recurrence, batch).step(input, &state))
    }

    /// One step of one sequence: input `[D]` and state `[P]`, `[H]` to the next state.
    ///
    /// # Panics
    ///
    /// Where [`try_forward`](Self::try_forward) has an error.
    pub fn forward_unbatched(&self, input: Tensor<1>, state: Option<LstmState<1>>) -> LstmState<1> {
        let state = state.map(|state| state.map(|tensor| tensor.unsqueeze_dim(0)));
        self.forward(input.unsqueeze_dim(0), state)
            .map(|tensor| tensor.squeeze_dim(0))
    }
}

impl LayerNorm {
    fn from_weights(weights: LayerNormWeights, key: &Key) -> Self {
        Self {
            input: parameter(weights.input, &key.child("input")),
            hidden: parameter(weights.hidden, &key.child("hidden")),
            cell: parameter(weights.cell, &key.child("cell")),
            cell_bias: parameter(weights.cell_bias, &key.child("cell_bias")),
        }
    }

    fn weights(&self) -> LayerNormWeights {
        LayerNormWeights {
            input: self.input.val(),
            hidden: self.hidden.val(),
            cell: self.cell.val(),
            cell_bias: self.cell_bias.val(),
        }
    }
}

fn parameter<const R: usize>(value: Tensor<R>, key: &Key) -> Param<Tensor<R>> {
    // A tensor computed from tracked ones cannot be trained itself; what it holds can.
    let mut parameter = Param::from_tensor(value.detach());
    parameter.id = key.param_id();
    parameter
}
