//! Problems in f64, solved by loops over single numbers that are written from the equations and
//! nothing else, and by the kernels.

use crate::layout::distances;
use crate::{
    Activations, Cell, Cotangents, Gradients, Inputs, InstructionSet, Keep, LayerNorm,
    LayerNormGradients, Outputs, Plan, Real, Series, Sizes, Valid, Walk, Wanted, backward, forward,
};

/// What keeps the variances away from 0.
pub(super) const EPSILON: f64 = 1.0 / 1024.0;

/// One problem, in f64; each number is one that f32 has.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) sizes: Sizes,
    pub(super) reverse: bool,
    pub(super) batch_first: bool,
    pub(super) valid: Steps,
    pub(super) variant: Variant,
    pub(super) x: Vec<f64>,
    pub(super) weight_ih: Vec<f64>,
    pub(super) weight_hh: Vec<f64>,
    pub(super) bias: Vec<f64>,
    pub(super) h0: Vec<f64>,
    pub(super) c0: Vec<f64>,
    pub(super) weight_hr: Vec<f64>,
    pub(super) peephole: Vec<f64>,
    pub(super) gain_input: Vec<f64>,
    pub(super) gain_hidden: Vec<f64>,
    pub(super) gain_cell: Vec<f64>,
    pub(super) gain_cell_bias: Vec<f64>,
    hidden_mask: Vec<f64>,
    zoneout_hidden: Vec<f64>,
    zoneout_cell: Vec<f64>,
    pub(super) d_output: Vec<f64>,
    pub(super) d_hidden: Vec<f64>,
    pub(super) d_cell: Vec<f64>,
    /// What the kernels are asked for.
    pub(super) wanted: Wanted,
}

/// Which steps the rows have.
#[derive(Debug, Clone)]
pub(super) enum Steps {
    All,
    Lengths(Vec<usize>),
    /// `[T, B]`
    Mask(Vec<bool>),
}

/// What the cell has besides.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Variant {
    pub(super) projection: bool,
    pub(super) peephole: bool,
    pub(super) coupled: bool,
    pub(super) clip_gates: Option<f64>,
    pub(super) clip_cell: Option<f64>,
    pub(super) layer_norm: bool,
    pub(super) hidden_mask: bool,
    pub(super) zoneout_hidden: Zoneout,
    pub(super) zoneout_cell: Zoneout,
    /// Forward only.
    pub(super) activations: Activations,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Zoneout {
    #[default]
    None,
    Masks,
    Rate(f64),
}

