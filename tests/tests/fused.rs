//! Proves that the fused operation is the raw one: outputs, final states and every gradient, for
//! losses of any of the results, whatever is tracked, strided, expanded, checkpointed or divided
//! into segments, in f32, f64 and, computed in f32, in f16 and bf16; that it never gives way to the
//! raw one unasked; and that it says so where it cannot differentiate.

use std::num::NonZeroUsize;

use burn::tensor::{DType, Tensor};
use scratch_lstm::config::{CellConfig, DirectionJoin};
use scratch_lstm::fused::Kernels;
use scratch_lstm::{
    ForwardError, ForwardOptions, Key, LstmState, Path, PathChoice, ScratchLstm, ScratchLstmConfig,
};
use scratch_tests::probe::{Cotangents, Sequence, observe, parameter_gradients, probe};
use scratch_tests::{
    Case, Named, Tolerance, assert_all_close, assert_all_same, assert_close, device, dtypes,
    is_gpu, say,
};

fn cases() -> Vec<Case> {
    let base = ScratchLstmConfig::new(5, 11);
    let deep = base.clone().with_num_layers(2).with_bidirectional(true);
    let mut configs = vec![(base.clone(), 3, 7), (deep.clone().with_dropout(0.3), 3, 7)];
    if !is_gpu() {
        configs.extend([
            (base.clone().with_batch_first(false).with_bias(false), 1, 1),
            (base, 1, 9),
            (
                deep.with_join(DirectionJoin::AtEnd)
                    .with_batch_first(false)
                    .with_dropout(0.3),
                5,
                4,
            ),
            (ScratchLstmConfig::new(1, 1), 2, 3),
            (ScratchLstmConfig::new(33, 67).with_num_layers(2), 13, 6),
        ]);
    }
    let cases = configs.into_iter().flat_map(|(config, batch, steps)| {
        dtypes().into_iter().map(move |dtype| {
            let case = Case::new(config.clone()).with_sizes(batch, steps);
            case.with_dtype(dtype)
        })
    });
    cases.collect()
}

/// A call of `case`'s LSTM by a path.
fn run(case: &Case, path: PathChoice, options: ForwardOptions<'_>) -> Named {
    let key = Key::new(7);
    let options = options.with_path(path).with_key(&key);
    probe(&case.lstm(), &case.sequence(), &case.cotangents(), options)
}

#[test]
fn results_and_gradients_are_those_of_raw_operations() {
    for case in cases() {
        let lengths: Vec<usize> = (0..case.batch)
            .map(|row| row * 3 % (case.steps + 1))
            .collect();
        let resets: Vec<bool> = (0..case.batch).map(|row| row % 2 == 1).collect();
        for options in [
            ForwardOptions::new(),
            ForwardOptions::new().with_lengths(&lengths[..]),
            ForwardOptions::new()
                .with_lengths(&lengths[..])
                .with_resets(&resets[..]),
        ] {
            let expected = run(&case, PathChoice::Raw, options.clone());
            for case in [case.clone(), case.clone().with_checkpointing()] {
                let found = run(&case, PathChoice::Fused, options.clone());
                let what = format!("{case}, {options:?}, checkpointing {}", case.checkpointing);
                assert_all_close(&what, &found, &expected, Tolerance::of(case.dtype));
            }
        }
    }
}

#[test]
fn segments_change_nothing_but_rounding() {
    let case = Case::new(ScratchLstmConfig::new(5, 11).with_bidirectional(true)).with_sizes(4, 9);
    let expected = run(&case, PathChoice::Raw, ForwardOptions::new());
    for segment in [1, 2, 4, 9, 100, usize::MAX] {
        let segment = NonZeroUsize::new(segment);
        let options = ForwardOptions::new().with_segment(segment);
        for case in [case.clone(), case.clone().with_checkpointing()] {
            let found = run(&case, PathChoice::Fused, options.clone());
            let what = format!("segments of {segment:?}");
            assert_all_close(&what, &found, &expected, Tolerance::of(case.dtype));
        }
    }
}

#[test]
fn a_call_repeated_gives_the_same_bits() {
    for case in cases() {
        let first = run(&case, PathChoice::Fused, ForwardOptions::new());
        let second = run(&case, PathChoice::Fused, ForwardOptions::new());
        assert_all_same(&case.to_string(), &second, &first);
    }
}

