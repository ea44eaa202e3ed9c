//! From a backend's tensors to the kernels and back, for backends whose numbers lie in the memory
//! of this process.

use std::borrow::Cow;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Element, FloatDType, TensorData};

use scratch_lstm_kernels::{self as kernels, InstructionSet, Plan, Real, Series, Sizes, Walk};

use super::tensors::PEEPHOLES;
use super::{
    Keep, LayerNormGradients, LstmCall, LstmCotangents, LstmGradients, LstmInputs, LstmOutputs,
    Optional, OptionalLayerNorm, Saved, Wanted,
};
use crate::config::{CellConfig, LAYER_NORM_EPSILON};
use crate::gates::COUNT;
use crate::valid::Valid;

/// A backend whose numbers of type `T` can be read where they lie.
pub(crate) trait Host<T: Real>: Backend {
    /// The numbers of `tensor`, whose type is `T`.
    fn view(tensor: &FloatTensor<Self>) -> View<'_, T>;
}

/// Numbers, and how far apart the entries of each axis lie.
#[derive(Debug)]
pub(crate) struct View<'a, T: Real> {
    numbers: Cow<'a, [T]>,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// The forward pass; see [`LstmKernels`](crate::fused::LstmKernels).
pub(crate) fn forward<B: Host<f32> + Host<f64>>(
    inputs: LstmInputs<B>,
    call: &LstmCall,
    keep: Keep,
) -> (LstmOutputs<B>, Saved) {
    match inputs.x.dtype() {
        DType::F32 => forward_in::<B, f32>(inputs, call, keep),
        DType::F64 => forward_in::<B, f64>(inputs, call, keep),
        half => {
            inputs.check(call);
            let (outputs, saved) = forward_in::<B, f32>(inputs.map(to_f32::<B>), call, keep);
            let back = |tensor| B::float_cast(tensor, half.into());
            let outputs = LstmOutputs {
                output: back(outputs.output),
                hidden: back(outputs.hidden),
                cell: back(outputs.cell),
            };
            (outputs, saved)
        }
    }
}

/// The backward pass; see [`LstmKernels`](crate::fused::LstmKernels).
pub(crate) fn backward<B: Host<f32> + Host<f64>>(
    inputs: LstmInputs<B>,
    output: FloatTensor<B>,
    saved: Saved,
    cotangents: LstmCotangents<B>,
    call: &LstmCall,
    wanted: Wanted,
) -> LstmGradients<B> {
    match inputs.x.dtype() {
        DType::F32 => backward_in::<B, f32>(inputs, output, saved, cotangents, call, wanted),
        DType::F64 => backward_in::<B, f64>(inputs, output, saved, cotangents, call, wanted),
        half => {
            cotangents.check(inputs.check(call), call.batch_first, half);
            let gradients = backward_in::<B, f32>(
                inputs.map(to_f32::<B>),
                to_f32::<B>(output),
                saved,
                cotangents.map(to_f32::<B>),
                call,
                wanted,
            );
            gradients.map(|tensor| B::float_cast(tensor, half.into()))
        }
    }
}

fn to_f32<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    B::float_cast(tensor, FloatDType::F32)
}

fn forward_in<B: Host<T>, T: Real + Element>(
    inputs: LstmInputs<B>,
    call: &LstmCall,
    keep: Keep,
) -> (LstmOutputs<B>, Saved) {
    let numbers = Numbers::<T>::new::<B>(&inputs, call);
    let read = numbers.inputs();
    let sizes = read.sizes;
    let Sizes {
        batch,
        steps,
        d_hidden,
        d_output,
        ..
    } = sizes;
    let mut output = vec![T::default(); batch * steps * d_output];
    let mut hidden = vec![T::default(); batch * d_output];
    let mut cell = vec![T::default(); batch * d_hidden];
    let outputs = kernels::Outputs {
        output: &mut output,
        hidden: &mut hidden,
        cell: &mut cell,
    };
    let set = InstructionSet::chosen().unwrap_or_else(|error| panic!("{error}"));
    let mut plan = Plan::new::<T>(set, sizes, keep);
    if let Some(segment) = call.segment {
        plan = plan.with_segment(segment.get());
    }
    let saved = kernels::forward(&read, outputs, plan);

    let device = inputs.x.device();
    let tensor = |numbers: Vec<T>, shape: &[usize]| {
        B::float_from_data(TensorData::new(numbers, shape.to_vec()), &device)
    };
    let outputs = LstmOutputs {
        output: tensor(output, &series_shape(sizes, call.batch_first, d_output)),
        hidden: tensor(hidden, &[batch, d_output]),
        cell: tensor(cell, &[batch, d_hidden]),
    };
    (outputs, Saved::new(saved))
}

