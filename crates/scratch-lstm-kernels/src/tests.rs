//! Every instruction set, every way of dividing the work and both element types against loops
//! over single numbers in f64, written from the equations and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use proptest::prelude::*;

use crate::layout::distances;
use crate::plan::Split;
use crate::{
    Cotangents, Gradients, Inputs, InstructionSet, Keep, Outputs, Plan, Real, Series, Sizes,
    Stream, Walk, Wanted, backward, forward,
};

/// How far f32 and f64 results may lie from the loops', relative to the largest number compared.
const TOLERANCE_F32: f64 = 4e-6;
const TOLERANCE_F64: f64 = 1e-13;

/// One problem, in f64; each number is one that f32 has.
#[derive(Debug, Clone)]
struct Problem {
    sizes: Sizes,
    reverse: bool,
    batch_first: bool,
    lengths: Option<Vec<usize>>,
    x: Vec<f64>,
    weight_ih: Vec<f64>,
    weight_hh: Vec<f64>,
    bias: Vec<f64>,
    h0: Vec<f64>,
    c0: Vec<f64>,
    d_output: Vec<f64>,
    d_hidden: Vec<f64>,
    d_cell: Vec<f64>,
}

/// Everything that comes out, by name.
type Results = Vec<(&'static str, Vec<f64>)>;

impl Problem {
    fn new(sizes: Sizes, reverse: bool, batch_first: bool, lengths: Option<Vec<usize>>) -> Self {
        let Sizes {
            batch,
            steps,
            d_input,
            d_hidden,
        } = sizes;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (batch * 31 + steps * 7 + d_hidden) as u64;
        let mut draw = |count: usize, bound: f64| -> Vec<f64> {
            (0..count)
                .map(|_| {
                    state = state
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    let unit = (state >> 40) as f64 / (1u64 << 24) as f64;
                    f64::from(((2.0 * unit - 1.0) * bound) as f32)
                })
                .collect()
        };
        let bound = 1.5 / (d_hidden as f64).sqrt();
        Self {
            sizes,
            reverse,
            batch_first,
            lengths,
            x: draw(batch * steps * d_input, 1.0),
            weight_ih: draw(4 * d_hidden * d_input, bound),
            weight_hh: draw(4 * d_hidden * d_hidden, bound),
            bias: draw(4 * d_hidden, 0.7),
            h0: draw(batch * d_hidden, 1.0),
            c0: draw(batch * d_hidden, 1.0),
            d_output: draw(batch * steps * d_hidden, 1.0),
            d_hidden: draw(batch * d_hidden, 1.0),
            d_cell: draw(batch * d_hidden, 1.0),
        }
    }

    fn small() -> Self {
        let sizes = Sizes {
            batch: 3,
            steps: 7,
            d_input: 5,
            d_hidden: 11,
        };
        Self::new(sizes, false, true, None)
    }

    /// Where a row's numbers at a step begin.
    fn place(&self, row: usize, time: usize, width: usize) -> usize {
        let Sizes { batch, steps, .. } = self.sizes;
        if self.batch_first {
            (row * steps + time) * width
        } else {
            (time * batch + row) * width
        }
    }

    /// The loops.
    fn solve(&self) -> Results {
        let Sizes {
            batch,
            steps,
            d_input,
            d_hidden,
        } = self.sizes;
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut output = vec![0.0; batch * steps * d_hidden];
        let mut final_hidden = vec![0.0; batch * d_hidden];
        let mut final_cell = vec![0.0; batch * d_hidden];
        let mut d_x = vec![0.0; self.x.len()];
        let mut d_weight_ih = vec![0.0; self.weight_ih.len()];
        let mut d_weight_hh = vec![0.0; self.weight_hh.len()];
        let mut d_bias = vec![0.0; self.bias.len()];
        let mut d_h0 = vec![0.0; batch * d_hidden];
        let mut d_c0 = vec![0.0; batch * d_hidden];
        for row in 0..batch {
            let of_row = row * d_hidden..(row + 1) * d_hidden;
            let (mut hidden, mut cell) = (
                self.h0[of_row.clone()].to_vec(),
                self.c0[of_row.clone()].to_vec(),
            );
            let valid = self.lengths.as_ref().map_or(steps, |lengths| lengths[row]);
            let mut times: Vec<usize> = (0..valid).collect();
            if self.reverse {
                times.reverse();
            }
            let mut tape = Vec::new();
            for &time in &times {
                let x = &self.x[self.place(row, time, d_input)..][..d_input];
                let sums: Vec<f64> = (0..4 * d_hidden)
                    .map(|gate| {
                        let on_x = &self.weight_ih[gate * d_input..][..d_input];
                        let on_h = &self.weight_hh[gate * d_hidden..][..d_hidden];
                        let dot = |a: &[f64], b: &[f64]| -> f64 {
                            a.iter().zip(b).map(|(a, b)| a * b).sum()
                        };
                        dot(on_x, x) + dot(on_h, &hidden) + self.bias[gate]
                    })
                    .collect();
                let gate = |number: usize, unit: usize| sums[number * d_hidden + unit];
                let before = (hidden.clone(), cell.clone());
                let mut gates = Vec::new();
                for unit in 0..d_hidden {
                    let (i, f) = (sigmoid(gate(0, unit)), sigmoid(gate(1, unit)));
                    let (g, o) = (gate(2, unit).tanh(), sigmoid(gate(3, unit)));
                    cell[unit] = f * cell[unit] + i * g;
                    hidden[unit] = o * cell[unit].tanh();
                    gates.push([i, f, g, o]);
                }
                output[self.place(row, time, d_hidden)..][..d_hidden].copy_from_slice(&hidden);
                tape.push((time, before, gates, cell.clone()));
            }
            final_hidden[of_row.clone()].copy_from_slice(&hidden);
            final_cell[of_row.clone()].copy_from_slice(&cell);

            let mut dh = self.d_hidden[of_row.clone()].to_vec();
            let mut dc = self.d_cell[of_row.clone()].to_vec();
            for (time, (before_h, before_c), gates, after) in tape.into_iter().rev() {
                let shown = &self.d_output[self.place(row, time, d_hidden)..][..d_hidden];
                let mut delta = vec![0.0; 4 * d_hidden];
                for unit in 0..d_hidden {
                    let [i, f, g, o] = gates[unit];
                    let (dh, u) = (dh[unit] + shown[unit], after[unit].tanh());
                    let d_cell = dc[unit] + dh * o * (1.0 - u * u);
                    delta[unit] = d_cell * g * i * (1.0 - i);
                    delta[d_hidden + unit] = d_cell * before_c[unit] * f * (1.0 - f);
                    delta[2 * d_hidden + unit] = d_cell * i * (1.0 - g * g);
                    delta[3 * d_hidden + unit] = dh * u * o * (1.0 - o);
                    dc[unit] = d_cell * f;
                }
                dh = vec![0.0; d_hidden];
                let x = self.place(row, time, d_input);
                for (gate, delta) in delta.iter().enumerate() {
                    d_bias[gate] += delta;
                    for column in 0..d_input {
                        d_weight_ih[gate * d_input + column] += delta * self.x[x + column];
                        d_x[x + column] += delta * self.weight_ih[gate * d_input + column];
                    }
                    for column in 0..d_hidden {
                        d_weight_hh[gate * d_hidden + column] += delta * before_h[column];
                        dh[column] += delta * self.weight_hh[gate * d_hidden + column];
                    }
                }
            }
            d_h0[of_row.clone()].copy_from_slice(&dh);
            d_c0[of_row].copy_from_slice(&dc);
        }
        vec![
            ("output", output),
            ("hidden", final_hidden),
            ("cell", final_cell),
            ("d_x", d_x),
            ("d_weight_ih", d_weight_ih),
            ("d_weight_hh", d_weight_hh),
            ("d_bias", d_bias),
            ("d_h0", d_h0),
            ("d_c0", d_c0),
        ]
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
        } = self.sizes;
        let convert = |numbers: &[f64]| -> Vec<T> { numbers.iter().map(|&x| to(x)).collect() };
        let (x, weight_ih) = (convert(&self.x), convert(&self.weight_ih));
        let (weight_hh, bias) = (convert(&self.weight_hh), convert(&self.bias));
        let (h0, c0) = (convert(&self.h0), convert(&self.c0));
        let [x_row, x_step] = distances(self.sizes, self.batch_first, d_input);
        let inputs = Inputs {
            sizes: self.sizes,
            walk: Walk {
                reverse: self.reverse,
                lengths: self.lengths.as_deref(),
            },
            batch_first: self.batch_first,
            x: Series::new(&x, [batch, steps, d_input], x_row, x_step),
            weight_ih: &weight_ih,
            weight_hh: &weight_hh,
            bias: &bias,
            h0: &h0,
            c0: &c0,
        };
        let mut output = vec![to(f64::NAN); batch * steps * d_hidden];
        let mut hidden = vec![to(f64::NAN); batch * d_hidden];
        let mut cell = hidden.clone();
        let [of_row, of_step] = distances(self.sizes, self.batch_first, d_hidden);
        let outputs = Outputs {
            output: &mut output,
            hidden: &mut hidden,
            cell: &mut cell,
        };
        let plan = adjust(Plan::new::<T>(set, self.sizes, keep));
        let saved = forward(&inputs, outputs, plan);
        let back = |numbers: Vec<T>| numbers.into_iter().map(from).collect();
        let mut results: Results = Vec::new();
        if keep != Keep::Nothing {
            let series = |numbers| Series::new(numbers, [batch, steps, d_hidden], of_row, of_step);
            let (d_output, d_hidden) = (convert(&self.d_output), convert(&self.d_hidden));
            let d_cell = convert(&self.d_cell);
            let cotangents = Cotangents {
                output: Some(series(&d_output)),
                hidden: Some(&d_hidden),
                cell: Some(&d_cell),
            };
            let wanted = Wanted {
                x: true,
                weight_ih: true,
                weight_hh: true,
                bias: true,
                h0: true,
                c0: true,
            };
            let gradients = backward(&inputs, series(&output), saved, cotangents, wanted);
            let Gradients {
                x,
                weight_ih,
                weight_hh,
                bias,
                h0,
                c0,
            } = gradients;
            results = vec![
                ("d_x", back(x.unwrap())),
                ("d_weight_ih", back(weight_ih.unwrap())),
                ("d_weight_hh", back(weight_hh.unwrap())),
                ("d_bias", back(bias.unwrap())),
                ("d_h0", back(h0.unwrap())),
                ("d_c0", back(c0.unwrap())),
            ];
        }
        let mut all: Results = vec![
            ("output", back(output)),
            ("hidden", back(hidden)),
            ("cell", back(cell)),
        ];
        all.append(&mut results);
        all
    }

    fn run_f32(
        &self,
        adjust: impl FnOnce(Plan) -> Plan,
        set: InstructionSet,
        keep: Keep,
    ) -> Results {
        self.run::<f32>(|x| x as f32, f64::from, adjust, set, keep)
    }

    fn run_f64(
        &self,
        adjust: impl FnOnce(Plan) -> Plan,
        set: InstructionSet,
        keep: Keep,
    ) -> Results {
        self.run::<f64>(|x| x, |x| x, adjust, set, keep)
    }
}