/// Everything that comes out, by name.
pub(super) type Results = Vec<(&'static str, Vec<f64>)>;

impl Problem {
    /// All gradients.
    pub(super) const ALL: Wanted = Wanted {
        x: true,
        weight_ih: true,
        weight_hh: true,
        weight_hr: true,
        bias: true,
        peephole: true,
        layer_norm: true,
        h0: true,
        c0: true,
    };

    /// Of the four gates alone.
    pub(super) fn new(
        sizes: Sizes,
        reverse: bool,
        batch_first: bool,
        lengths: Option<Vec<usize>>,
    ) -> Self {
        let valid = lengths.map_or(Steps::All, Steps::Lengths);
        Self::of(sizes, reverse, batch_first, valid, Variant::default())
    }

    pub(super) fn of(
        sizes: Sizes,
        reverse: bool,
        batch_first: bool,
        valid: Steps,
        variant: Variant,
    ) -> Self {
        let Sizes {
            batch,
            steps,
            d_input,
            d_hidden,
            d_output,
        } = sizes;
        let mut numbers = Numbers::new((batch * 31 + steps * 7 + d_hidden) as u64);
        let mut draw = |count: usize, bound: f64| numbers.within(count, bound);
        let bound = 1.5 / (d_hidden as f64).sqrt();
        let (hidden, cells) = (batch * d_output, batch * d_hidden);
        let mut problem = Self {
            sizes,
            reverse,
            batch_first,
            valid,
            variant,
            x: draw(batch * steps * d_input, 1.0),
            weight_ih: draw(4 * d_hidden * d_input, bound),
            weight_hh: draw(4 * d_hidden * d_output, bound),
            bias: draw(4 * d_hidden, 0.7),
            h0: draw(hidden, 1.0),
            c0: draw(cells, 1.0),
            d_output: draw(steps * hidden, 1.0),
            d_hidden: draw(hidden, 1.0),
            d_cell: draw(cells, 1.0),
            weight_hr: draw(d_output * d_hidden, bound),
            peephole: draw(3 * d_hidden, 1.0),
            gain_input: draw(4 * d_hidden, 1.5),
            gain_hidden: draw(4 * d_hidden, 1.5),
            gain_cell: draw(d_hidden, 1.5),
            gain_cell_bias: draw(d_hidden, 0.5),
            hidden_mask: Vec::new(),
            zoneout_hidden: Vec::new(),
            zoneout_cell: Vec::new(),
            wanted: Self::ALL,
        };
        // As dropout has it: what is left is scaled.
        problem.hidden_mask = numbers
            .bits(hidden)
            .map(|bit| if bit { 1.5 } else { 0.0 })
            .collect();
        let mut zoneout = |zoneout, count| match zoneout {
            Zoneout::None => Vec::new(),
            Zoneout::Masks => numbers.bits(count).map(f64::from).collect(),
            Zoneout::Rate(rate) => vec![rate; count],
        };
        problem.zoneout_hidden = zoneout(variant.zoneout_hidden, steps * hidden);
        problem.zoneout_cell = zoneout(variant.zoneout_cell, steps * cells);
        problem
    }

    pub(super) fn small() -> Self {
        let sizes = Sizes {
            batch: 3,
            steps: 7,
            d_input: 5,
            d_hidden: 11,
            d_output: 11,
        };
        Self::new(sizes, false, true, None)
    }

    /// Where a row's numbers at a step begin.
    pub(super) fn place(&self, row: usize, time: usize, width: usize) -> usize {
        let Sizes { batch, steps, .. } = self.sizes;
        if self.batch_first {
            (row * steps + time) * width
        } else {
            (time * batch + row) * width
        }
    }

    /// Whether a row has a step.
    pub(super) fn is_valid(&self, time: usize, row: usize) -> bool {
        match &self.valid {
            Steps::All => true,
            Steps::Lengths(lengths) => time < lengths[row],
            Steps::Mask(mask) => mask[time * self.sizes.batch + row],
        }
    }

    /// What gradients are taken of, by their names in [`Results`].
    pub(super) fn parameters(&mut self) -> Vec<(&'static str, &mut Vec<f64>)> {
        let Variant {
            projection,
            peephole,
            layer_norm,
            ..
        } = self.variant;
        let all = [
            (true, "d_x", &mut self.x),
            (true, "d_weight_ih", &mut self.weight_ih),
            (true, "d_weight_hh", &mut self.weight_hh),
            (true, "d_bias", &mut self.bias),
            (true, "d_h0", &mut self.h0),
            (true, "d_c0", &mut self.c0),
            (projection, "d_weight_hr", &mut self.weight_hr),
            (peephole, "d_peephole", &mut self.peephole),
            (layer_norm, "d_gain_input", &mut self.gain_input),
            (layer_norm, "d_gain_hidden", &mut self.gain_hidden),
            (layer_norm, "d_gain_cell", &mut self.gain_cell),
            (layer_norm, "d_gain_cell_bias", &mut self.gain_cell_bias),
        ];
        all.into_iter()
            .filter(|(present, _, _)| *present)
            .map(|(_, name, numbers)| (name, numbers))
            .collect()
    }

    /// The sum of the results, each times its gradient.
    pub(super) fn loss(&self) -> f64 {
        let (results, _) = self.walk();
        [
            ("output", &self.d_output),
            ("hidden", &self.d_hidden),
            ("cell", &self.d_cell),
        ]
        .into_iter()
        .map(|(name, gradient)| dot(of_name(&results, name), gradient))
        .sum()
    }

    /// The loops.
    pub(super) fn solve(&self) -> Results {
        let Sizes {
            batch,
            d_hidden,
            d_output,
            ..
        } = self.sizes;
        let mut d = Sums {
            x: vec![0.0; self.x.len()],
            weight_ih: vec![0.0; self.weight_ih.len()],
            weight_hh: vec![0.0; self.weight_hh.len()],
            bias: vec![0.0; self.bias.len()],
            weight_hr: vec![0.0; self.weight_hr.len()],
            peephole: vec![0.0; self.peephole.len()],
            gain_input: vec![0.0; self.gain_input.len()],
            gain_hidden: vec![0.0; self.gain_hidden.len()],
            gain_cell: vec![0.0; d_hidden],
            gain_cell_bias: vec![0.0; d_hidden],
        };
        let mut d_h0 = vec![0.0; batch * d_output];
        let mut d_c0 = vec![0.0; batch * d_hidden];
        let (mut results, tapes) = self.walk();
        for (row, tape) in tapes.into_iter().enumerate() {
            let of_hidden = row * d_output..(row + 1) * d_output;
            let of_cell = row * d_hidden..(row + 1) * d_hidden;
            let mut dh = self.d_hidden[of_hidden.clone()].to_vec();
            let mut dc = self.d_cell[of_cell.clone()].to_vec();
            for (time, step) in tape.into_iter().rev() {
                let shown = &self.d_output[self.place(row, time, d_output)..][..d_output];
                for (dh, shown) in dh.iter_mut().zip(shown) {
                    *dh += shown;
                }
                (dh, dc) = self.step_back(row, time, &step, &dh, &dc, &mut d);
            }
            d_h0[of_hidden].copy_from_slice(&dh);
            d_c0[of_cell].copy_from_slice(&dc);
        }
        results.extend([
            ("d_x", d.x),
            ("d_weight_ih", d.weight_ih),
            ("d_weight_hh", d.weight_hh),
            ("d_bias", d.bias),
            ("d_h0", d_h0),
            ("d_c0", d_c0),
            ("d_weight_hr", d.weight_hr),
            ("d_peephole", d.peephole),
            ("d_gain_input", d.gain_input),
            ("d_gain_hidden", d.gain_hidden),
            ("d_gain_cell", d.gain_cell),
            ("d_gain_cell_bias", d.gain_cell_bias),
        ]);
        results
    }

    /// Forward: the results, and for each row its steps with their times.
    fn walk(&self) -> (Results, Vec<Vec<(usize, Taped)>>) {
        let Sizes {
            batch,
            steps,
            d_hidden,
            d_output,
            ..
        } = self.sizes;
        let mut output = vec![0.0; batch * steps * d_output];
        let (mut final_hidden, mut final_cell) = (Vec::new(), Vec::new());
        let mut tapes = Vec::new();
        for row in 0..batch {
            let mut hidden = self.h0[row * d_output..(row + 1) * d_output].to_vec();
            let mut cell = self.c0[row * d_hidden..(row + 1) * d_hidden].to_vec();
            let mut times: Vec<usize> = (0..steps)
                .filter(|&time| self.is_valid(time, row))
                .collect();
            if self.reverse {
                times.reverse();
            }
            let mut tape = Vec::new();
            for &time in &times {
                let step = self.step(row, time, &hidden, &cell);
                hidden.clone_from(&step.hidden);
                cell.clone_from(&step.cell);
                output[self.place(row, time, d_output)..][..d_output].copy_from_slice(&hidden);
                tape.push((time, step));
            }
            final_hidden.extend(hidden);
            final_cell.extend(cell);
            tapes.push(tape);
        }
        let results = vec![
            ("output", output),
            ("hidden", final_hidden),
            ("cell", final_cell),
        ];
        (results, tapes)
    }

    /// One step of one row.
    fn step(&self, row: usize, time: usize, h: &[f64], c: &[f64]) -> Taped {
        let Sizes {
            d_input,
            d_hidden,
            d_output,
            ..
        } = self.sizes;
        let Variant {
            projection,
            peephole,
            coupled,
            clip_gates,
            clip_cell,
            layer_norm,
            hidden_mask,
            zoneout_hidden,
            zoneout_cell,
            activations,
        } = self.variant;
        let x = &self.x[self.place(row, time, d_input)..][..d_input];
        let seen: Vec<f64> = (0..d_output)
            .map(|p| match hidden_mask {
                true => self.hidden_mask[row * d_output + p] * h[p],
                false => h[p],
            })
            .collect();
        let on_x: Vec<f64> = (0..4 * d_hidden)
            .map(|k| dot(&self.weight_ih[k * d_input..][..d_input], x))
            .collect();
        let on_h: Vec<f64> = (0..4 * d_hidden)
            .map(|k| dot(&self.weight_hh[k * d_output..][..d_output], &seen))
            .collect();
        let (norm_x, norm_h) = (
            Normed::new(&on_x, self.normed_gates()),
            Normed::new(&on_h, self.normed_gates()),
        );
        let z = |gate: usize, j: usize| {
            let k = gate * d_hidden + j;
            let sum = match layer_norm {
                true => {
                    self.gain_input[k] * norm_x.numbers[k] + self.gain_hidden[k] * norm_h.numbers[k]
                }
                false => on_x[k] + on_h[k],
            };
            sum + self.bias[k]
        };
        let look = |number: usize, j: usize, cell: f64| match peephole {
            true => self.peephole[number * d_hidden + j] * cell,
            false => 0.0,
        };
        let clip = |v: f64, bound: Option<f64>| bound.map_or(v, |bound| v.clamp(-bound, bound));

        let (mut zs, mut gates, mut raw_cell) = (Vec::new(), Vec::new(), Vec::new());
        for j in 0..d_hidden {
            let z_i = z(0, j) + look(0, j, c[j]);
            let z_f = z(1, j) + look(1, j, c[j]);
            let z_g = z(2, j);
            let i = activations.gate.apply(clip(z_i, clip_gates));
            let f = match coupled {
                true => 1.0 - i,
                false => activations.gate.apply(clip(z_f, clip_gates)),
            };
            let g = activations.cell.apply(clip(z_g, clip_gates));
            raw_cell.push(f * c[j] + i * g);
            let z_o = z(3, j) + look(2, j, clip(raw_cell[j], clip_cell));
            let o = activations.gate.apply(clip(z_o, clip_gates));
            zs.push([z_i, z_f, z_g, z_o]);
            gates.push([i, f, g, o]);
        }
        let new_cell: Vec<f64> = raw_cell.iter().map(|&v| clip(v, clip_cell)).collect();
        let norm_c = Normed::new(&new_cell, vec![true; d_hidden]);
        let tanh: Vec<f64> = (0..d_hidden)
            .map(|j| match layer_norm {
                true => self.gain_cell[j] * norm_c.numbers[j] + self.gain_cell_bias[j],
                false => new_cell[j],
            })
            .map(|v| activations.hidden.apply(v))
            .collect();
        let shown: Vec<f64> = (0..d_hidden).map(|j| gates[j][3] * tanh[j]).collect();
        let new_hidden: Vec<f64> = match projection {
            true => (0..d_output)
                .map(|p| dot(&self.weight_hr[p * d_hidden..][..d_hidden], &shown))
                .collect(),
            false => shown.clone(),
        };
        let kept_cell = |j: usize| match zoneout_cell {
            Zoneout::None => 0.0,
            _ => self.zoneout_cell[self.place(row, time, d_hidden) + j],
        };
        let kept_hidden = |p: usize| match zoneout_hidden {
            Zoneout::None => 0.0,
            _ => self.zoneout_hidden[self.place(row, time, d_output) + p],
        };
        Taped {
            seen,
            before: c.to_vec(),
            zs,
            gates,
            cell: (0..d_hidden)
                .map(|j| new_cell[j] + kept_cell(j) * (c[j] - new_cell[j]))
                .collect(),
            hidden: (0..d_output)
                .map(|p| new_hidden[p] + kept_hidden(p) * (h[p] - new_hidden[p]))
                .collect(),
            kept_cell: (0..d_hidden).map(kept_cell).collect(),
            kept_hidden: (0..d_output).map(kept_hidden).collect(),
            raw_cell,
            new_cell,
            tanh,
            shown,
            norm_x,
            norm_h,
            norm_c,
        }
    }

    /// One step back: from the gradients of the states after it to those before it.
    fn step_back(
        &self,
        row: usize,
        time: usize,
        step: &Taped,
        dh: &[f64],
        dc: &[f64],
        d: &mut Sums,
    ) -> (Vec<f64>, Vec<f64>) {
        let Sizes {
            d_input,
            d_hidden,
            d_output,
            ..
        } = self.sizes;
        let variant = self.variant;
        let mut dh_before = vec![0.0; d_output];
        let mut dc_before = vec![0.0; d_hidden];
        let mut d_new_hidden = vec![0.0; d_output];
        for p in 0..d_output {
            dh_before[p] = step.kept_hidden[p] * dh[p];
            d_new_hidden[p] = (1.0 - step.kept_hidden[p]) * dh[p];
        }
        let mut d_shown = vec![0.0; d_hidden];
        for j in 0..d_hidden {
            if !variant.projection {
                d_shown[j] = d_new_hidden[j];
                continue;
            }
            for (p, d_new_hidden) in d_new_hidden.iter().enumerate() {
                d_shown[j] += d_new_hidden * self.weight_hr[p * d_hidden + j];
                d.weight_hr[p * d_hidden + j] += d_new_hidden * step.shown[j];
            }
        }
        let is_clipped =
            |v: f64, bound: Option<f64>| bound.is_some_and(|bound| v < -bound || v > bound);
        // Of z, 0 where it was clipped.
        let through = |d_gate: f64, slope: f64, z: f64| match is_clipped(z, variant.clip_gates) {
            true => 0.0,
            false => d_gate * slope,
        };
        let d_tanh: Vec<f64> = (0..d_hidden)
            .map(|j| d_shown[j] * step.gates[j][3] * (1.0 - step.tanh[j] * step.tanh[j]))
            .collect();
        let mut d_new_cell = d_tanh.clone();
        if variant.layer_norm {
            let d_norm: Vec<f64> = (0..d_hidden)
                .map(|j| {
                    d.gain_cell[j] += d_tanh[j] * step.norm_c.numbers[j];
                    d.gain_cell_bias[j] += d_tanh[j];
                    d_tanh[j] * self.gain_cell[j]
                })
                .collect();
            d_new_cell = step.norm_c.back(&d_norm);
        }
        let mut delta = vec![0.0; 4 * d_hidden];
        for j in 0..d_hidden {
            let ([i, f, g, o], [z_i, z_f, z_g, z_o]) = (step.gates[j], step.zs[j]);
            let peephole = |number: usize| match variant.peephole {
                true => self.peephole[number * d_hidden + j],
                false => 0.0,
            };
            let delta_o = through(d_shown[j] * step.tanh[j], o * (1.0 - o), z_o);
            let mut d_raw = d_new_cell[j] + (1.0 - step.kept_cell[j]) * dc[j];
            d_raw += delta_o * peephole(2);
            if is_clipped(step.raw_cell[j], variant.clip_cell) {
                d_raw = 0.0;
            }
            let (mut d_i, d_f) = (d_raw * g, d_raw * step.before[j]);
            if variant.coupled {
                d_i -= d_f;
            }
            let delta_i = through(d_i, i * (1.0 - i), z_i);
            let delta_f = match variant.coupled {
                true => 0.0,
                false => through(d_f, f * (1.0 - f), z_f),
            };
            let delta_g = through(d_raw * i, 1.0 - g * g, z_g);
            dc_before[j] = step.kept_cell[j] * dc[j]
                + d_raw * f
                + delta_i * peephole(0)
                + delta_f * peephole(1);
            d.peephole[j] += delta_i * step.before[j];
            d.peephole[d_hidden + j] += delta_f * step.before[j];
            d.peephole[2 * d_hidden + j] += delta_o * step.new_cell[j];
            for (gate, number) in [delta_i, delta_f, delta_g, delta_o].into_iter().enumerate() {
                delta[gate * d_hidden + j] = number;
            }
        }
        let (mut d_on_x, mut d_on_h) = (delta.clone(), delta.clone());
        if variant.layer_norm {
            let (mut d_norm_x, mut d_norm_h) = (delta.clone(), delta.clone());
            for k in 0..4 * d_hidden {
                d.gain_input[k] += delta[k] * step.norm_x.numbers[k];
                d.gain_hidden[k] += delta[k] * step.norm_h.numbers[k];
                d_norm_x[k] *= self.gain_input[k];
                d_norm_h[k] *= self.gain_hidden[k];
            }
            d_on_x = step.norm_x.back(&d_norm_x);
            d_on_h = step.norm_h.back(&d_norm_h);
        }
        let x = self.place(row, time, d_input);
        for k in 0..4 * d_hidden {
            d.bias[k] += delta[k];
            for column in 0..d_input {
                d.weight_ih[k * d_input + column] += d_on_x[k] * self.x[x + column];
                d.x[x + column] += d_on_x[k] * self.weight_ih[k * d_input + column];
            }
            for (p, dh_before) in dh_before.iter_mut().enumerate() {
                d.weight_hh[k * d_output + p] += d_on_h[k] * step.seen[p];
                let mask = match variant.hidden_mask {
                    true => self.hidden_mask[row * d_output + p],
                    false => 1.0,
                };
                *dh_before += mask * d_on_h[k] * self.weight_hh[k * d_output + p];
            }
        }
        (dh_before, dc_before)
    }

    /// Which gates are normalized together.
    fn normed_gates(&self) -> Vec<bool> {
        let d_hidden = self.sizes.d_hidden;
        (0..4 * d_hidden)
            .map(|k| !(self.variant.coupled && k / d_hidden == 1))
            .collect()
    }

    /// The kernels.
    fn run<T: Real>(
        &self,
        to: fn(f64) -> T,
        from: fn(T) -> f64,
        adjust: impl FnOnce(Plan) -> Plan,
        set: InstructionSet,
        keep: Keep,
    ) -> Results {
        let Sizes {
            batch,
            steps,
            d_input,
            d_hidden,
            d_output,
        } = self.sizes;
        let variant = self.variant;
        let convert = |numbers: &[f64]| -> Vec<T> { numbers.iter().map(|&x| to(x)).collect() };
        let (x, weight_ih) = (convert(&self.x), convert(&self.weight_ih));
        let (weight_hh, bias) = (convert(&self.weight_hh), convert(&self.bias));
        let (h0, c0) = (convert(&self.h0), convert(&self.c0));
        let (weight_hr, peephole) = (convert(&self.weight_hr), convert(&self.peephole));
        let (gain_input, gain_hidden) = (convert(&self.gain_input), convert(&self.gain_hidden));
        let (gain_cell, cell_bias) = (convert(&self.gain_cell), convert(&self.gain_cell_bias));
        let hidden_mask = convert(&self.hidden_mask);
        let zoneout_hidden = convert(&self.zoneout_hidden);
        let zoneout_cell = convert(&self.zoneout_cell);
        let series = |numbers, width| {
            let [of_row, of_step] = distances(self.sizes, self.batch_first, width);
            Series::new(numbers, [batch, steps, width], of_row, of_step)
        };
        let zoneout = |zoneout, numbers, width| match zoneout {
            Zoneout::None => None,
            Zoneout::Masks => Some(series(numbers, width)),
            // All rows and steps are the same one.
            Zoneout::Rate(_) => Some(Series::new(numbers, [batch, steps, width], 0, 0)),
        };
        let inputs = Inputs {
            sizes: self.sizes,
            walk: Walk {
                reverse: self.reverse,
                valid: match &self.valid {
                    Steps::All => Valid::All,
                    Steps::Lengths(lengths) => Valid::Lengths(lengths),
                    Steps::Mask(mask) => Valid::Mask(mask),
                },
            },
            batch_first: self.batch_first,
            x: series(&x, d_input),
            weight_ih: &weight_ih,
            weight_hh: &weight_hh,
            bias: &bias,
            h0: &h0,
            c0: &c0,
            cell: Cell {
                weight_hr: variant.projection.then_some(&weight_hr),
                peephole: variant.peephole.then_some(&peephole),
                coupled: variant.coupled,
                clip_gates: variant.clip_gates.map(to),
                clip_cell: variant.clip_cell.map(to),
                layer_norm: variant.layer_norm.then_some(LayerNorm {
                    input: &gain_input,
                    hidden: &gain_hidden,
                    cell: &gain_cell,
                    cell_bias: &cell_bias,
                    epsilon: to(EPSILON),
                }),
                hidden_mask: variant.hidden_mask.then_some(&hidden_mask),
                zoneout_hidden: zoneout(variant.zoneout_hidden, &zoneout_hidden, d_output),
                zoneout_cell: zoneout(variant.zoneout_cell, &zoneout_cell, d_hidden),
            },
        };
        let mut output = vec![to(f64::NAN); batch * steps * d_output];
        let mut hidden = vec![to(f64::NAN); batch * d_output];
        let mut cell = vec![to(f64::NAN); batch * d_hidden];
        let outputs = Outputs {
            output: &mut output,
            hidden: &mut hidden,
            cell: &mut cell,
        };
        let plan = adjust(Plan::new::<T>(set, self.sizes, keep));
        let saved = forward(&inputs, outputs, plan);
        let back = |numbers: Vec<T>| -> Vec<f64> { numbers.into_iter().map(from).collect() };
        let mut results: Results = Vec::new();
        if keep != Keep::Nothing {
            let (d_output, d_hidden) = (convert(&self.d_output), convert(&self.d_hidden));
            let d_cell = convert(&self.d_cell);
            let cotangents = Cotangents {
                output: Some(series(&d_output, self.sizes.d_output)),
                hidden: Some(&d_hidden),
                cell: Some(&d_cell),
            };
            let wanted = self.wanted;
            let output = series(&output, self.sizes.d_output);
            let gradients = backward(&inputs, output, saved, cotangents, wanted);
            let Gradients {
                x,
                weight_ih,
                weight_hh,
                weight_hr,
                bias,
                peephole,
                layer_norm,
                h0,
                c0,
            } = gradients;
            let norm = layer_norm.map(|norm| {
                let LayerNormGradients {
                    input,
                    hidden,
                    cell,
                    cell_bias,
                } = norm;
                [input, hidden, cell, cell_bias].map(Some)
            });
            let [input, hidden, cell, cell_bias] = norm.unwrap_or_default();
            let normed = wanted.layer_norm && variant.layer_norm;
            for (is_wanted, name, numbers) in [
                (wanted.x, "d_x", x),
                (wanted.weight_ih, "d_weight_ih", weight_ih),
                (wanted.weight_hh, "d_weight_hh", weight_hh),
                (wanted.bias, "d_bias", bias),
                (wanted.h0, "d_h0", h0),
                (wanted.c0, "d_c0", c0),
                (
                    wanted.weight_hr && variant.projection,
                    "d_weight_hr",
                    weight_hr,
                ),
                (wanted.peephole && variant.peephole, "d_peephole", peephole),
                (normed, "d_gain_input", input),
                (normed, "d_gain_hidden", hidden),
                (normed, "d_gain_cell", cell),
                (normed, "d_gain_cell_bias", cell_bias),
            ] {
                assert_eq!(numbers.is_some(), is_wanted, "{name}");
                results.extend(numbers.map(|numbers| (name, back(numbers))));
            }
        }
        let mut all: Results = vec![
            ("output", back(output)),
            ("hidden", back(hidden)),
            ("cell", back(cell)),
        ];
        all.append(&mut results);
        all
    }

    pub(super) fn run_f32(
        &self,
        adjust: impl FnOnce(Plan) -> Plan,
        set: InstructionSet,
        keep: Keep,
    ) -> Results {
        self.run::<f32>(|x| x as f32, f64::from, adjust, set, keep)
    }

    pub(super) fn run_f64(
        &self,
        adjust: impl FnOnce(Plan) -> Plan,
        set: InstructionSet,
        keep: Keep,
    ) -> Results {
        self.run::<f64>(|x| x, |x| x, adjust, set, keep)
    }
}

impl Steps {
    /// A mask in which about two of three steps are valid.
    pub(super) fn holes(sizes: Sizes) -> Self {
        let Sizes { batch, steps, .. } = sizes;
        let mut numbers = Numbers::new((batch * 13 + steps) as u64);
        let (some, others) = (
            numbers.bits(batch * steps),
            Numbers::new(5).bits(batch * steps),
        );
        Self::Mask(some.zip(others).map(|(a, b)| a || b).collect())
    }

    /// Lengths of all kinds.
    pub(super) fn lengths(sizes: Sizes) -> Self {
        let Sizes { batch, steps, .. } = sizes;
        Self::Lengths(
            (0..batch)
                .map(|row| (row * 5 + steps) % (steps + 1))
                .collect(),
        )
    }
}

/// What a step back needs.
struct Taped {
    /// The hidden state before, as the gates see it.
    seen: Vec<f64>,
    before: Vec<f64>,
    /// Gates before clipping and activation.
    zs: Vec<[f64; 4]>,
    gates: Vec<[f64; 4]>,
    raw_cell: Vec<f64>,
    new_cell: Vec<f64>,
    tanh: Vec<f64>,
    shown: Vec<f64>,
    cell: Vec<f64>,
    hidden: Vec<f64>,
    kept_cell: Vec<f64>,
    kept_hidden: Vec<f64>,
    norm_x: Normed,
    norm_h: Normed,
    norm_c: Normed,
}

/// Gradients that are sums over rows and steps.
struct Sums {
    x: Vec<f64>,
    weight_ih: Vec<f64>,
    weight_hh: Vec<f64>,
    bias: Vec<f64>,
    weight_hr: Vec<f64>,
    peephole: Vec<f64>,
    gain_input: Vec<f64>,
    gain_hidden: Vec<f64>,
    gain_cell: Vec<f64>,
    gain_cell_bias: Vec<f64>,
}

/// Numbers normalized to mean 0 and variance 1, of those that are `included`; 0 elsewhere.
struct Normed {
    numbers: Vec<f64>,
    included: Vec<bool>,
    deviation: f64,
}

impl Normed {
    fn new(numbers: &[f64], included: Vec<bool>) -> Self {
        let count = included.iter().filter(|&&included| included).count() as f64;
        let sum = |term: &dyn Fn(f64) -> f64| -> f64 {
            let numbers = numbers.iter().zip(&included);
            numbers
                .filter(|(_, included)| **included)
                .map(|(&v, _)| term(v))
                .sum()
        };
        let mean = sum(&|v| v) / count;
        let deviation = (sum(&|v| (v - mean) * (v - mean)) / count + EPSILON).sqrt();
        let normed = numbers.iter().zip(&included);
        Self {
            numbers: normed
                .map(|(v, &included)| f64::from(included) * (v - mean) / deviation)
                .collect(),
            included,
            deviation,
        }
    }

    /// `∂n_a/∂v_b = (δ_ab - 1/N - n_a n_b / N) / deviation`, times the gradients of `n`.
    fn back(&self, d: &[f64]) -> Vec<f64> {
        let places: Vec<usize> = (0..d.len()).filter(|&k| self.included[k]).collect();
        let count = places.len() as f64;
        let mut back = vec![0.0; d.len()];
        for &b in &places {
            for &a in &places {
                let same = f64::from(a == b);
                let other = (1.0 + self.numbers[a] * self.numbers[b]) / count;
                back[b] += d[a] * (same - other) / self.deviation;
            }
        }
        back
    }
}

/// Random numbers.
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ seed)
    }

    /// 24 bits.
    fn next(&mut self) -> u64 {
        self.0 = (self.0)
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 >> 40
    }

    fn within(&mut self, count: usize, bound: f64) -> Vec<f64> {
        (0..count)
            .map(|_| {
                let unit = self.next() as f64 / (1u64 << 24) as f64;
                f64::from(((2.0 * unit - 1.0) * bound) as f32)
            })
            .collect()
    }

    fn bits(&mut self, count: usize) -> impl Iterator<Item = bool> + use<> {
        let bits: Vec<bool> = (0..count).map(|_| self.next() >> 23 == 1).collect();
        bits.into_iter()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// One of the results.
pub(super) fn of_name<'a>(results: &'a Results, name: &str) -> &'a [f64] {
    let (_, numbers) = results.iter().find(|(other, _)| *other == name).unwrap();
    numbers
}

/// How far f32 and f64 results may lie from the loops', relative to the largest number compared.
pub(super) const TOLERANCE_F32: f64 = 4e-6;
pub(super) const TOLERANCE_F64: f64 = 1e-13;

#[track_caller]
pub(super) fn assert_close(what: &str, found: &Results, expected: &Results, tolerance: f64) {
    for (name, found) in found {
        let expected = of_name(expected, name);
        assert_eq!(found.len(), expected.len(), "{what}: {name}");
        let largest = expected.iter().fold(1.0f64, |most, x| most.max(x.abs()));
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let difference = (found - expected).abs();
            assert!(
                difference <= tolerance * largest,
                "{what}: {name}[{index}] is {found}, expected {expected}"
            );
        }
    }
}

#[track_caller]
pub(super) fn assert_same(what: &str, found: &Results, expected: &Results) {
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        let bits = |numbers: &[f64]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(found), bits(expected), "{what}: {name}");
    }
}