fn backward_in<B: Host<T>, T: Real + Element>(
    inputs: LstmInputs<B>,
    output: FloatTensor<B>,
    saved: Saved,
    cotangents: LstmCotangents<B>,
    call: &LstmCall,
    wanted: Wanted,
) -> LstmGradients<B> {
    let numbers = Numbers::<T>::new::<B>(&inputs, call);
    let read = numbers.inputs();
    let sizes = read.sizes;
    let Sizes {
        batch,
        d_input,
        d_hidden,
        d_output,
        ..
    } = sizes;
    cotangents.check(sizes, call.batch_first, output.dtype());
    let output = B::view(&output).into_series_view();
    let shown = cotangents
        .output
        .as_ref()
        .map(|tensor| B::view(tensor).into_series_view());
    let rows = |tensor: &Option<FloatTensor<B>>| {
        let tensor = tensor.as_ref()?;
        Some(B::view(tensor).into_dense().into_owned())
    };
    let d_hidden_n = rows(&cotangents.hidden);
    let d_cell_n = rows(&cotangents.cell);
    let gradients = kernels::backward(
        &read,
        output.series(sizes, call.batch_first, d_output),
        saved.into_inner::<kernels::Saved<T>>(),
        kernels::Cotangents {
            output: shown
                .as_ref()
                .map(|view| view.series(sizes, call.batch_first, d_output)),
            hidden: d_hidden_n.as_deref(),
            cell: d_cell_n.as_deref(),
        },
        wanted,
    );
    let device = inputs.x.device();
    let tensor = |numbers: Option<Vec<T>>, shape: &[usize]| {
        let data = TensorData::new(numbers?, shape.to_vec());
        Some(B::float_from_data(data, &device))
    };
    LstmGradients {
        x: tensor(gradients.x, &series_shape(sizes, call.batch_first, d_input)),
        weight_ih: tensor(gradients.weight_ih, &[COUNT * d_hidden, d_input]),
        weight_hh: tensor(gradients.weight_hh, &[COUNT * d_hidden, d_output]),
        bias: tensor(gradients.bias, &[COUNT * d_hidden]),
        h0: tensor(gradients.h0, &[batch, d_output]),
        c0: tensor(gradients.c0, &[batch, d_hidden]),
        weight_hr: tensor(gradients.weight_hr, &[d_output, d_hidden]),
        peephole: tensor(gradients.peephole, &[PEEPHOLES * d_hidden]),
        layer_norm: gradients.layer_norm.map(|norm| {
            let numbers = |numbers: Vec<T>, width: usize| {
                B::float_from_data(TensorData::new(numbers, vec![width]), &device)
            };
            LayerNormGradients {
                input: numbers(norm.input, COUNT * d_hidden),
                hidden: numbers(norm.hidden, COUNT * d_hidden),
                cell: numbers(norm.cell, d_hidden),
                cell_bias: numbers(norm.cell_bias, d_hidden),
            }
        }),
    }
}

/// The inputs' numbers, checked.
struct Numbers<'a, T: Real> {
    sizes: Sizes,
    call: &'a LstmCall,
    x: View<'a, T>,
    weight_ih: Cow<'a, [T]>,
    weight_hh: Cow<'a, [T]>,
    bias: Cow<'a, [T]>,
    h0: Cow<'a, [T]>,
    c0: Cow<'a, [T]>,
    weight_hr: Option<Cow<'a, [T]>>,
    peephole: Option<Cow<'a, [T]>>,
    /// Input, hidden, cell, shift of the cell.
    layer_norm: Option<[Cow<'a, [T]>; 4]>,
    hidden_mask: Option<Cow<'a, [T]>>,
    zoneout_hidden: Option<View<'a, T>>,
    zoneout_cell: Option<View<'a, T>>,
}

