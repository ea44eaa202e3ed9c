//! The gradients that are sums over steps, and that of the input: one product for each segment.

use std::ops::Range;

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

use super::arithmetic::{add_to, columns, mul, series, slice, sum_rows, swap_if};
use super::norm::Standard;
use super::run::Run;
use super::step::{Passed, State};
use crate::fused::{LayerNormGradients, LstmGradients, LstmInputs, Wanted};
use crate::gates::Gate;

/// The gradients so far.
pub(super) struct Sums<'a, B: Backend> {
    inputs: &'a LstmInputs<B>,
    wanted: Wanted,
    /// Of the input, each step `[1, B, D]`.
    x: Vec<Option<FloatTensor<B>>>,
    weight_ih: Option<FloatTensor<B>>,
    weight_hh: Option<FloatTensor<B>>,
    bias: Option<FloatTensor<B>>,
    weight_hr: Option<FloatTensor<B>>,
    peephole: Option<FloatTensor<B>>,
    norm_input: Option<FloatTensor<B>>,
    norm_hidden: Option<FloatTensor<B>>,
    norm_cell: Option<FloatTensor<B>>,
    norm_cell_bias: Option<FloatTensor<B>>,
}

impl<'a, B: Backend> Sums<'a, B> {
    pub(super) fn new(inputs: &'a LstmInputs<B>, wanted: Wanted, steps: usize) -> Self {
        Self {
            inputs,
            wanted,
            x: vec![None; steps],
            weight_ih: None,
            weight_hh: None,
            bias: None,
            weight_hr: None,
            peephole: None,
            norm_input: None,
            norm_hidden: None,
            norm_cell: None,
            norm_cell_bias: None,
        }
    }

    /// Adds what some visits have left; `recurrent` as for [`Run::segment_back`].
    pub(super) fn add(
        &mut self,
        run: &Run<'_, B>,
        visits: Range<usize>,
        recurrent: Option<Standard<B>>,
        passed: Vec<Passed<B>>,
    ) {
        // `[S*B, 4H]`, step by step.
        let deltas = rows_of(&passed, |step| Some(&step.delta)).expect("of each step");
        self.add_projection(&passed);
        self.add_peepholes(run, &passed, &deltas);
        self.add_cell_norm(&passed);
        self.add_hidden(run, &passed, &deltas);
        if let Some(standard) = recurrent.filter(|_| self.wanted.layer_norm) {
            let gain = sum_rows::<B>(mul::<B>(&deltas, &standard.rows));
            add_to::<B>(&mut self.norm_hidden, gain);
        }
        drop(passed);
        self.add_input(run, visits, &deltas);
        if self.wanted.bias {
            add_to::<B>(&mut self.bias, sum_rows::<B>(deltas));
        }
    }

