//! What goes into the fused operation and what comes out, by name.

use std::any::Any;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, TensorMetadata};
use burn::tensor::DType;
use scratch_lstm_kernels::{Activations, Sizes};

use super::LstmCall;
use crate::gates::COUNT;
use crate::valid::Valid;

/// What one layer and direction reads; shapes as in [`LstmOps`](super::LstmOps).
#[derive(Debug, Clone, ExtensionType)]
pub struct LstmInputs<B: Backend> {
    /// `[B, T, D]` or `[T, B, D]`
    pub x: FloatTensor<B>,
    /// `[4H, D]`
    pub weight_ih: FloatTensor<B>,
    /// `[4H, P]`
    pub weight_hh: FloatTensor<B>,
    /// `[4H]`
    pub bias: FloatTensor<B>,
    /// `[B, P]`
    pub h0: FloatTensor<B>,
    /// `[B, H]`
    pub c0: FloatTensor<B>,
    /// The projection of the hidden state, `[P, H]`.
    #[extension_type]
    pub weight_hr: Optional<B>,
    /// Of the input, the forget and the output gate, `[3H]`.
    #[extension_type]
    pub peephole: Optional<B>,
    /// Of layer normalization.
    #[extension_type]
    pub layer_norm: OptionalLayerNorm<B>,
    /// What is dropped or held back of the states; no gradients flow into it.
    #[extension_type]
    pub masks: LstmMasks<B>,
}

/// A tensor that may be absent.
#[derive(Debug, Clone, ExtensionType)]
pub enum Optional<B: Backend> {
    /// There is none.
    Absent,
    /// There is one.
    Present(FloatTensor<B>),
}

/// Gains and shift of layer normalization, if there is any.
#[derive(Debug, Clone, ExtensionType)]
pub enum OptionalLayerNorm<B: Backend> {
    /// There is none.
    Absent,
    /// There is.
    Present {
        /// Gain of the input's part of the gates, `[4H]`.
        input: FloatTensor<B>,
        /// Gain of the hidden state's part of the gates, `[4H]`.
        hidden: FloatTensor<B>,
        /// Gain of the cell state, `[H]`.
        cell: FloatTensor<B>,
        /// Shift of the cell state, `[H]`.
        cell_bias: FloatTensor<B>,
    },
}

/// What is dropped or held back of the states.
#[derive(Debug, Clone, ExtensionType)]
pub struct LstmMasks<B: Backend> {
    /// What the gates see of the hidden state, at every step alike, `[B, P]`.
    #[extension_type]
    pub hidden: Optional<B>,
    /// The share of the old hidden state that is kept at each step, `[T, B, P]`.
    #[extension_type]
    pub zoneout_hidden: Optional<B>,
    /// The share of the old cell state, `[T, B, H]`.
    #[extension_type]
    pub zoneout_cell: Optional<B>,
}

impl<B: Backend> Optional<B> {
    /// The tensor, if there is one.
    pub fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Present(tensor) => Some(tensor),
        }
    }

    /// A look at the tensor, if there is one.
    pub fn as_option(&self) -> Option<&FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Present(tensor) => Some(tensor),
        }
    }
}

impl<B: Backend> From<Option<FloatTensor<B>>> for Optional<B> {
    fn from(tensor: Option<FloatTensor<B>>) -> Self {
        match tensor {
            None => Self::Absent,
            Some(tensor) => Self::Present(tensor),
        }
    }
}

impl<B: Backend> LstmInputs<B> {
    /// Those of a plain cell.
    pub fn new(
        x: FloatTensor<B>,
        weight_ih: FloatTensor<B>,
        weight_hh: FloatTensor<B>,
        bias: FloatTensor<B>,
        h0: FloatTensor<B>,
        c0: FloatTensor<B>,
    ) -> Self {
        Self {
            x,
            weight_ih,
            weight_hh,
            bias,
            h0,
            c0,
            weight_hr: Optional::Absent,
            peephole: Optional::Absent,
            layer_norm: OptionalLayerNorm::Absent,
            masks: LstmMasks {
                hidden: Optional::Absent,
                zoneout_hidden: Optional::Absent,
                zoneout_cell: Optional::Absent,
            },
        }
    }