impl<'a, T: Real + Element> Numbers<'a, T> {
    /// # Panics
    ///
    /// If the shapes do not fit each other: the kernels rely on them.
    fn new<B: Host<T>>(inputs: &'a LstmInputs<B>, call: &'a LstmCall) -> Self {
        let sizes = inputs.check(call);
        let dense = |tensor: &'a FloatTensor<B>| B::view(tensor).into_dense();
        let optional = |tensor: &'a Optional<B>| tensor.as_option().map(dense);
        let series = |tensor: &'a Optional<B>| {
            let tensor = tensor.as_option()?;
            Some(B::view(tensor).into_series_view())
        };
        Self {
            sizes,
            call,
            x: B::view(&inputs.x).into_series_view(),
            weight_ih: dense(&inputs.weight_ih),
            weight_hh: dense(&inputs.weight_hh),
            bias: dense(&inputs.bias),
            h0: dense(&inputs.h0),
            c0: dense(&inputs.c0),
            weight_hr: optional(&inputs.weight_hr),
            peephole: optional(&inputs.peephole),
            layer_norm: match &inputs.layer_norm {
                OptionalLayerNorm::Absent => None,
                OptionalLayerNorm::Present {
                    input,
                    hidden,
                    cell,
                    cell_bias,
                } => Some([input, hidden, cell, cell_bias].map(dense)),
            },
            hidden_mask: optional(&inputs.masks.hidden),
            zoneout_hidden: series(&inputs.masks.zoneout_hidden),
            zoneout_cell: series(&inputs.masks.zoneout_cell),
        }
    }

    fn inputs(&self) -> kernels::Inputs<'_, T> {
        let Self {
            sizes,
            call,
            x,
            weight_ih,
            weight_hh,
            bias,
            h0,
            c0,
            weight_hr,
            peephole,
            layer_norm,
            hidden_mask,
            zoneout_hidden,
            zoneout_cell,
        } = self;
        let CellConfig {
            coupled,
            clip_gates,
            clip_cell,
            ..
        } = call.cell;
        kernels::Inputs {
            sizes: *sizes,
            walk: Walk {
                reverse: call.reverse,
                valid: match &call.valid {
                    Valid::All => kernels::Valid::All,
                    Valid::Lengths(lengths) => kernels::Valid::Lengths(lengths),
                    Valid::Mask(mask) => kernels::Valid::Mask(mask),
                },
            },
            batch_first: call.batch_first,
            x: x.series(*sizes, call.batch_first, sizes.d_input),
            weight_ih,
            weight_hh,
            bias,
            h0,
            c0,
            cell: kernels::Cell {
                weight_hr: weight_hr.as_deref(),
                peephole: peephole.as_deref(),
                coupled,
                clip_gates: clip_gates.map(T::from_elem),
                clip_cell: clip_cell.map(T::from_elem),
                layer_norm: layer_norm.as_ref().map(|[input, hidden, cell, cell_bias]| {
                    kernels::LayerNorm {
                        input,
                        hidden,
                        cell,
                        cell_bias,
                        epsilon: T::from_elem(LAYER_NORM_EPSILON),
                    }
                }),
                hidden_mask: hidden_mask.as_deref(),
                zoneout_hidden: zoneout(zoneout_hidden, *sizes, sizes.d_output),
                zoneout_cell: zoneout(zoneout_cell, *sizes, sizes.d_hidden),
            },
        }
    }
}

/// Shares of an old state that are kept, `[T, B, width]` whatever the order of the input.
fn zoneout<'a, T: Real>(
    shares: &'a Option<View<'_, T>>,
    sizes: Sizes,
    width: usize,
) -> Option<Series<'a, T>> {
    Some(shares.as_ref()?.series(sizes, false, width))
}

/// `[B, T, width]` or `[T, B, width]`.
fn series_shape(sizes: Sizes, batch_first: bool, width: usize) -> [usize; 3] {
    if batch_first {
        [sizes.batch, sizes.steps, width]
    } else {
        [sizes.steps, sizes.batch, width]
    }
}

