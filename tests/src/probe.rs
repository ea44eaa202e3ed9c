//! Everything that an LSTM computes, by name: outputs, final states, and the gradients under random
//! cotangents `d_output`, `d_h_n`, `d_c_n`, that is of
//! `sum(output * d_output) + sum(h_n * d_h_n) + sum(c_n * d_c_n)`.

use std::fmt;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Gradients, Tensor};
use scratch_lstm::{ForwardOptions, Key, LstmState, PathChoice, ScratchLstm, ScratchLstmConfig};

use crate::backend::device;
use crate::compare::{Named, Values};
use crate::random::{randomize, tensor};

/// An LSTM and the sizes of what it reads; everything random in it follows from the seed.
#[derive(Debug, Clone)]
pub struct Case {
    /// The LSTM.
    pub config: ScratchLstmConfig,
    /// `B`.
    pub batch: usize,
    /// `T`.
    pub steps: usize,
    /// Of all tensors.
    pub dtype: DType,
    /// Of weights, inputs, states and cotangents.
    pub seed: u64,
    /// Whether autodiff computes some results again instead of keeping them.
    pub checkpointing: bool,
}

/// What an LSTM reads, as leaves that have gradients.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// `[B, T, D]` or `[T, B, D]`.
    pub input: Tensor<3>,
    /// `[L*K, B, P]` and `[L*K, B, H]`.
    pub state: Option<LstmState>,
}

/// What the results are weighted with.
#[derive(Debug, Clone)]
pub struct Cotangents {
    /// Of the output.
    pub output: Tensor<3>,
    /// Of the final state.
    pub state: LstmState,
}

/// Both ways of running an LSTM, each an error where it cannot be had.
pub const PATHS: [PathChoice; 2] = [PathChoice::Fused, PathChoice::Raw];

/// Weights are drawn in ± this, wide enough for the gates to leave 0.5.
pub const WEIGHT_BOUND: f64 = 0.7;

impl Case {
    /// A case in f32: B=3, T=7.
    pub fn new(config: ScratchLstmConfig) -> Self {
        Self {
            config,
            batch: 3,
            steps: 7,
            dtype: DType::F32,
            seed: 1,
            checkpointing: false,
        }
    }

    /// Sets the sizes.
    pub fn with_sizes(mut self, batch: usize, steps: usize) -> Self {
        (self.batch, self.steps) = (batch, steps);
        self
    }

    /// Sets the element type.
    pub fn with_dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Sets the seed.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Turns gradient checkpointing on.
    pub fn with_checkpointing(mut self) -> Self {
        self.checkpointing = true;
        self
    }

    /// The stream of one of its random parts.
    pub fn key(&self, name: &str) -> Key {
        Key::new(self.seed).child(name)
    }

    /// The device of its tensors.
    pub fn device(&self) -> Device {
        let device = device().autodiff();
        match self.checkpointing {
            true => device.gradient_checkpointing(),
            false => device,
        }
    }

    /// The LSTM, with random weights and biases.
    pub fn lstm(&self) -> ScratchLstm {
        let lstm = self.config.init_with(&self.key("lstm"), &self.device());
        randomize(lstm, WEIGHT_BOUND, &self.key("weights"), self.dtype)
    }

    /// Input and initial state.
    pub fn sequence(&self) -> Sequence {
        Sequence {
            input: self.leaf(self.io_shape(self.config.d_input), "input"),
            state: Some(LstmState {
                hidden: self.leaf(self.hidden_shape(), "h_0"),
                cell: self.leaf(self.state_shape(), "c_0"),
            }),
        }
    }

    /// What its results are weighted with.
    pub fn cotangents(&self) -> Cotangents {
        Cotangents {
            output: self.constant(self.io_shape(self.config.d_output()), "d_output"),
            state: LstmState {
                hidden: self.constant(self.hidden_shape(), "d_h_n"),
                cell: self.constant(self.state_shape(), "d_c_n"),
            },
        }
    }

    /// `[B, T, width]` or `[T, B, width]`.
    pub fn io_shape(&self, width: usize) -> [usize; 3] {
        if self.config.batch_first {
            [self.batch, self.steps, width]
        } else {
            [self.steps, self.batch, width]
        }
    }

    /// That of the cell state, and without a projection of the hidden state too: `[L*K, B, H]`.
    pub fn state_shape(&self) -> [usize; 3] {
        let count = self.config.num_layers * self.config.num_directions();
        [count, self.batch, self.config.d_hidden]
    }

    /// That of the hidden state, `[L*K, B, P]`.
    pub fn hidden_shape(&self) -> [usize; 3] {
        let [count, batch, _] = self.state_shape();
        [count, batch, self.config.d_state()]
    }

    /// A random tensor.
    pub fn constant<const R: usize>(&self, shape: [usize; R], name: &str) -> Tensor<R> {
        tensor(shape, &self.key(name), &self.device(), self.dtype)
    }

