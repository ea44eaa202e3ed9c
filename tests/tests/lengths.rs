//! Proves what lengths promise: a batch of sequences of any lengths in any order (0 among them) is
//! each sequence run alone; what lies past an end, NaN included, reaches neither outputs nor
//! gradients; the reverse direction starts at the last valid step; final states are those of the
//! last valid step; rows that are reset start from zeros whatever the state holds.

use burn::module::Module;
use burn::tensor::{DType, Tensor, TensorData};
use scratch_lstm::config::DirectionJoin;
use scratch_lstm::{ForwardOptions, LstmState, ScratchLstm, ScratchLstmConfig};
use scratch_tests::probe::{Cotangents, Sequence, probe};
use scratch_tests::{
    Case, Named, PATHS, Tolerance, Values, assert_all_close, assert_all_same, assert_close, dtypes,
    is_gpu,
};

/// Any order, 0, and the full seven steps.
const LENGTHS: [usize; 5] = [3, 7, 0, 1, 5];

fn configs() -> Vec<ScratchLstmConfig> {
    let base = ScratchLstmConfig::new(5, 11);
    let deep = base.clone().with_num_layers(2).with_bidirectional(true);
    let mut configs = vec![
        deep.clone(),
        deep.clone()
            .with_join(DirectionJoin::AtEnd)
            .with_batch_first(false),
    ];
    if !is_gpu() {
        configs.extend([
            base.clone(),
            base.clone().with_batch_first(false).with_bias(false),
            base.with_bidirectional(true),
            deep.with_batch_first(false).with_num_layers(3),
        ]);
    }
    configs
}

fn cases() -> Vec<Case> {
    let configs = configs().into_iter();
    let configs = configs.flat_map(|config| PATHS.map(|path| config.clone().with_path(path)));
    let cases = configs.flat_map(|config| {
        let case = Case::new(config).with_sizes(LENGTHS.len(), 7);
        dtypes()
            .into_iter()
            .map(move |dtype| case.clone().with_dtype(dtype))
    });
    cases.collect()
}

/// The axes of rows and of time in an input or output.
fn axes(config: &ScratchLstmConfig) -> (usize, usize) {
    if config.batch_first { (0, 1) } else { (1, 0) }
}

/// A leaf with `value` past the end of each row.
fn padded(case: &Case, input: Tensor<3>, value: f64) -> Tensor<3> {
    let (row_axis, time_axis) = axes(&case.config);
    let Values { shape, mut values } = input.inner().into();
    for (index, number) in values.iter_mut().enumerate() {
        let place = [index / shape[2] / shape[1], index / shape[2] % shape[1]];
        if place[time_axis] >= LENGTHS[place[row_axis]] {
            *number = value;
        }
    }
    let data = TensorData::new(values, shape);
    Tensor::from_data(data, (&case.device(), case.dtype)).require_grad()
}

fn run(case: &Case, padding: f64) -> Named {
    let sequence = case.sequence();
    let sequence = Sequence {
        input: padded(case, sequence.input, padding),
        state: sequence.state,
    };
    let options = ForwardOptions::new().with_lengths(&LENGTHS[..]);
    probe(&case.lstm(), &sequence, &case.cotangents(), options)
}

#[test]
fn padding_reaches_neither_outputs_nor_gradients() {
    for case in cases() {
        let zeros = run(&case, 0.0);
        for (name, values) in &zeros {
            assert!(
                values.values.iter().all(|value| value.is_finite()),
                "{case}: {name}"
            );
        }
        for padding in [f64::NAN, f64::INFINITY, 1e30] {
            let what = format!("{case}, padded with {padding}");
            assert_all_same(&what, &run(&case, padding), &zeros);
        }
    }
}

#[test]
fn outputs_and_input_gradients_past_the_end_are_zero() {
    for case in cases() {
        let (row_axis, time_axis) = axes(&case.config);
        let named = run(&case, f64::NAN);
        for name in ["output", "grad.input"] {
            let Values { shape, values } = &named[name];
            let mut past = 0;
            for (index, value) in values.iter().enumerate() {
                let place = [index / shape[2] / shape[1], index / shape[2] % shape[1]];
                if place[time_axis] >= LENGTHS[place[row_axis]] {
                    past += 1;
                    assert_eq!(*value, 0.0, "{case}: {name} at {place:?}");
                }
            }
            assert_eq!(past, (5 * 7 - 16) * shape[2], "{case}: {name}");
        }
    }
}