/// Losses that see some of the results.
#[test]
fn any_of_the_results_can_be_in_the_loss() {
    let case = Case::new(ScratchLstmConfig::new(5, 11).with_num_layers(2));
    let parts = |number: usize| (number & 1 != 0, number & 2 != 0, number & 4 != 0);
    for number in 1..8 {
        let (output, hidden, cell) = parts(number);
        let run = |path: PathChoice| {
            let (lstm, sequence) = (case.lstm(), case.sequence());
            let Cotangents {
                output: d_output,
                state: d_state,
            } = case.cotangents();
            let options = ForwardOptions::new()
                .with_state(sequence.state.clone())
                .with_path(path);
            let (shown, state) = lstm.forward_with(sequence.input.clone(), options);
            let terms = [
                output.then(|| (shown * d_output).sum()),
                hidden.then(|| (state.hidden * d_state.hidden).sum()),
                cell.then(|| (state.cell * d_state.cell).sum()),
            ];
            let loss = terms.into_iter().flatten().reduce(|a, b| a + b);
            let gradients = loss.expect("one of them").backward();
            let mut named = parameter_gradients(&lstm, &gradients);
            let state = sequence.state.as_ref().expect("a case has a state");
            for (name, leaf) in [
                ("input", &sequence.input),
                ("h_0", &state.hidden),
                ("c_0", &state.cell),
            ] {
                let gradient = leaf.grad(&gradients).expect("a gradient");
                named.insert(name.into(), gradient.into());
            }
            named
        };
        let what = format!("output {output}, hidden {hidden}, cell {cell}");
        let tolerance = Tolerance::of(case.dtype);
        let expected = run(PathChoice::Raw);
        assert_all_close(&what, &run(PathChoice::Fused), &expected, tolerance);
    }
}

#[test]
fn any_of_the_inputs_can_be_untracked() {
    let case = Case::new(ScratchLstmConfig::new(5, 11));
    let run = |tracked: [bool; 6], path: PathChoice| {
        let [x, weight_ih, weight_hh, bias, h_0, c_0] = tracked;
        let mut lstm = case.lstm();
        let cell = &mut lstm.layers[0].forward;
        cell.weight_ih = cell.weight_ih.clone().set_require_grad(weight_ih);
        cell.weight_hh = cell.weight_hh.clone().set_require_grad(weight_hh);
        cell.bias = cell.bias.clone().map(|b| b.set_require_grad(bias));
        let set = |leaf: Tensor<3>, tracked: bool| leaf.detach().set_require_grad(tracked);
        let Sequence { input, state } = case.sequence();
        let state = state.expect("a case has a state");
        let sequence = Sequence {
            input: set(input, x),
            state: Some(LstmState {
                hidden: set(state.hidden, h_0),
                cell: set(state.cell, c_0),
            }),
        };
        let options = ForwardOptions::new()
            .with_state(sequence.state.clone())
            .with_path(path);
        let (output, state) = lstm.forward_with(sequence.input.clone(), options);
        let is_tracked = output.is_tracked();
        let (mut named, gradients) = observe(&sequence, output, state, &case.cotangents());
        named.extend(parameter_gradients(&lstm, &gradients));
        let cell = &lstm.layers[0].forward;
        let state = sequence.state.expect("given above");
        let found = [
            sequence.input.grad(&gradients).is_some(),
            cell.weight_ih.grad(&gradients).is_some(),
            cell.weight_hh.grad(&gradients).is_some(),
            cell.bias
                .as_ref()
                .is_some_and(|b| b.grad(&gradients).is_some()),
            state.hidden.grad(&gradients).is_some(),
            state.cell.grad(&gradients).is_some(),
        ];
        assert_eq!(found, tracked, "{path:?}: gradients that are there");
        assert_eq!(is_tracked, tracked.contains(&true), "{path:?}: {tracked:?}");
        named
    };
    let combinations = if is_gpu() {
        vec![1, 22, 41, 62]
    } else {
        (1..64).collect()
    };
    for number in combinations {
        let tracked = std::array::from_fn(|bit| number & (1 << bit) != 0);
        let expected = run(tracked, PathChoice::Raw);
        let found = run(tracked, PathChoice::Fused);
        assert_all_close(
            &format!("{tracked:?}"),
            &found,
            &expected,
            Tolerance::of(case.dtype),
        );
    }
}

#[test]
fn nothing_tracked_is_not_tracked() {
    let case = Case::new(ScratchLstmConfig::new(5, 11));
    let lstm = case.lstm();
    let plain = burn::module::Module::freeze(lstm.clone());
    let input = case.constant(case.io_shape(5), "input");
    let options = ForwardOptions::new().with_path(PathChoice::Fused);
    let (output, state) = plain.forward_with(input.clone(), options.clone());
    assert!(!output.is_tracked() && !state.hidden.is_tracked() && !state.cell.is_tracked());
    let (expected, _) = lstm.forward_with(input, options);
    assert_close("output", output, expected, Tolerance::of(case.dtype));
}