    /// The sizes, if they fit each other.
    ///
    /// # Panics
    ///
    /// If they do not: what computes with them relies on it.
    pub(crate) fn check(&self, call: &LstmCall) -> Sizes {
        let [first, second, d_input] = self.x.shape().dims();
        let (batch, steps) = if call.batch_first {
            (first, second)
        } else {
            (second, first)
        };
        let [gates, d_state] = self.weight_hh.shape().dims();
        let d_hidden = gates / COUNT;
        assert!(
            batch > 0 && steps > 0 && d_input > 0 && d_hidden > 0 && d_state > 0,
            "fused LSTM: no axis may be empty"
        );
        assert_eq!(gates, COUNT * d_hidden, "fused LSTM: rows of weight_hh");
        assert!(
            call.cell.activations == Activations::default(),
            "fused LSTM: sigmoid and tanh only"
        );
        let dtype = self.x.dtype();
        let shape = |name: &str, tensor: &FloatTensor<B>, shape: &[usize]| {
            let found = tensor.shape();
            assert_eq!(&found[..], shape, "fused LSTM: shape of {name}");
            assert_eq!(tensor.dtype(), dtype, "fused LSTM: type of {name}");
        };
        assert_eq!(
            (call.cell.layer_norm, call.cell.peepholes),
            (
                matches!(self.layer_norm, OptionalLayerNorm::Present { .. }),
                self.peephole.as_option().is_some()
            ),
            "fused LSTM: whether there are layer normalization and peepholes"
        );
        shape("weight_hh", &self.weight_hh, &[gates, d_state]);
        shape("weight_ih", &self.weight_ih, &[gates, d_input]);
        shape("bias", &self.bias, &[gates]);
        shape("h0", &self.h0, &[batch, d_state]);
        shape("c0", &self.c0, &[batch, d_hidden]);
        match &self.weight_hr {
            Optional::Present(weight_hr) => shape("weight_hr", weight_hr, &[d_state, d_hidden]),
            Optional::Absent => assert_eq!(d_state, d_hidden, "fused LSTM: columns of weight_hh"),
        }
        if let Optional::Present(peephole) = &self.peephole {
            shape("peephole", peephole, &[PEEPHOLES * d_hidden]);
        }
        if let OptionalLayerNorm::Present {
            input,
            hidden,
            cell,
            cell_bias,
        } = &self.layer_norm
        {
            shape("layer_norm.input", input, &[gates]);
            shape("layer_norm.hidden", hidden, &[gates]);
            shape("layer_norm.cell", cell, &[d_hidden]);
            shape("layer_norm.cell_bias", cell_bias, &[d_hidden]);
        }
        let LstmMasks {
            hidden,
            zoneout_hidden,
            zoneout_cell,
        } = &self.masks;
        if let Optional::Present(hidden) = hidden {
            shape("masks.hidden", hidden, &[batch, d_state]);
        }
        for (name, series, width) in [
            ("masks.zoneout_hidden", zoneout_hidden, d_state),
            ("masks.zoneout_cell", zoneout_cell, d_hidden),
        ] {
            if let Optional::Present(series) = series {
                shape(name, series, &[steps, batch, width]);
            }
        }
        match &call.valid {
            Valid::All => {}
            Valid::Lengths(lengths) => {
                assert_eq!(lengths.len(), batch, "fused LSTM: a length for each row");
                assert!(
                    lengths.iter().all(|&length| length <= steps),
                    "fused LSTM: lengths of at most {steps} steps"
                );
            }
            Valid::Mask(mask) => {
                assert_eq!(mask.len(), steps * batch, "fused LSTM: entries of the mask");
            }
        }
        Sizes {
            batch,
            steps,
            d_input,
            d_hidden,
            d_output: d_state,
        }
    }

    /// Applies `map` to each tensor, which may become one of another backend.
    pub fn map<B2: Backend>(
        self,
        map: impl FnMut(FloatTensor<B>) -> FloatTensor<B2>,
    ) -> LstmInputs<B2> {
        let (tensors, present) = self.into_tensors();
        LstmInputs::from_tensors(tensors.into_iter().map(map), present)
    }

    /// All tensors that there are, and which of the optional ones those are.
    pub(super) fn into_tensors(self) -> (Vec<FloatTensor<B>>, Present) {
        let LstmMasks {
            hidden,
            zoneout_hidden,
            zoneout_cell,
        } = self.masks;
        let norm = match self.layer_norm {
            OptionalLayerNorm::Absent => None,
            OptionalLayerNorm::Present {
                input,
                hidden,
                cell,
                cell_bias,
            } => Some([input, hidden, cell, cell_bias]),
        };
        let optional = [
            self.weight_hr,
            self.peephole,
            hidden,
            zoneout_hidden,
            zoneout_cell,
        ];
        let optional = optional.map(Optional::into_option);
        let present = Present {
            layer_norm: norm.is_some(),
            optional: optional.each_ref().map(Option::is_some),
        };
        let always = [
            self.x,
            self.weight_ih,
            self.weight_hh,
            self.bias,
            self.h0,
            self.c0,
        ];
        let tensors = always.into_iter().chain(norm.into_iter().flatten());
        let tensors = tensors.chain(optional.into_iter().flatten());
        (tensors.collect(), present)
    }