/// One row of everything that goes in, cut to its length.
fn alone(case: &Case, row: usize) -> (Sequence, Cotangents) {
    let (row_axis, time_axis) = axes(&case.config);
    let cut = |tensor: Tensor<3>| {
        tensor
            .narrow(row_axis, row, 1)
            .narrow(time_axis, 0, LENGTHS[row])
    };
    let leaf = |tensor: Tensor<3>| tensor.detach().require_grad();
    let row_of = |state: LstmState| state.map(|tensor| tensor.narrow(1, row, 1));
    let (sequence, cotangents) = (case.sequence(), case.cotangents());
    (
        Sequence {
            input: leaf(cut(sequence.input)),
            state: sequence.state.map(|state| row_of(state).map(leaf)),
        },
        Cotangents {
            output: cut(cotangents.output),
            state: row_of(cotangents.state),
        },
    )
}

/// Row `row` of something with a row at `axis`, and `steps` of its time if it has one.
fn cut(values: &Values, axis: usize, row: usize, time: Option<(usize, usize)>) -> Values {
    let data = TensorData::new(values.values.clone(), values.shape.clone());
    let device = scratch_tests::device();
    // On the host's terms: f64 where there is one, and what f32 holds elsewhere.
    let dtype = if dtypes().contains(&DType::F64) {
        DType::F64
    } else {
        DType::F32
    };
    let tensor = Tensor::<3>::from_data(data, (&device, dtype)).narrow(axis, row, 1);
    match time {
        Some((axis, steps)) => tensor.narrow(axis, 0, steps).into(),
        None => tensor.into(),
    }
}

#[test]
fn each_row_is_what_it_is_alone() {
    for case in cases() {
        let (row_axis, time_axis) = axes(&case.config);
        let together = run(&case, f64::NAN);
        let lstm = case.lstm();
        let tolerance = Tolerance::of(case.dtype);
        let mut sums: Option<Named> = None;
        for (row, &length) in LENGTHS.iter().enumerate() {
            let what = format!("{case}, row {row}");
            if length == 0 {
                check_empty_row(&case, &together, row);
                continue;
            }
            let (sequence, cotangents) = alone(&case, row);
            let mut expected = probe(&lstm, &sequence, &cotangents, ForwardOptions::new());
            let parameters = take_parameters(&mut expected);
            sums = Some(match sums {
                None => parameters,
                Some(sums) => add(sums, &parameters),
            });
            for (name, expected) in expected {
                let found = match name.as_str() {
                    "output" | "grad.input" => {
                        cut(&together[&name], row_axis, row, Some((time_axis, length)))
                    }
                    _ => cut(&together[&name], 1, row, None),
                };
                assert_close(&format!("{what}: {name}"), found, expected, tolerance);
            }
        }
        // The gradients of the weights are the sums over the rows.
        let mut together = together;
        let found = take_parameters(&mut together);
        assert_all_close(&case.to_string(), &found, &sums.unwrap(), tolerance);
    }
}

fn take_parameters(named: &mut Named) -> Named {
    named
        .extract_if(.., |name, _| name.starts_with("grad.layers"))
        .collect()
}

fn add(mut sums: Named, more: &Named) -> Named {
    for (name, sum) in &mut sums {
        let more = &more[name].values;
        sum.values
            .iter_mut()
            .zip(more)
            .for_each(|(sum, more)| *sum += more);
    }
    sums
}

/// A row of length 0 shows nothing and hands its state on, and so its gradient.
fn check_empty_row(case: &Case, together: &Named, row: usize) {
    let (state, cotangents) = (case.sequence().state.unwrap(), case.cotangents().state);
    let exact = Tolerance {
        absolute: 0.0,
        relative: 0.0,
    };
    for (name, expected) in [
        ("h_n", state.hidden),
        ("c_n", state.cell),
        ("grad.h_0", cotangents.hidden),
        ("grad.c_0", cotangents.cell),
    ] {
        let expected = expected.inner().narrow(1, row, 1);
        let found = cut(&together[name], 1, row, None);
        assert_close(
            &format!("{case}: {name} of an empty row"),
            found,
            expected,
            exact,
        );
    }
}

#[test]
fn lengths_of_all_steps_are_no_lengths() {
    for case in cases() {
        let lstm = case.lstm();
        let (sequence, cotangents) = (case.sequence(), case.cotangents());
        let full = [7; LENGTHS.len()];
        let options = ForwardOptions::new().with_lengths(&full[..]);
        let found = probe(&lstm, &sequence, &cotangents, options);
        let expected = probe(&lstm, &sequence.fresh(), &cotangents, ForwardOptions::new());
        assert_all_same(&case.to_string(), &found, &expected);
    }
}