impl<'a, T: Real> View<'a, T> {
    /// `strides` are numbers between the entries of an axis, from the first number on.
    pub(crate) fn new(
        numbers: impl Into<Cow<'a, [T]>>,
        shape: impl Into<Vec<usize>>,
        strides: impl Into<Vec<usize>>,
    ) -> Self {
        Self {
            numbers: numbers.into(),
            shape: shape.into(),
            strides: strides.into(),
        }
    }

    /// All numbers, row by row.
    fn into_dense(self) -> Cow<'a, [T]> {
        let count: usize = self.shape.iter().product();
        let mut dense = 1;
        let is_dense = self
            .shape
            .iter()
            .zip(&self.strides)
            .rev()
            .all(|(&size, &stride)| {
                let fits = size == 1 || stride == dense;
                dense *= size;
                fits
            });
        if is_dense {
            return match self.numbers {
                Cow::Borrowed(numbers) => Cow::Borrowed(&numbers[..count]),
                Cow::Owned(numbers) => Cow::Owned(numbers),
            };
        }
        let mut numbers = Vec::with_capacity(count);
        let mut place = vec![0; self.shape.len()];
        for _ in 0..count {
            let offset: usize = place.iter().zip(&self.strides).map(|(p, s)| p * s).sum();
            numbers.push(self.numbers[offset]);
            for axis in (0..place.len()).rev() {
                place[axis] += 1;
                if place[axis] < self.shape[axis] {
                    break;
                }
                place[axis] = 0;
            }
        }
        Cow::Owned(numbers)
    }

    /// A view whose last axis lies side by side.
    fn into_series_view(self) -> Self {
        let [_, steps, width] = self.shape[..] else {
            panic!(
                "fused LSTM: a series has three axes, found {:?}",
                self.shape
            );
        };
        if width == 1 || self.strides[2] == 1 {
            return self;
        }
        let shape = self.shape.clone();
        Self::new(self.into_dense(), shape, [steps * width, width, 1])
    }

    fn series(&self, sizes: Sizes, batch_first: bool, width: usize) -> Series<'_, T> {
        let shape = series_shape(sizes, batch_first, width);
        assert_eq!(self.shape, shape, "fused LSTM: shape of a series");
        let (of_row, of_step) = if batch_first {
            (self.strides[0], self.strides[1])
        } else {
            (self.strides[1], self.strides[0])
        };
        let Sizes { batch, steps, .. } = sizes;
        Series::new(&self.numbers, [batch, steps, width], of_row, of_step)
    }
}

#[cfg(feature = "flex")]
impl<T: Real + Element + pulp::bytemuck::Pod> Host<T> for burn::backend::Flex {
    fn view(tensor: &FloatTensor<Self>) -> View<'_, T> {
        let layout = tensor.layout();
        let shape = layout.shape().to_vec();
        let strides: Option<Vec<usize>> = layout
            .strides()
            .iter()
            .map(|&stride| usize::try_from(stride).ok())
            .collect();
        match strides {
            Some(strides) => {
                let numbers = &tensor.storage::<T>()[layout.start_offset()..];
                View::new(numbers, shape, strides)
            }
            // A flipped axis.
            None => {
                let dense = tensor.to_contiguous();
                let numbers = dense.as_slice::<T>().expect("just made so").to_vec();
                let strides = dense_strides(&shape);
                View::new(numbers, shape, strides)
            }
        }
    }
}

#[cfg(feature = "ndarray")]
mod ndarray {
    use super::*;
    use burn::backend::NdArray;

    macro_rules! host {
        ($real:ty, $variant:ident) => {
            impl Host<$real> for NdArray {
                fn view(tensor: &FloatTensor<Self>) -> View<'_, $real> {
                    type Tensor = FloatTensor<NdArray>;
                    let Tensor::$variant(storage) = tensor else {
                        panic!("expected a tensor of {}", stringify!($real));
                    };
                    let array = storage.view();
                    let shape = array.shape().to_vec();
                    let strides = dense_strides(&shape);
                    if let Some(numbers) = array.to_slice() {
                        return View::new(numbers, shape, strides);
                    }
                    let numbers: Vec<$real> = array.iter().copied().collect();
                    View::new(numbers, shape, strides)
                }
            }
        };
    }

    host!(f32, F32);
    host!(f64, F64);
}

/// Distances where nothing lies in between.
fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}
