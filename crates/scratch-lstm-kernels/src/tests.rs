//! Every instruction set, every way of dividing the work and both element types against loops
//! over single numbers in f64: here for the four gates alone, in `variants.rs` for cells that have
//! something besides.

mod problem;
mod variants;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use proptest::prelude::*;

use crate::plan::Split;
use crate::{
    Cell, Inputs, InstructionSet, Keep, Outputs, Plan, Series, Sizes, Stream, StreamCell, Walk,
    forward,
};
use problem::{Problem, Results, TOLERANCE_F32, TOLERANCE_F64, assert_close, assert_same};

/// Sizes around the widths of vectors, tiles and panels, and beyond a block of `depth`.
fn problems() -> Vec<Problem> {
    let sizes = |batch, steps, d_input, d_hidden| Sizes {
        batch,
        steps,
        d_input,
        d_hidden,
        d_output: d_hidden,
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
            d_output: d_hidden,
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
        d_output: 3,
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
        cell: Cell::default(),
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
            d_output: 19,
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
        d_output: 11,
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
        d_output: 96,
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
            d_output: d_hidden,
        };
        let problem = Problem::new(sizes, false, true, None);
        let expected = problem.solve();
        let f32s = |numbers: &[f64]| -> Vec<f32> { numbers.iter().map(|&x| x as f32).collect() };
        for &set in InstructionSet::available() {
            let mut stream = Stream::new(
                set,
                [d_input, d_hidden, d_hidden],
                &f32s(&problem.weight_ih),
                &f32s(&problem.weight_hh),
                &f32s(&problem.bias),
                StreamCell::default(),
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
        let sizes = Sizes { batch, steps, d_input, d_hidden, d_output: d_hidden };
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