    /// A random tensor that has a gradient.
    pub fn leaf<const R: usize>(&self, shape: [usize; R], name: &str) -> Tensor<R> {
        self.constant(shape, name).require_grad()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        write!(
            f,
            "B={} T={} D={} H={} L={} K={} {:?}, join {:?}, bias {}, batch_first {}, path {:?}, seed {}",
            self.batch,
            self.steps,
            config.d_input,
            config.d_hidden,
            config.num_layers,
            config.num_directions(),
            self.dtype,
            config.join,
            config.bias,
            config.batch_first,
            config.path,
            self.seed,
        )
    }
}

impl Sequence {
    /// The same numbers as new leaves: a graph can be walked back once.
    pub fn fresh(&self) -> Self {
        let leaf = |tensor: Tensor<3>| tensor.detach().require_grad();
        Self {
            input: leaf(self.input.clone()),
            state: self.state.clone().map(|state| state.map(leaf)),
        }
    }
}

impl Cotangents {
    /// The weighted sum of the results.
    pub fn loss(&self, output: &Tensor<3>, state: &LstmState) -> Tensor<1> {
        let weighted = |a: &Tensor<3>, b: &Tensor<3>| (a.clone() * b.clone()).sum();
        weighted(output, &self.output)
            + weighted(&state.hidden, &self.state.hidden)
            + weighted(&state.cell, &self.state.cell)
    }
}

/// Outputs, final states and the gradients of input, initial state and parameters of `lstm`, read
/// with `options` (whose state is that of `sequence`).
pub fn probe(
    lstm: &ScratchLstm,
    sequence: &Sequence,
    cotangents: &Cotangents,
    options: ForwardOptions<'_>,
) -> Named {
    let options = options.with_state(sequence.state.clone());
    let (output, state) = lstm.forward_with(sequence.input.clone(), options);
    let (mut named, gradients) = observe(sequence, output, state, cotangents);
    named.extend(parameter_gradients(lstm, &gradients));
    named
}

/// Outputs, final states and the gradients of input and initial state; what there is no gradient
/// of has zeros.
pub fn observe(
    sequence: &Sequence,
    output: Tensor<3>,
    state: LstmState,
    cotangents: &Cotangents,
) -> (Named, Gradients) {
    let gradients = cotangents.loss(&output, &state).backward();
    let mut named = Named::from([
        ("output".into(), output.into()),
        ("h_n".into(), state.hidden.into()),
        ("c_n".into(), state.cell.into()),
        (
            "grad.input".into(),
            gradient_or_zeros(&sequence.input, &gradients),
        ),
    ]);
    if let Some(state) = &sequence.state {
        for (name, tensor) in [("grad.h_0", &state.hidden), ("grad.c_0", &state.cell)] {
            named.insert(name.into(), gradient_or_zeros(tensor, &gradients));
        }
    }
    (named, gradients)
}

/// The gradient of every parameter as `grad.{path}`, zeros for those that have none.
pub fn parameter_gradients<M: Module>(module: &M, gradients: &Gradients) -> Named {
    let mut named = Named::new();
    visit(module, |path, values, gradient| {
        let gradient = gradient(gradients).unwrap_or_else(|| zeros_like(&values()));
        named.insert(format!("grad.{path}"), gradient);
    });
    named
}

/// The paths of the parameters that have no gradient.
pub fn parameters_without_gradient<M: Module>(module: &M, gradients: &Gradients) -> Vec<String> {
    let mut paths = Vec::new();
    visit(module, |path, _, gradient| {
        if gradient(gradients).is_none() {
            paths.push(path.to_string());
        }
    });
    paths
}

/// Every parameter by its path.
pub fn parameters<M: Module>(module: &M) -> Named {
    let mut named = Named::new();
    visit(module, |path, values, _| {
        named.insert(path.to_string(), values());
    });
    named
}

fn gradient_or_zeros<const R: usize>(leaf: &Tensor<R>, gradients: &Gradients) -> Values {
    match leaf.grad(gradients) {
        Some(gradient) => gradient.into(),
        None => zeros_like(&leaf.clone().into()),
    }
}

fn zeros_like(values: &Values) -> Values {
    Values::new(values.shape.clone(), vec![0.0; values.values.len()])
}

type Look<'a> = &'a mut dyn FnMut(&str, &dyn Fn() -> Values, &dyn Fn(&Gradients) -> Option<Values>);

/// Shows every float parameter: its path, its numbers, and what its gradient is.
fn visit<M: Module>(
    module: &M,
    mut look: impl FnMut(&str, &dyn Fn() -> Values, &dyn Fn(&Gradients) -> Option<Values>),
) {
    module.visit(&mut Visitor {
        path: Vec::new(),
        look: &mut look,
    });
}

struct Visitor<'a> {
    path: Vec<String>,
    look: Look<'a>,
}

impl ModuleVisitor for Visitor<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        (self.look)(
            &self.path.join("."),
            &|| value.clone().into(),
            &|gradients| value.grad(gradients).map(Values::from),
        );
    }
}
