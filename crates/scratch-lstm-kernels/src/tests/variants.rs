//! Cells that have something besides the four gates: each alone, every pair of things, and any of
//! them in any sizes.

use proptest::prelude::*;

use super::problem::{
    EPSILON, Problem, Results, Steps, TOLERANCE_F32, TOLERANCE_F64, Variant, Zoneout, assert_close,
    assert_same, of_name,
};
use crate::plan::Split;
use crate::{
    Activation, Activations, InstructionSet, Keep, LayerNorm, Sizes, Stream, StreamCell, Wanted,
};

/// What can be chosen of each of [`variant`]'s choices, and of the steps that rows have, the
/// direction and the sizes.
const LEVELS: [usize; 11] = [2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 4];

fn variant(choices: &[usize]) -> Variant {
    let zoneout = [Zoneout::None, Zoneout::Masks, Zoneout::Rate(0.25)];
    Variant {
        projection: choices[0] == 1,
        peephole: choices[1] == 1,
        coupled: choices[2] == 1,
        clip_gates: (choices[3] == 1).then_some(0.75),
        clip_cell: (choices[4] == 1).then_some(0.625),
        layer_norm: choices[5] == 1,
        hidden_mask: choices[6] == 1,
        zoneout_hidden: zoneout[choices[7]],
        zoneout_cell: zoneout[choices[8]],
        activations: Activations::default(),
    }
}

fn problem(choices: &[usize]) -> Problem {
    let variant = variant(choices);
    let (batch, steps, d_input, d_hidden, d_output) = [
        (3, 7, 5, 11, 6),
        (7, 5, 3, 35, 18),
        (2, 6, 9, 7, 13),
        (4, 4, 17, 16, 32),
    ][choices[10]];
    let sizes = Sizes {
        batch,
        steps,
        d_input,
        d_hidden,
        d_output: if variant.projection {
            d_output
        } else {
            d_hidden
        },
    };
    let valid = match choices[9] {
        0 => Steps::All,
        1 => Steps::lengths(sizes),
        _ => Steps::holes(sizes),
    };
    let number: usize = choices.iter().sum();
    let (reverse, batch_first) = (number % 2 == 1, !number.is_multiple_of(3));
    Problem::of(sizes, reverse, batch_first, valid, variant)
}

/// Choices among so many levels each, such that any two levels of any two choices occur together.
fn pairs(levels: &[usize]) -> Vec<Vec<usize>> {
    let mut missing = Vec::new();
    for (a, &of_a) in levels.iter().enumerate() {
        for (b, &of_b) in levels.iter().enumerate().skip(a + 1) {
            let both = (0..of_a).flat_map(|x| (0..of_b).map(move |y| (x, y)));
            missing.extend(both.map(|(x, y)| (a, b, x, y)));
        }
    }
    let mut state = 1u64;
    let mut draw = || -> Vec<usize> {
        let level = |&of: &usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) as usize % of
        };
        levels.iter().map(level).collect()
    };
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let covers = |choices: &[usize], &(a, b, x, y): &(usize, usize, usize, usize)| {
            choices[a] == x && choices[b] == y
        };
        let candidates = (0..64).map(|_| draw());
        let best = candidates
            .max_by_key(|choices| missing.iter().filter(|pair| covers(choices, pair)).count())
            .unwrap();
        missing.retain(|pair| !covers(&best, pair));
        chosen.push(best);
    }
    chosen
}

/// Each thing alone, then pairs of them.
fn problems() -> Vec<Problem> {
    let alone = (0..9).flat_map(|choice| {
        (1..LEVELS[choice]).map(move |level| {
            let mut choices = vec![0; LEVELS.len()];
            choices[choice] = level;
            choices
        })
    });
    alone
        .chain(pairs(&LEVELS))
        .map(|choices| problem(&choices))
        .collect()
}

/// Layer normalization divides by deviations that may be small, and rounding errors too.
fn tolerance_f32(problem: &Problem) -> f64 {
    if problem.variant.layer_norm {
        4.0 * TOLERANCE_F32
    } else {
        TOLERANCE_F32
    }
}

const KEEPS: [Keep; 3] = [Keep::Nothing, Keep::Everything, Keep::Boundaries];

fn name(problem: &Problem) -> String {
    let Problem {
        sizes,
        reverse,
        valid,
        variant,
        ..
    } = problem;
    format!("{sizes:?} reverse: {reverse} {valid:?} {variant:?}")
}