/// Views of larger tensors, transposed, flipped and expanded ones, as inputs and as gradients.
#[test]
fn strided_inputs_and_gradients() {
    for batch_first in [true, false] {
        for dtype in dtypes() {
            let config = ScratchLstmConfig::new(5, 11).with_batch_first(batch_first);
            let case = Case::new(config).with_dtype(dtype);
            let lstm = case.lstm();
            let [first, second, width] = case.io_shape(5);
            let swapped = case.leaf([second, first, width], "swapped");
            let inside = case.leaf([first + 2, second + 3, width + 4], "inside");
            let one = case.leaf([1, second, width], "one");
            let last = case.leaf([width, second, first], "last");
            let (h_0, c_0) = (case.leaf([1, 11, 3], "h_0"), case.leaf([1, 1, 11], "c_0"));
            type View<'a> = (&'a str, &'a Tensor<3>, &'a dyn Fn() -> Tensor<3>);
            let views: [View<'_>; 5] = [
                ("swapped", &swapped, &|| swapped.clone().swap_dims(0, 1)),
                ("inside", &inside, &|| {
                    let inside = inside.clone();
                    inside.slice([1..1 + first, 2..2 + second, 3..3 + width])
                }),
                ("flipped", &inside, &|| {
                    let inside = inside.clone().flip([1, 2]);
                    inside.slice([0..first, 0..second, 0..width])
                }),
                ("expanded", &one, &|| {
                    one.clone().expand([first, second, width])
                }),
                ("last axis apart", &last, &|| last.clone().swap_dims(0, 2)),
            ];
            for (what, leaf, view) in views {
                let run = |path: PathChoice| {
                    let state = LstmState {
                        hidden: h_0.clone().swap_dims(1, 2),
                        cell: c_0.clone().expand([1, 3, 11]),
                    };
                    let options = ForwardOptions::new().with_state(state).with_path(path);
                    let (output, after) = lstm.forward_with(view(), options);
                    let flipped = output.clone().flip([1]) * case.constant(case.io_shape(11), "d");
                    // Gradients that are expanded, swapped and of a part.
                    let loss = output.clone().sum()
                        + output.swap_dims(0, 2).narrow(0, 2, 5).exp().sum()
                        + flipped.sum()
                        + after.hidden.swap_dims(0, 1).sum()
                        + after.cell.sum() * 2.0;
                    let gradients = loss.backward();
                    let mut named = parameter_gradients(&lstm, &gradients);
                    for (name, leaf) in [("leaf", leaf), ("h_0", &h_0), ("c_0", &c_0)] {
                        let gradient = leaf.grad(&gradients).expect("a gradient");
                        named.insert(name.into(), gradient.into());
                    }
                    named
                };
                let expected = run(PathChoice::Raw);
                let tolerance = Tolerance::of(dtype).times(4.0);
                let found = run(PathChoice::Fused);
                assert_all_close(&format!("{case}, {what}"), &found, &expected, tolerance);
            }
        }
    }
}

/// Half precision is computed in f32 and rounded at the end: nearer to f32 than raw operations,
/// which round at every step.
#[test]
fn half_precision() {
    let config = ScratchLstmConfig::new(5, 11).with_num_layers(2);
    for dtype in [DType::F16, DType::BF16] {
        if !device().supports_dtype(dtype) {
            say(&format!("skipped: {dtype:?}, the device has none"));
            continue;
        }
        let case = Case::new(config.clone()).with_dtype(dtype);
        // The same numbers in f32: those that the narrow type has.
        let wide = |tensor: Tensor<3>| tensor.cast(DType::F32).detach().require_grad();
        let (lstm, sequence) = (case.lstm(), case.sequence());
        let cotangents = case.cotangents();
        let in_f32 = {
            let lstm = to_f32(&lstm);
            let sequence = Sequence {
                input: wide(sequence.input.clone()),
                state: sequence.state.clone().map(|state| state.map(wide)),
            };
            let cotangents = Cotangents {
                output: cotangents.output.clone().cast(DType::F32),
                state: cotangents.state.clone().map(|t| t.cast(DType::F32)),
            };
            let options = ForwardOptions::new().with_path(PathChoice::Fused);
            probe(&lstm, &sequence, &cotangents, options)
        };
        for checkpointing in [false, true] {
            let case = match checkpointing {
                true => case.clone().with_checkpointing(),
                false => case.clone(),
            };
            for path in scratch_tests::PATHS {
                let options = ForwardOptions::new().with_path(path);
                let found = probe(&case.lstm(), &case.sequence(), &case.cotangents(), options);
                let what = format!("{case}, {path:?}");
                let tolerance = match path {
                    PathChoice::Raw => Tolerance::of(dtype).times(8.0),
                    _ => Tolerance::of(dtype),
                };
                assert_all_close(&what, &found, &in_f32, tolerance);
            }
        }
    }
}