#[track_caller]
fn assert_close(what: &str, found: &Results, expected: &Results, tolerance: f64) {
    for (name, found) in found {
        let (_, expected) = expected.iter().find(|(other, _)| other == name).unwrap();
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
fn assert_same(what: &str, found: &Results, expected: &Results) {
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        let bits = |numbers: &[f64]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(found), bits(expected), "{what}: {name}");
    }
}

/// Sizes around the widths of vectors, tiles and panels, and beyond a block of `depth`.
fn problems() -> Vec<Problem> {
    let sizes = |batch, steps, d_input, d_hidden| Sizes {
        batch,
        steps,
        d_input,
        d_hidden,
    };
    vec![
        Problem::small(),
        Problem::new(sizes(1, 1, 1, 1), false, true, None),
        Problem::new(sizes(1, 9, 3, 17), true, true, None),
        Problem::new(sizes(2, 4, 7, 150), false, false, None),
        Problem::new(sizes(4, 2, 19, 40), true, true, Some(vec![2, 0, 1, 2])),
        Problem::new(sizes(7, 5, 16, 32), false, false, None),
        Problem::new(sizes(13, 4, 33, 65), true, false, None),
        Problem::new(sizes(2, 3, 7, 150), false, true, None),
        Problem::new(sizes(2, 2, 530, 9), false, true, None),
        Problem::new(sizes(100, 6, 3, 5), false, true, None),
        Problem::new(sizes(4, 8, 5, 11), false, true, Some(vec![8, 0, 3, 5])),
        Problem::new(sizes(5, 8, 5, 19), true, false, Some(vec![1, 7, 0, 8, 4])),
        Problem::new(sizes(3, 6, 5, 11), true, true, Some(vec![0, 0, 0])),
    ]
}