    /// All of them, with the gradient of the state before the first step.
    pub(super) fn finish(self, batch_first: bool, initial: State<B>) -> LstmGradients<B> {
        let wanted = self.wanted;
        let x = wanted.x.then(|| {
            let steps = self.x.into_iter();
            let steps = steps.map(|step| step.expect("every step is visited"));
            swap_if::<B>(batch_first, B::float_cat(steps.collect(), 0))
        });
        let norm = [
            self.norm_input,
            self.norm_hidden,
            self.norm_cell,
            self.norm_cell_bias,
        ];
        LstmGradients {
            x,
            weight_ih: self.weight_ih,
            weight_hh: self.weight_hh,
            bias: self.bias,
            h0: wanted.h0.then_some(initial.hidden),
            c0: wanted.c0.then_some(initial.cell),
            weight_hr: self.weight_hr,
            peephole: self.peephole,
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

    /// The input, its weights, and the gain of its part of the gates.
    fn add_input(&mut self, run: &Run<'_, B>, visits: Range<usize>, deltas: &FloatTensor<B>) {
        let wanted = self.wanted;
        let normed = wanted.layer_norm && run.norm.is_some();
        if !(wanted.x || wanted.weight_ih || normed) {
            return;
        }
        let deltas = match &run.norm {
            None => deltas.clone(),
            Some(norm) => {
                let projected = run.project(&run.input_rows(visits.clone()));
                let standard = norm.standardize(projected);
                if wanted.layer_norm {
                    let gain = sum_rows::<B>(mul::<B>(deltas, &standard.rows));
                    add_to::<B>(&mut self.norm_input, gain);
                }
                norm.back(mul::<B>(deltas, &norm.input), &standard)
            }
        };
        if wanted.x {
            let rows = B::float_matmul(deltas.clone(), self.inputs.weight_ih.clone());
            let steps = series::<B>(rows, visits.len());
            for (step, visit) in visits.clone().enumerate() {
                self.x[run.time(visit)] = Some(slice::<B>(&steps, step..step + 1));
            }
        }
        if wanted.weight_ih {
            let product = B::float_matmul(B::float_transpose(deltas), run.input_rows(visits));
            add_to::<B>(&mut self.weight_ih, product);
        }
    }

    /// The weights on the hidden state.
    fn add_hidden(&mut self, run: &Run<'_, B>, passed: &[Passed<B>], deltas: &FloatTensor<B>) {
        if !self.wanted.weight_hh {
            return;
        }
        let hidden = rows_of(passed, |step| Some(&step.hidden)).expect("of each step");
        let hidden = run.read_rows(hidden, passed.len());
        let recurrent = rows_of(passed, |step| step.recurrent.as_ref());
        let deltas = recurrent.unwrap_or_else(|| deltas.clone());
        let product = B::float_matmul(B::float_transpose(deltas), hidden);
        add_to::<B>(&mut self.weight_hh, product);
    }

    fn add_projection(&mut self, passed: &[Passed<B>]) {
        let part = |place: usize| rows_of(passed, |step| Some(&step.projected.as_ref()?[place]));
        if !self.wanted.weight_hr {
            return;
        }
        if let (Some(gradients), Some(read)) = (part(0), part(1)) {
            let product = B::float_matmul(B::float_transpose(gradients), read);
            add_to::<B>(&mut self.weight_hr, product);
        }
    }

    fn add_peepholes(&mut self, run: &Run<'_, B>, passed: &[Passed<B>], deltas: &FloatTensor<B>) {
        if !self.wanted.peephole {
            return;
        }
        let part = |place: usize| rows_of(passed, |step| Some(&step.cells.as_ref()?[place]));
        if let (Some(before), Some(inner)) = (part(0), part(1)) {
            let seen = [
                (Gate::Input, &before),
                (Gate::Forget, &before),
                (Gate::Output, &inner),
            ];
            let of_gates = seen.map(|(gate, cells)| {
                let from = gate.offset(run.d_hidden);
                let deltas = columns::<B>(deltas, from..from + run.d_hidden);
                sum_rows::<B>(B::float_mul(deltas, cells.clone()))
            });
            add_to::<B>(&mut self.peephole, B::float_cat(of_gates.to_vec(), 0));
        }
    }

    /// Gain and shift of the cell state.
    fn add_cell_norm(&mut self, passed: &[Passed<B>]) {
        if !self.wanted.layer_norm {
            return;
        }
        let part = |place: usize| rows_of(passed, |step| Some(&step.normed.as_ref()?[place]));
        if let (Some(gradients), Some(rows)) = (part(0), part(1)) {
            let gain = sum_rows::<B>(mul::<B>(&gradients, &rows));
            add_to::<B>(&mut self.norm_cell, gain);
            add_to::<B>(&mut self.norm_cell_bias, sum_rows::<B>(gradients));
        }
    }
}

/// Something of each step below each other, if they have it.
fn rows_of<B: Backend>(
    passed: &[Passed<B>],
    part: impl Fn(&Passed<B>) -> Option<&FloatTensor<B>>,
) -> Option<FloatTensor<B>> {
    let rows: Option<Vec<_>> = passed.iter().map(|step| part(step).cloned()).collect();
    rows.map(|rows| B::float_cat(rows, 0))
}