    /// The inverse of [`into_tensors`](Self::into_tensors).
    pub(super) fn from_tensors(
        mut tensors: impl Iterator<Item = FloatTensor<B>>,
        present: Present,
    ) -> Self {
        let mut next = || tensors.next().expect("as many as there were");
        Self {
            x: next(),
            weight_ih: next(),
            weight_hh: next(),
            bias: next(),
            h0: next(),
            c0: next(),
            layer_norm: match present.layer_norm {
                false => OptionalLayerNorm::Absent,
                true => OptionalLayerNorm::Present {
                    input: next(),
                    hidden: next(),
                    cell: next(),
                    cell_bias: next(),
                },
            },
            weight_hr: present.optional[0].then(&mut next).into(),
            peephole: present.optional[1].then(&mut next).into(),
            masks: LstmMasks {
                hidden: present.optional[2].then(&mut next).into(),
                zoneout_hidden: present.optional[3].then(&mut next).into(),
                zoneout_cell: present.optional[4].then(&mut next).into(),
            },
        }
    }

    /// What gradients may be wanted of, in a fixed order.
    pub(crate) fn differentiable(&self) -> [Option<&FloatTensor<B>>; DIFFERENTIABLE] {
        let norm = match &self.layer_norm {
            OptionalLayerNorm::Absent => [None; 4],
            OptionalLayerNorm::Present {
                input,
                hidden,
                cell,
                cell_bias,
            } => [input, hidden, cell, cell_bias].map(Some),
        };
        let [norm_input, norm_hidden, norm_cell, norm_cell_bias] = norm;
        [
            Some(&self.x),
            Some(&self.weight_ih),
            Some(&self.weight_hh),
            Some(&self.bias),
            Some(&self.h0),
            Some(&self.c0),
            self.weight_hr.as_option(),
            self.peephole.as_option(),
            norm_input,
            norm_hidden,
            norm_cell,
            norm_cell_bias,
        ]
    }
}

/// Which of the optional tensors there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    layer_norm: bool,
    /// Projection, peepholes, masks.
    optional: [bool; 5],
}

/// Tensors that gradients may be wanted of.
pub(crate) const DIFFERENTIABLE: usize = 12;

/// Gates that see the cell state through peepholes.
pub(super) const PEEPHOLES: usize = COUNT - 1;

/// What it writes.
#[derive(Debug, Clone, ExtensionType)]
pub struct LstmOutputs<B: Backend> {
    /// `[B, T, P]` or `[T, B, P]`
    pub output: FloatTensor<B>,
    /// `[B, P]`
    pub hidden: FloatTensor<B>,
    /// `[B, H]`
    pub cell: FloatTensor<B>,
}

/// The gradients of what it wrote, in the same shapes; absent ones are zero.
#[derive(Debug, Clone)]
pub struct LstmCotangents<B: Backend> {
    /// Of the output.
    pub output: Option<FloatTensor<B>>,
    /// Of the final hidden state.
    pub hidden: Option<FloatTensor<B>>,
    /// Of the final cell state.
    pub cell: Option<FloatTensor<B>>,
}

impl<B: Backend> LstmCotangents<B> {
    /// # Panics
    ///
    /// If shapes or types are not those of what was returned.
    pub(crate) fn check(&self, sizes: Sizes, batch_first: bool, dtype: DType) {
        let Sizes {
            batch,
            steps,
            d_hidden,
            d_output,
            ..
        } = sizes;
        let series = match batch_first {
            true => vec![batch, steps, d_output],
            false => vec![steps, batch, d_output],
        };
        for (name, tensor, shape) in [
            ("output", &self.output, series),
            ("hidden", &self.hidden, vec![batch, d_output]),
            ("cell", &self.cell, vec![batch, d_hidden]),
        ] {
            if let Some(tensor) = tensor {
                let found = tensor.shape();
                assert_eq!(
                    (&found[..], tensor.dtype()),
                    (&shape[..], dtype),
                    "fused LSTM: the gradient of {name}"
                );
            }
        }
    }