#[test]
fn every_instruction_set_keeps_to_the_loops() {
    for problem in problems() {
        let expected = problem.solve();
        for &set in InstructionSet::available() {
            for keep in [Keep::Nothing, Keep::Everything, Keep::Boundaries] {
                let what = format!("{:?} {set} {keep:?}", problem.sizes);
                let found = problem.run_f32(|plan| plan, set, keep);
                assert_close(&what, &found, &expected, TOLERANCE_F32);
                let found = problem.run_f64(|plan| plan, set, keep);
                assert_close(&what, &found, &expected, TOLERANCE_F64);
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_how_the_work_is_divided() {
    for problem in problems() {
        for &set in InstructionSet::available() {
            for keep in [Keep::Nothing, Keep::Everything, Keep::Boundaries] {
                // The segments are the same: their sums are added up one after the other.
                let run = |split| {
                    problem.run_f32(|plan| plan.with_segment(3).with_split(split), set, keep)
                };
                let expected = run(Split::Rows(1));
                for threads in 2..=5 {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    pool.unwrap().install(|| {
                        for split in [Split::Rows(threads), Split::Units(threads)] {
                            let what = format!("{:?} {set} {keep:?} {split:?}", problem.sizes);
                            assert_same(&what, &run(split), &expected);
                        }
                    });
                }
            }
        }
    }
}

#[test]
fn what_the_plan_chooses_does_not_depend_on_the_pool() {
    for (batch, steps, d_hidden) in [(1, 9, 200), (5, 12, 130), (40, 6, 70)] {
        let sizes = Sizes {
            batch,
            steps,
            d_input: 33,
            d_hidden,
        };
        let problem = Problem::new(sizes, false, true, None);
        let set = InstructionSet::chosen().unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let results = problem.run_f32(|plan| plan, set, Keep::Everything);
                let mut wide = problem.run_f64(|plan| plan, set, Keep::Boundaries);
                wide.extend(results);
                wide
            })
        };
        let expected = run(1);
        for threads in [2, 3, 7] {
            assert_same(
                &format!("{sizes:?}, {threads} threads"),
                &run(threads),
                &expected,
            );
        }
    }
}

/// Zeros that fill a vector up must not turn an infinite number into NaN for others.
#[test]
fn infinite_numbers_stay_where_they_are() {
    let sizes = Sizes {
        batch: 2,
        steps: 5,
        d_input: 2,
        d_hidden: 3,
    };
    let mut problem = Problem::new(sizes, false, true, None);
    problem.x[4] = f64::INFINITY;
    problem.x[13] = f64::NEG_INFINITY;
    let run = |set| problem.run_f32(|plan| plan, set, Keep::Everything);
    let expected = run(InstructionSet::Portable);
    let finite = |results: &Results| -> Vec<bool> {
        let numbers = results.iter().flat_map(|(_, numbers)| numbers);
        numbers.map(|number| number.is_finite()).collect()
    };
    // What an infinite input has to spoil is the gradient of its own weights.
    for (name, numbers) in &expected {
        let all = numbers.iter().all(|number| number.is_finite());
        assert_eq!(all, *name != "d_weight_ih", "{name}");
    }
    for &set in InstructionSet::available() {
        assert_eq!(finite(&run(set)), finite(&expected), "{set}");
    }
}

#[test]
fn segments_longer_than_the_sequence() {
    let problem = Problem::small();
    let expected = problem.solve();
    for segment in [8, 1 << 60, usize::MAX] {
        for keep in [Keep::Nothing, Keep::Everything, Keep::Boundaries] {
            let set = InstructionSet::Portable;
            let found = problem.run_f64(|plan| plan.with_segment(segment), set, keep);
            assert_close("long segments", &found, &expected, TOLERANCE_F64);
        }
    }
}

#[test]
#[should_panic(expected = "a series of")]
fn a_series_beyond_its_numbers_is_refused() {
    Series::new(&[0f32; 10], [3, 2, 1], 1 << 63, 0);
}

#[test]
#[should_panic(expected = "sizes that can be counted")]
fn sizes_beyond_counting_are_refused() {
    let mut problem = Problem::small();
    let numbers = [0f32; 5];
    problem.sizes.steps = 1 << 61;
    // All steps are the same one.
    let inputs = Inputs {
        sizes: problem.sizes,
        walk: Walk::default(),
        batch_first: true,
        x: Series::new(&numbers, [3, 1 << 61, 5], 0, 0),
        weight_ih: &[],
        weight_hh: &[],
        bias: &[],
        h0: &[],
        c0: &[],
    };
    let outputs = Outputs {
        output: &mut [],
        hidden: &mut [],
        cell: &mut [],
    };
    let plan = Plan::new::<f32>(InstructionSet::Portable, problem.sizes, Keep::Nothing);
    forward(&inputs, outputs, plan);
}

/// All workers wait for a lock that the caller holds: helpers never come, and nobody waits for
/// them.
#[test]
fn helpers_that_never_come() {
    let workers = rayon::current_num_threads();
    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock().unwrap();
    let busy = Arc::new(Barrier::new(workers + 1));
    for _ in 0..workers {
        let (lock, busy) = (Arc::clone(&lock), Arc::clone(&busy));
        rayon::spawn(move || {
            busy.wait();
            drop(lock.lock());
        });
    }
    busy.wait();
    let done = AtomicUsize::new(0);
    crate::crew::run(20, 2, |_, _| {
        done.fetch_add(1, Ordering::Relaxed);
    });
    drop(held);
    assert_eq!(done.into_inner(), 40);
}

#[test]
fn segments_of_any_length() {
    let problem = Problem::new(
        Sizes {
            batch: 4,
            steps: 11,
            d_input: 5,
            d_hidden: 19,
        },
        true,
        true,
        Some(vec![11, 2, 0, 7]),
    );
    let expected = problem.solve();
    for segment in 1..=12 {
        for keep in [Keep::Everything, Keep::Boundaries] {
            let set = InstructionSet::chosen().unwrap();
            let found = problem.run_f64(|plan| plan.with_segment(segment), set, keep);
            assert_close(
                &format!("segments of {segment}"),
                &found,
                &expected,
                TOLERANCE_F64,
            );
        }
    }
}

#[test]
fn what_lies_past_a_rows_end_has_no_influence() {
    let sizes = Sizes {
        batch: 3,
        steps: 6,
        d_input: 5,
        d_hidden: 11,
    };
    for reverse in [false, true] {
        let mut problem = Problem::new(sizes, reverse, true, Some(vec![6, 0, 4]));
        let expected = problem.solve();
        for (row, length) in [(1, 0), (2, 4)] {
            for time in length..6 {
                let place = problem.place(row, time, 5);
                problem.x[place..place + 5].fill(f64::NAN);
            }
        }
        for &set in InstructionSet::available() {
            let found = problem.run_f32(|plan| plan, set, Keep::Everything);
            assert_close("NaN past the end", &found, &expected, TOLERANCE_F32);
        }
    }
}

#[test]
fn eight_callers_at_once_on_a_pool_of_two() {
    let sizes = Sizes {
        batch: 1,
        steps: 60,
        d_input: 8,
        d_hidden: 96,
    };
    let problem = Problem::new(sizes, false, true, None);
    let set = InstructionSet::chosen().unwrap();
    let run = || {
        problem.run_f32(
            |plan| plan.with_split(Split::Units(2)),
            set,
            Keep::Everything,
        )
    };
    let expected = run();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    // From threads of their own, and from inside all workers.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_same("from outside", &run(), &expected);
                    pool.install(|| assert_same("from a worker", &run(), &expected));
                }
            });
        }
    });
    pool.scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|_| assert_same("from busy workers", &run(), &expected));
        }
    });
}

