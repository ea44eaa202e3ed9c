//! The gradients that are sums over steps, and that of the input: one product for each segment.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Shape, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;

use super::run::{GAINS, Gradient, Passed, Run, transposed};
use crate::fused::{LayerNormGradients, LstmGradients, Wanted};
use crate::gates::COUNT;

/// The gradients so far, in the type of sums.
pub(super) struct Sums<'a> {
    run: &'a Run<'a>,
    wanted: Wanted,
    /// Of the input, of each segment from the last one on.
    x: Vec<CubeTensor>,
    weight_ih: Option<CubeTensor>,
    weight_hh: Option<CubeTensor>,
    bias: Option<CubeTensor>,
    weight_hr: Option<CubeTensor>,
    norm_input: Option<CubeTensor>,
}

impl<'a> Sums<'a> {
    pub(super) fn new(run: &'a Run<'a>, wanted: Wanted) -> Self {
        Self {
            run,
            wanted,
            x: Vec::new(),
            weight_ih: None,
            weight_hh: None,
            bias: None,
            weight_hr: None,
            norm_input: None,
        }
    }

    /// Adds what some visits have left: `delta` are the gradients of their gates, `[N, 4H]`, `seen`
    /// what those saw of the hidden state, `[N, P]`.
    pub(super) fn add(
        &mut self,
        visits: Range<usize>,
        delta: CubeTensor,
        passed: Passed,
        seen: impl FnOnce() -> CubeTensor,
    ) {
        let Self { run, wanted, .. } = *self;
        let product = |left: &CubeTensor, right| run.product(transposed(left), right);
        let Passed {
            recurrent,
            projected,
        } = passed;
        // Each goes when it has been used.
        let recurrent = recurrent.unwrap_or_else(|| delta.clone());
        if wanted.weight_hh {
            add_to(run, &mut self.weight_hh, product(&recurrent, seen()));
        }
        drop(recurrent);
        if let Some([gradient, read]) = projected.filter(|_| wanted.weight_hr) {
            add_to(run, &mut self.weight_hr, product(&gradient, read));
        }
        if wanted.bias {
            add_to(run, &mut self.bias, sum_rows(delta.clone()));
        }
        let normed = run.norm.is_some() && wanted.layer_norm;
        if !(wanted.x || wanted.weight_ih || normed) {
            return;
        }
        let delta = self.before_norm(&visits, delta);
        if wanted.weight_ih {
            let rows = run.input_rows(visits.clone());
            add_to(run, &mut self.weight_ih, product(&delta, rows));
        }
        if wanted.x {
            let rows = run.product(delta, run.weight_ih.clone());
            self.x.push(run.series(rows, &visits));
        }
    }

    /// From the gradient of the input's part of the gates to that before its normalization.
    fn before_norm(&mut self, visits: &Range<usize>, delta: CubeTensor) -> CubeTensor {
        let run = self.run;
        let Some(norm) = &run.norm else {
            return delta;
        };
        let normal = run.normalized(run.projected_inputs(visits.clone()), None);
        if self.wanted.layer_norm {
            let gains = CubeBackend::float_mul(normal.rows.clone(), delta.clone());
            add_to(run, &mut self.norm_input, sum_rows(gains));
        }
        run.normalized_back(&delta, &norm.input, normal)
    }

    /// All of them, with the gradient of the state before the first step.
    pub(super) fn finish(self, gradient: Gradient) -> LstmGradients<CubeBackend> {
        let Self {
            run,
            wanted,
            mut x,
            norm_input,
            ..
        } = self;
        // They were walked over from the last to the first.
        if !run.call.reverse {
            x.reverse();
        }
        let result = |sum: Option<CubeTensor>| sum.map(|sum| run.result(sum));
        let gains = gradient.gains.clone().filter(|_| wanted.layer_norm);
        let peephole = gradient.peephole.clone().filter(|_| wanted.peephole);
        LstmGradients {
            x: match x.len() {
                0 | 1 => x.pop(),
                _ => Some(CubeBackend::float_cat(x, run.time_axis())),
            },
            weight_ih: result(self.weight_ih),
            weight_hh: result(self.weight_hh),
            bias: result(self.bias),
            h0: wanted.h0.then(|| run.hidden_gradient(&gradient)),
            c0: wanted.c0.then(|| run.result(gradient.cell)),
            weight_hr: result(self.weight_hr),
            peephole: result(peephole.map(sum_rows)),
            layer_norm: gains.zip(norm_input).map(|(gains, input)| {
                let gains = run.result(sum_rows(gains));
                let d_hidden = run.sizes.d_hidden;
                let block = |blocks: Range<usize>| {
                    let numbers = blocks.start * d_hidden..blocks.end * d_hidden;
                    CubeBackend::float_slice(gains.clone(), &[Slice::from(numbers)])
                };
                LayerNormGradients {
                    input: run.result(input),
                    hidden: block(0..COUNT),
                    cell: block(COUNT..COUNT + 1),
                    cell_bias: block(COUNT + 1..GAINS),
                }
            }),
        }
    }
}

/// Of several segments in the type of sums.
fn add_to(run: &Run<'_>, sum: &mut Option<CubeTensor>, term: CubeTensor) {
    let term = run.summand(term);
    *sum = Some(match sum.take() {
        None => term,
        Some(sum) => CubeBackend::float_add(sum, term),
    });
}

/// The sum of all rows of a matrix, `[N]`.
fn sum_rows(matrix: CubeTensor) -> CubeTensor {
    let [_, width] = matrix.shape().dims();
    reshape(CubeBackend::float_sum_dim(matrix, 0), Shape::new([width]))
}