    /// Applies `map` to each tensor.
    pub fn map(self, map: impl Fn(FloatTensor<B>) -> FloatTensor<B>) -> Self {
        Self {
            output: self.output.map(&map),
            hidden: self.hidden.map(&map),
            cell: self.cell.map(&map),
        }
    }
}

/// The gradients that were wanted, in the shapes of [`LstmInputs`].
#[derive(Debug, Clone)]
pub struct LstmGradients<B: Backend> {
    /// Of the input.
    pub x: Option<FloatTensor<B>>,
    /// Of the weights on the input.
    pub weight_ih: Option<FloatTensor<B>>,
    /// Of the weights on the hidden state.
    pub weight_hh: Option<FloatTensor<B>>,
    /// Of the bias.
    pub bias: Option<FloatTensor<B>>,
    /// Of the hidden state before the first step.
    pub h0: Option<FloatTensor<B>>,
    /// Of the cell state before the first step.
    pub c0: Option<FloatTensor<B>>,
    /// Of the projection.
    pub weight_hr: Option<FloatTensor<B>>,
    /// Of the peepholes.
    pub peephole: Option<FloatTensor<B>>,
    /// Of layer normalization.
    pub layer_norm: Option<LayerNormGradients<B>>,
}

/// The gradients of layer normalization's gains and shift.
#[derive(Debug, Clone)]
pub struct LayerNormGradients<B: Backend> {
    /// Of the gain of the input's part.
    pub input: FloatTensor<B>,
    /// Of the gain of the hidden state's part.
    pub hidden: FloatTensor<B>,
    /// Of the gain of the cell state.
    pub cell: FloatTensor<B>,
    /// Of the shift of the cell state.
    pub cell_bias: FloatTensor<B>,
}

impl<B: Backend> LstmGradients<B> {
    /// Applies `map` to each tensor.
    pub fn map(self, map: impl Fn(FloatTensor<B>) -> FloatTensor<B>) -> Self {
        Self::from_order(self.into_order().map(|tensor| tensor.map(&map)))
    }

    /// In the order of [`LstmInputs::differentiable`].
    pub(crate) fn into_order(self) -> [Option<FloatTensor<B>>; DIFFERENTIABLE] {
        let [norm_input, norm_hidden, norm_cell, norm_cell_bias] = match self.layer_norm {
            None => [const { None }; 4],
            Some(LayerNormGradients {
                input,
                hidden,
                cell,
                cell_bias,
            }) => [input, hidden, cell, cell_bias].map(Some),
        };
        [
            self.x,
            self.weight_ih,
            self.weight_hh,
            self.bias,
            self.h0,
            self.c0,
            self.weight_hr,
            self.peephole,
            norm_input,
            norm_hidden,
            norm_cell,
            norm_cell_bias,
        ]
    }

    /// The inverse of [`into_order`](Self::into_order).
    pub(super) fn from_order(order: [Option<FloatTensor<B>>; DIFFERENTIABLE]) -> Self {
        let [
            x,
            weight_ih,
            weight_hh,
            bias,
            h0,
            c0,
            weight_hr,
            peephole,
            norm @ ..,
        ] = order;
        Self {
            x,
            weight_ih,
            weight_hh,
            bias,
            h0,
            c0,
            weight_hr,
            peephole,
            layer_norm: match norm {
                [Some(input), Some(hidden), Some(cell), Some(cell_bias)] => {
                    Some(LayerNormGradients {
                        input,
                        hidden,
                        cell,
                        cell_bias,
                    })
                }
                _ => None,
            },
        }
    }
}

/// What a forward pass keeps for its own backward pass; nobody else's business.
#[derive(Debug, Clone)]
pub struct Saved(Arc<dyn Kept>);

trait Kept: Any + std::fmt::Debug + Send + Sync {}

impl<T: Any + std::fmt::Debug + Send + Sync> Kept for T {}

impl Saved {
    /// Keeps `value`.
    pub fn new<T: Any + std::fmt::Debug + Send + Sync>(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// What was kept.
    ///
    /// # Panics
    ///
    /// If it was kept by another forward pass than the caller's, or if there are copies: a node
    /// walks back once.
    pub fn into_inner<T: Any + std::fmt::Debug + Send + Sync>(self) -> T {
        let any: Arc<dyn Any + Send + Sync> = self.0;
        let kept = any.downcast::<T>();
        let kept = kept.unwrap_or_else(|_| panic!("expected what the same backend kept"));
        Arc::try_unwrap(kept)
            .unwrap_or_else(|_| panic!("expected to be the only one who walks back"))
    }
}