#[test]
fn steps_that_no_row_has_change_nothing() {
    // The longest row ends before the input does.
    for case in cases() {
        let lengths = [2, 4, 0, 3, 4];
        let (_, time_axis) = axes(&case.config);
        let lstm = case.lstm().valid();
        let input = case.sequence().input.inner();
        let options = || ForwardOptions::new().with_lengths(&lengths[..]);
        let (output, state) = lstm.forward_with(input.clone(), options());
        let (short, expected) = lstm.forward_with(input.narrow(time_axis, 0, 4), options());
        let tolerance = Tolerance::of(case.dtype);
        let what = case.to_string();
        assert_close(
            &what,
            output.clone().narrow(time_axis, 0, 4),
            short,
            tolerance,
        );
        assert_close(&what, state.hidden, expected.hidden, tolerance);
        assert_close(&what, state.cell, expected.cell, tolerance);
        let rest = output.narrow(time_axis, 4, 3);
        assert_eq!(rest.abs().max().into_scalar::<f64>(), 0.0, "{what}");
    }
}

#[test]
fn rows_that_are_all_empty_hand_their_state_on() {
    for case in cases() {
        let lstm = case.lstm();
        let (sequence, cotangents) = (case.sequence(), case.cotangents());
        let nothing = [0; LENGTHS.len()];
        let options = || ForwardOptions::new().with_lengths(&nothing[..]);
        let input = sequence.input.clone() * f64::NAN;
        let (output, state) = lstm.forward_with(input.clone(), options());
        let zeros = [&output, &state.hidden, &state.cell];
        for tensor in zeros {
            let largest: f64 = tensor.clone().abs().max().into_scalar();
            assert_eq!(largest, 0.0, "{case}, from the zero state");
        }
        let found = probe(&lstm, &sequence, &cotangents, options());
        for row in 0..LENGTHS.len() {
            check_empty_row(&case, &found, row);
        }
        for (name, values) in &found {
            if name.starts_with("grad.layers") || ["output", "grad.input"].contains(&name.as_str())
            {
                assert!(
                    values.values.iter().all(|&value| value == 0.0),
                    "{case}: {name}"
                );
            }
        }
    }
}

#[test]
fn reset_rows_start_from_zeros_whatever_the_state_holds() {
    let resets = [true, false, true, false, false];
    for case in cases() {
        let lstm = case.lstm();
        let (sequence, cotangents) = (case.sequence(), case.cotangents());
        // Zeros, and NaN, in the rows that are reset.
        let with = |value: f64| Sequence {
            input: sequence.input.clone().detach().require_grad(),
            state: sequence.state.clone().map(|state| {
                state.map(|tensor| {
                    let Values { shape, mut values } = tensor.inner().into();
                    for (index, number) in values.iter_mut().enumerate() {
                        if resets[index / shape[2] % shape[1]] {
                            *number = value;
                        }
                    }
                    let data = TensorData::new(values, shape);
                    Tensor::from_data(data, (&case.device(), case.dtype)).require_grad()
                })
            }),
        };
        for lengths in [None, Some(&LENGTHS[..])] {
            let plain = ForwardOptions::new().with_lengths(lengths);
            let mut expected = probe(&lstm, &with(0.0), &cotangents, plain.clone());
            // No gradient flows into a state that is not used.
            for name in ["grad.h_0", "grad.c_0"] {
                let gradient = expected.get_mut(name).unwrap();
                let (batch, width) = (gradient.shape[1], gradient.shape[2]);
                for (index, number) in gradient.values.iter_mut().enumerate() {
                    if resets[index / width % batch] {
                        *number = 0.0;
                    }
                }
            }
            let options = plain.with_resets(&resets[..]);
            let found = probe(&lstm, &with(f64::NAN), &cotangents, options);
            let what = format!("{case}, lengths {lengths:?}");
            assert_all_same(&what, &found, &expected);
        }
    }
}

#[test]
fn resets_without_a_state_change_nothing() {
    for case in cases() {
        let lstm: ScratchLstm = case.lstm().valid();
        let input = case.sequence().input.inner();
        let resets = [true, false, true, false, false];
        let options = ForwardOptions::new().with_resets(&resets[..]);
        let (found, _) = lstm.forward_with(input.clone(), options);
        let (expected, _) = lstm.forward(input, None);
        assert_eq!(Values::from(found), Values::from(expected), "{case}");
    }
}