#[test]
fn every_instruction_set_keeps_to_the_loops() {
    for problem in problems() {
        let expected = problem.solve();
        for &set in InstructionSet::available() {
            for keep in KEEPS {
                let what = format!("{set} {keep:?} {}", name(&problem));
                let found = problem.run_f64(|plan| plan.with_segment(3), set, keep);
                assert_close(&what, &found, &expected, TOLERANCE_F64);
                let found = problem.run_f32(|plan| plan, set, keep);
                assert_close(&what, &found, &expected, tolerance_f32(&problem));
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_how_the_work_is_divided() {
    for problem in problems() {
        for &set in InstructionSet::available() {
            for keep in KEEPS {
                let run = |split| {
                    problem.run_f32(|plan| plan.with_segment(3).with_split(split), set, keep)
                };
                let expected = run(Split::Rows(1));
                for threads in 2..=4 {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    pool.unwrap().install(|| {
                        for split in [Split::Rows(threads), Split::Units(threads)] {
                            let what = format!("{set} {keep:?} {split:?} {}", name(&problem));
                            assert_same(&what, &run(split), &expected);
                        }
                    });
                }
            }
        }
    }
}

/// Gradients that nobody wants are not there, and change no others.
#[test]
fn only_what_is_wanted() {
    let none = Wanted {
        x: false,
        weight_ih: false,
        weight_hh: false,
        weight_hr: false,
        bias: false,
        peephole: false,
        layer_norm: false,
        h0: false,
        c0: false,
    };
    let some = [
        Wanted { x: true, ..none },
        Wanted {
            weight_hr: true,
            h0: true,
            ..none
        },
        Wanted {
            weight_hh: true,
            peephole: true,
            ..none
        },
        Wanted {
            bias: true,
            layer_norm: true,
            c0: true,
            ..none
        },
    ];
    for layer_norm in [0, 1] {
        let mut problem = problem(&[1, 1, 0, 0, 0, layer_norm, 1, 1, 1, 2, 0]);
        for keep in [Keep::Everything, Keep::Boundaries] {
            let set = InstructionSet::chosen().unwrap();
            let run = |problem: &Problem| problem.run_f32(|plan| plan.with_segment(3), set, keep);
            problem.wanted = Problem::ALL;
            let all = run(&problem);
            for wanted in some {
                problem.wanted = wanted;
                let found = run(&problem);
                assert!(found.len() < all.len());
                let expected = found
                    .iter()
                    .map(|&(name, _)| (name, of_name(&all, name).to_vec()))
                    .collect();
                assert_same(&format!("{wanted:?}"), &found, &expected);
            }
        }
    }
}

/// The loops' own gradients, against central differences.
#[test]
fn gradients_of_the_loops_are_those_of_their_results() {
    const STEP: f64 = 1e-5;
    for choices in pairs(&LEVELS) {
        let mut problem = problem(&choices);
        let results = problem.solve();
        let count = problem.parameters().len();
        for index in 0..count {
            let (name_of, length) = {
                let (name, numbers) = &problem.parameters()[index];
                (*name, numbers.len())
            };
            // All numbers of small tensors, some of large ones.
            for place in (0..length).step_by(1 + length / 30) {
                let mut loss_at = |difference: f64| {
                    problem.parameters()[index].1[place] += difference;
                    let loss = problem.loss();
                    problem.parameters()[index].1[place] -= difference;
                    loss
                };
                let difference = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
                let found = of_name(&results, name_of)[place];
                assert!(
                    (found - difference).abs() <= 1e-7 * difference.abs().max(1.0),
                    "{name_of}[{place}] is {found}, differences say {difference}: {}",
                    name(&problem)
                );
            }
        }
    }
}

/// Block f of a coupled cell has no influence, and gradients of exactly 0.
#[test]
fn a_coupled_forget_gate_has_no_weights() {
    let choices = [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 0];
    let mut problem = problem(&choices);
    let d_hidden = problem.sizes.d_hidden;
    let run = |problem: &Problem, set| problem.run_f32(|plan| plan, set, Keep::Everything);
    for &set in InstructionSet::available() {
        let expected = run(&problem, set);
        let mut other = problem.clone();
        for (name, numbers) in other.parameters() {
            if let Some(block) = forget_block(name, d_hidden, numbers.len()) {
                for number in &mut numbers[block] {
                    *number += 3.0;
                }
            }
        }
        assert_same("another block f", &run(&other, set), &expected);
        for (name, numbers) in problem.parameters() {
            if let Some(block) = forget_block(name, d_hidden, numbers.len()) {
                let gradient = &of_name(&expected, name)[block];
                assert!(gradient.iter().all(|&number| number == 0.0), "{name}");
            }
        }
    }
}

fn forget_block(name: &str, d_hidden: usize, len: usize) -> Option<std::ops::Range<usize>> {
    let gates = match name {
        "d_weight_ih" | "d_weight_hh" | "d_bias" | "d_gain_input" | "d_gain_hidden" => 4,
        "d_peephole" => 3,
        _ => return None,
    };
    assert!(len.is_multiple_of(gates * d_hidden));
    Some(len / gates..2 * len / gates)
}

#[test]
fn what_lies_where_a_row_has_no_step_has_no_influence() {
    for layer_norm in [0, 1] {
        for reverse in [false, true] {
            let choices = [1, 1, 0, 0, 0, layer_norm, 1, 1, 1, 2, 0];
            let mut problem = problem(&choices);
            problem.reverse = reverse;
            let expected = problem.solve();
            let Sizes {
                batch,
                steps,
                d_input,
                ..
            } = problem.sizes;
            for (row, time) in (0..batch).flat_map(|row| (0..steps).map(move |time| (row, time))) {
                if !problem.is_valid(time, row) {
                    let place = problem.place(row, time, d_input);
                    problem.x[place..place + d_input].fill(f64::NAN);
                }
            }
            for &set in InstructionSet::available() {
                for keep in KEEPS {
                    let found = problem.run_f32(|plan| plan, set, keep);
                    assert_close("NaN in holes", &found, &expected, tolerance_f32(&problem));
                }
            }
        }
    }
}

/// A kept state is the old one, and a new one the new one, to the bit.
#[test]
fn zoneout_of_nothing_and_of_all() {
    let mut problem = Problem::small();
    let set = InstructionSet::chosen().unwrap();
    let expected = problem.run_f32(|plan| plan, set, Keep::Everything);
    let with = |problem: &Problem, rate| {
        let variant = Variant {
            zoneout_hidden: Zoneout::Rate(rate),
            zoneout_cell: Zoneout::Rate(rate),
            ..Variant::default()
        };
        let problem = Problem::of(problem.sizes, false, true, Steps::All, variant);
        problem.run_f32(|plan| plan, set, Keep::Everything)
    };
    assert_close("nothing", &with(&problem, 0.0), &expected, TOLERANCE_F32);
    let all = with(&problem, 1.0);
    assert_eq!(of_name(&all, "hidden"), problem.h0);
    assert_eq!(of_name(&all, "cell"), problem.c0);
    assert_eq!(of_name(&all, "d_c0"), problem.d_cell);
    for (name, numbers) in problem.parameters() {
        if !["d_h0", "d_c0"].contains(&name) {
            let zeros = vec![0.0; numbers.len()];
            assert_eq!(of_name(&all, name), zeros, "{name}");
        }
    }
}

#[test]
#[should_panic(expected = "without a projection")]
fn another_width_of_the_output_needs_a_projection() {
    let mut problem = problem(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    problem.variant.projection = false;
    problem.run_f32(
        |plan| plan,
        InstructionSet::chosen().unwrap(),
        Keep::Nothing,
    );
}

#[test]
#[should_panic(expected = "numbers in peephole")]
fn peepholes_that_do_not_fit_are_refused() {
    let mut problem = problem(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    problem.peephole.pop();
    problem.run_f32(
        |plan| plan,
        InstructionSet::chosen().unwrap(),
        Keep::Nothing,
    );
}

#[test]
#[should_panic(expected = "a bound above 0")]
fn a_bound_of_nothing_is_refused() {
    let mut problem = problem(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    problem.variant.clip_gates = Some(0.0);
    problem.run_f32(
        |plan| plan,
        InstructionSet::chosen().unwrap(),
        Keep::Nothing,
    );
}

#[test]
#[should_panic(expected = "a mask of each step and row")]
fn a_mask_that_does_not_fit_is_refused() {
    let mut problem = problem(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    problem.valid = Steps::Mask(vec![true; 20]);
    problem.run_f32(
        |plan| plan,
        InstructionSet::chosen().unwrap(),
        Keep::Nothing,
    );
}

#[test]
fn a_stream_goes_the_way_of_the_sequence() {
    let activations = [
        Activations::default(),
        Activations {
            gate: Activation::HardSigmoid {
                alpha: 0.25,
                beta: 0.5,
            },
            cell: Activation::Softsign,
            hidden: Activation::LeakyRelu { alpha: 0.125 },
        },
        Activations {
            gate: Activation::Sigmoid,
            cell: Activation::Elu { alpha: 1.0 },
            hidden: Activation::ScaledTanh {
                alpha: 1.5,
                beta: 0.75,
            },
        },
    ];
    let levels = [2, 2, 2, 2, 2, 2, 2, 2, 4, 3];
    for choices in pairs(&levels) {
        let mut variant = variant(&[
            choices[0], choices[1], choices[2], choices[3], choices[4], choices[5], 0, 0, 0,
        ]);
        for (zoneout, choice) in [
            (&mut variant.zoneout_hidden, choices[6]),
            (&mut variant.zoneout_cell, choices[7]),
        ] {
            if choice == 1 {
                *zoneout = Zoneout::Rate(0.25);
            }
        }
        variant.activations = activations[choices[9]];
        let (d_input, d_hidden, d_output) =
            [(1, 1, 2), (5, 11, 6), (17, 33, 18), (64, 40, 64)][choices[8]];
        let d_output = if variant.projection {
            d_output
        } else {
            d_hidden
        };
        let sizes = Sizes {
            batch: 1,
            steps: 9,
            d_input,
            d_hidden,
            d_output,
        };
        let problem = Problem::of(sizes, false, true, Steps::All, variant);
        let expected = problem.solve();
        for &set in InstructionSet::available() {
            let found = stream(&problem, set);
            let what = format!("{set} {}", name(&problem));
            assert_close(&what, &found, &expected, tolerance_f32(&problem));
        }
    }
}

/// The outputs and the last cell state of a stream.
fn stream(problem: &Problem, set: InstructionSet) -> Results {
    let f32s = |numbers: &[f64]| -> Vec<f32> { numbers.iter().map(|&x| x as f32).collect() };
    let variant = problem.variant;
    let (weight_hr, peephole) = (f32s(&problem.weight_hr), f32s(&problem.peephole));
    let (input, hidden) = (f32s(&problem.gain_input), f32s(&problem.gain_hidden));
    let (cell, cell_bias) = (f32s(&problem.gain_cell), f32s(&problem.gain_cell_bias));
    let narrow = |number: f64| number as f32;
    let rate = |zoneout: Zoneout| match zoneout {
        Zoneout::Rate(rate) => Some(narrow(rate)),
        Zoneout::None | Zoneout::Masks => None,
    };
    let Sizes {
        d_input,
        d_hidden,
        d_output,
        ..
    } = problem.sizes;
    let mut stream = Stream::new(
        set,
        [d_input, d_hidden, d_output],
        &f32s(&problem.weight_ih),
        &f32s(&problem.weight_hh),
        &f32s(&problem.bias),
        StreamCell {
            weight_hr: variant.projection.then_some(&weight_hr),
            peephole: variant.peephole.then_some(&peephole),
            coupled: variant.coupled,
            clip_gates: variant.clip_gates.map(narrow),
            clip_cell: variant.clip_cell.map(narrow),
            layer_norm: variant.layer_norm.then_some(LayerNorm {
                input: &input,
                hidden: &hidden,
                cell: &cell,
                cell_bias: &cell_bias,
                epsilon: EPSILON as f32,
            }),
            zoneout_hidden: rate(variant.zoneout_hidden),
            zoneout_cell: rate(variant.zoneout_cell),
            activations: (variant.activations != Activations::default())
                .then_some(variant.activations),
        },
    );
    stream.set_state(&f32s(&problem.h0), &f32s(&problem.c0));
    // What was cloned goes its own way.
    let mut stream = stream.clone();
    let output: Vec<f64> = f32s(&problem.x)
        .chunks(d_input)
        .flat_map(|x| stream.step(x).to_vec())
        .map(f64::from)
        .collect();
    let cell = stream.cell().iter().copied().map(f64::from).collect();
    vec![("output", output), ("cell", cell)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_cells_and_sizes(
        (batch, steps) in (1usize..14, 1usize..9),
        (d_input, d_hidden, d_output) in (1usize..30, 1usize..50, 1usize..50),
        choices in LEVELS[..9].iter().map(|&of| 0..of).collect::<Vec<_>>(),
        valid in 0usize..3,
        (reverse, batch_first, boundaries, units) in any::<(bool, bool, bool, bool)>(),
        segment in 1usize..9,
        chunks in 1usize..4,
    ) {
        let variant = variant(&choices);
        let d_output = if variant.projection { d_output } else { d_hidden };
        let sizes = Sizes { batch, steps, d_input, d_hidden, d_output };
        let valid = match valid {
            0 => Steps::All,
            1 => Steps::lengths(sizes),
            _ => Steps::holes(sizes),
        };
        let problem = Problem::of(sizes, reverse, batch_first, valid, variant);
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