#[test]
fn a_panic_in_a_member_reaches_the_caller() {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.install(|| {
            crate::crew::run(50, 2, |phase, chunk| {
                assert!(phase < 10 || chunk == 0, "on purpose");
            });
        });
    }));
    assert!(panicked.is_err());
}

#[test]
fn a_stream_goes_the_way_of_the_sequence() {
    for (d_input, d_hidden) in [(1, 1), (5, 11), (17, 33), (64, 128)] {
        let sizes = Sizes {
            batch: 1,
            steps: 9,
            d_input,
            d_hidden,
        };
        let problem = Problem::new(sizes, false, true, None);
        let expected = problem.solve();
        let f32s = |numbers: &[f64]| -> Vec<f32> { numbers.iter().map(|&x| x as f32).collect() };
        for &set in InstructionSet::available() {
            let mut stream = Stream::new(
                set,
                [d_input, d_hidden],
                &f32s(&problem.weight_ih),
                &f32s(&problem.weight_hh),
                &f32s(&problem.bias),
            );
            stream.set_state(&f32s(&problem.h0), &f32s(&problem.c0));
            let output: Vec<f64> = f32s(&problem.x)
                .chunks(d_input)
                .flat_map(|x| stream.step(x).to_vec())
                .map(f64::from)
                .collect();
            let cell = stream.cell().iter().copied().map(f64::from).collect();
            let found = vec![("output", output), ("cell", cell)];
            assert_close(&format!("{set}"), &found, &expected, TOLERANCE_F32);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sizes_and_lengths(
        (batch, steps) in (1usize..14, 1usize..9),
        (d_input, d_hidden) in (1usize..40, 1usize..70),
        reverse: bool,
        batch_first: bool,
        segment in 1usize..9,
        boundaries: bool,
        units: bool,
        chunks in 1usize..4,
        lengths in prop::option::of(prop::collection::vec(0usize..9, 14)),
    ) {
        let sizes = Sizes { batch, steps, d_input, d_hidden };
        let lengths = lengths
            .map(|lengths| lengths[..batch].iter().map(|&length| length.min(steps)).collect());
        let problem = Problem::new(sizes, reverse, batch_first, lengths);
        let keep = if boundaries { Keep::Boundaries } else { Keep::Everything };
        let split = if units { Split::Units(chunks) } else { Split::Rows(chunks) };
        let expected = problem.solve();
        for &set in InstructionSet::available() {
            let found = problem.run_f64(
                |plan| plan.with_segment(segment).with_split(split),
                set,
                keep,
            );
            assert_close(&format!("{set}"), &found, &expected, TOLERANCE_F64);
        }
    }
}

#[test]
#[should_panic(expected = "numbers in weight_hh")]
fn sizes_that_do_not_fit_are_refused() {
    let mut problem = Problem::small();
    problem.weight_hh.pop();
    let set = InstructionSet::chosen().unwrap();
    problem.run_f32(|plan| plan, set, Keep::Nothing);
}
