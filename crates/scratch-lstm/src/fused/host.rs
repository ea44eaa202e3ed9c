//! From a backend's tensors to the kernels and back, for backends whose numbers lie in the memory
//! of this process.

use std::borrow::Cow;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Element, FloatDType, TensorData};

use scratch_lstm_kernels::{self as kernels, InstructionSet, Plan, Real, Series, Sizes, Walk};

use super::{
    Keep, LstmCall, LstmCotangents, LstmGradients, LstmInputs, LstmOutputs, Saved, Wanted, composed,
};
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
    if !serves(&inputs, call) {
        return composed::forward(inputs, call, keep);
    }
    match inputs.x.dtype() {
        DType::F32 => forward_in::<B, f32>(inputs, call, keep),
        DType::F64 => forward_in::<B, f64>(inputs, call, keep),
        half => {
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
    if !serves(&inputs, call) {
        return composed::backward(inputs, saved, cotangents, call, wanted);
    }
    match inputs.x.dtype() {
        DType::F32 => backward_in::<B, f32>(inputs, output, saved, cotangents, call, wanted),
        DType::F64 => backward_in::<B, f64>(inputs, output, saved, cotangents, call, wanted),
        half => {
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

/// Whether the kernels compute it.
fn serves<B: Backend>(inputs: &LstmInputs<B>, call: &LstmCall) -> bool {
    inputs.is_plain(call) && !matches!(call.valid, Valid::Mask(_))
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
        ..
    } = sizes;
    let mut output = vec![T::default(); batch * steps * d_hidden];
    let mut hidden = vec![T::default(); batch * d_hidden];
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
        output: tensor(output, &series_shape(sizes, call.batch_first, d_hidden)),
        hidden: tensor(hidden, &[batch, d_hidden]),
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
        ..
    } = sizes;
    let output = B::view(&output).into_series_view();
    let d_output = cotangents
        .output
        .as_ref()
        .map(|tensor| B::view(tensor).into_series_view());
    let rows = |tensor: &Option<FloatTensor<B>>| {
        let tensor = tensor.as_ref()?;
        let view = B::view(tensor);
        assert_eq!(view.shape, [batch, d_hidden], "the gradient of a state");
        Some(view.into_dense().into_owned())
    };
    let (d_hidden_n, d_cell_n) = (rows(&cotangents.hidden), rows(&cotangents.cell));
    let gradients = kernels::backward(
        &read,
        output.series(sizes, call.batch_first, d_hidden),
        saved.into_inner::<kernels::Saved<T>>(),
        kernels::Cotangents {
            output: d_output
                .as_ref()
                .map(|view| view.series(sizes, call.batch_first, d_hidden)),
            hidden: d_hidden_n.as_deref(),
            cell: d_cell_n.as_deref(),
        },
        kernels::Wanted {
            x: wanted.x,
            weight_ih: wanted.weight_ih,
            weight_hh: wanted.weight_hh,
            bias: wanted.bias,
            h0: wanted.h0,
            c0: wanted.c0,
        },
    );
    let device = inputs.x.device();
    let tensor = |numbers: Option<Vec<T>>, shape: &[usize]| {
        let data = TensorData::new(numbers?, shape.to_vec());
        Some(B::float_from_data(data, &device))
    };
    LstmGradients {
        x: tensor(gradients.x, &series_shape(sizes, call.batch_first, d_input)),
        weight_ih: tensor(gradients.weight_ih, &[COUNT * d_hidden, d_input]),
        weight_hh: tensor(gradients.weight_hh, &[COUNT * d_hidden, d_hidden]),
        bias: tensor(gradients.bias, &[COUNT * d_hidden]),
        h0: tensor(gradients.h0, &[batch, d_hidden]),
        c0: tensor(gradients.c0, &[batch, d_hidden]),
        weight_hr: None,
        peephole: None,
        layer_norm: None,
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
}

impl<'a, T: Real> Numbers<'a, T> {
    /// # Panics
    ///
    /// If the shapes do not fit each other: the kernels rely on them.
    fn new<B: Host<T>>(inputs: &'a LstmInputs<B>, call: &'a LstmCall) -> Self {
        let sizes = inputs.check(call);
        let dense = |tensor: &'a FloatTensor<B>| B::view(tensor).into_dense();
        Self {
            sizes,
            call,
            x: B::view(&inputs.x).into_series_view(),
            weight_ih: dense(&inputs.weight_ih),
            weight_hh: dense(&inputs.weight_hh),
            bias: dense(&inputs.bias),
            h0: dense(&inputs.h0),
            c0: dense(&inputs.c0),
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
        } = self;
        kernels::Inputs {
            sizes: *sizes,
            walk: Walk {
                reverse: call.reverse,
                lengths: match &call.valid {
                    Valid::Lengths(lengths) => Some(lengths),
                    _ => None,
                },
            },
            batch_first: call.batch_first,
            x: x.series(*sizes, call.batch_first, sizes.d_input),
            weight_ih,
            weight_hh,
            bias,
            h0,
            c0,
        }
    }
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