fn to_f32(lstm: &ScratchLstm) -> ScratchLstm {
    use burn::module::{Module, ModuleMapper, Param};
    struct ToF32;
    impl ModuleMapper for ToF32 {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.cast(DType::F32).detach().require_grad())
        }
    }
    lstm.clone().map(&mut ToF32)
}

#[test]
fn the_module_says_which_path_it_takes() {
    let config = ScratchLstmConfig::new(5, 11);
    let auto = config.init(&device()).path().unwrap();
    let fused = config.clone().with_path(PathChoice::Fused);
    assert_eq!(fused.init(&device().autodiff()).path().unwrap(), auto);
    match (&auto, is_gpu()) {
        (Path::Fused(Kernels::Cpu(_)), false) | (Path::Fused(Kernels::Gpu(Some(_))), true) => {}
        other => panic!("{other:?}"),
    }
    let raw = config.with_path(PathChoice::Raw).init(&device());
    assert_eq!(raw.path().unwrap().to_string(), "raw (as asked for)");
}

/// A module in a type the operation does not compute in: `Auto` gives way and says so, `Fused` is
/// an error.
#[test]
fn fused_where_it_cannot_be_had_is_an_error() {
    use scratch_lstm::fused::RawReason;

    let reason = RawReason::ElementType {
        dtype: DType::Flex32,
    };
    let error = ForwardError::Fused {
        reason: reason.clone(),
    };
    let path = |choice: PathChoice| {
        Path::of(
            choice,
            &device(),
            DType::Flex32,
            &CellConfig::default(),
            None,
        )
    };
    if is_gpu() {
        return;
    }
    assert_eq!(path(PathChoice::Auto), Ok(Path::Raw(reason)));
    assert_eq!(path(PathChoice::Fused), Err(error.clone()));
    assert!(
        error.to_string().contains("expected the fused operation"),
        "{error}"
    );
}

#[cfg(feature = "flex")]
#[test]
fn second_derivatives_name_the_raw_path() {
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::Shape;
    use scratch_lstm::Valid;
    use scratch_lstm::fused::{LstmCall, LstmInputs, LstmOps};

    type Once = Autodiff<Flex>;
    type Twice = Autodiff<Once>;

    let device = Default::default();
    let zeros = |shape: &[usize]| {
        use burn::backend::ops::FloatTensorOps;
        let tensor = Once::float_zeros(Shape::from(shape.to_vec()), &device, DType::F32.into());
        burn::backend::tensor::FloatTensor::<Twice>::new(tensor)
    };
    let call = LstmCall {
        batch_first: true,
        reverse: false,
        valid: Valid::All,
        cell: CellConfig::default(),
        segment: None,
        checkpoint: false,
    };
    let run = |tracked: bool| {
        let x = match tracked {
            true => zeros(&[3, 7, 5]).require_grad(),
            false => zeros(&[3, 7, 5]),
        };
        let inputs = LstmInputs::new(
            x,
            zeros(&[44, 5]),
            zeros(&[44, 11]),
            zeros(&[44]),
            zeros(&[3, 11]),
            zeros(&[3, 11]),
        );
        Twice::lstm_sequence(inputs, call.clone())
    };
    // Once is enough, as long as nobody asks for the gradient of a gradient.
    run(false);
    let panic = std::panic::catch_unwind(|| run(true)).unwrap_err();
    let message = panic.downcast_ref::<&str>().unwrap();
    assert!(message.contains("take the raw path"), "{message}");
}

/// A window and a second one that goes on from its state: one graph with two nodes.
#[test]
fn two_windows_in_one_graph() {
    let case = Case::new(ScratchLstmConfig::new(5, 11)).with_sizes(3, 8);
    let run = |path: PathChoice| {
        let (lstm, sequence) = (case.lstm(), case.sequence());
        let mut state = sequence.state.clone();
        let mut loss = Tensor::<1>::zeros([1], &case.device());
        for window in 0..2 {
            let input = sequence.input.clone().narrow(1, 4 * window, 4);
            let options = ForwardOptions::new().with_state(state).with_path(path);
            let (output, after) = lstm.forward_with(input, options);
            loss = loss + output.square().sum();
            state = Some(after);
        }
        let gradients = loss.backward();
        let mut named = parameter_gradients(&lstm, &gradients);
        let gradient = sequence.input.grad(&gradients).expect("a gradient");
        named.insert("input".into(), gradient.into());
        named
    };
    let expected = run(PathChoice::Raw);
    let tolerance = Tolerance::of(case.dtype);
    assert_all_close("two windows", &run(PathChoice::Fused), &expected, tolerance);
}
