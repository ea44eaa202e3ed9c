//! Proves that what does not fit is a typed error that names the thing, what was expected and what
//! was found; that the `try_` forms return it and the plain forms panic with its text; and what
//! happens where autodiff is on for one side only.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use scratch_lstm::{
    ConfigError, ForwardError, ForwardOptions, Key, LstmState, RecurrentState, ScratchLstm,
    ScratchLstmCell, ScratchLstmConfig, StateError,
};
use scratch_tests::backend::{self, has_f64};
use scratch_tests::probe::parameters_without_gradient;
use scratch_tests::{Values, device, say};
use scratch_train::TrainingConfig;

const B: usize = 3;
const T: usize = 7;
const D: usize = 5;
const H: usize = 11;

fn config() -> ScratchLstmConfig {
    ScratchLstmConfig::new(D, H)
        .with_num_layers(2)
        .with_bidirectional(true)
}

fn lstm() -> ScratchLstm {
    config().init_with(&Key::new(1).child("lstm"), &device())
}

fn input() -> Tensor<3> {
    Tensor::ones([B, T, D], &device())
}

fn state(shape: [usize; 3]) -> LstmState {
    LstmState::zeros(shape, &device())
}

/// The error of a call, and that the plain form panics with its text.
#[track_caller]
fn error(lstm: &ScratchLstm, input: Tensor<3>, options: ForwardOptions<'_>) -> ForwardError {
    let found = lstm.try_forward_with(input.clone(), options.clone());
    let error = found.expect_err("this must not fit");
    let panic = catch_unwind(AssertUnwindSafe(|| lstm.forward_with(input, options)));
    let text = panic.expect_err("the plain form must panic");
    let text = text.downcast_ref::<String>().expect("a text");
    assert_eq!(text, &error.to_string());
    error
}

#[track_caller]
fn check(error: ForwardError, expected: ForwardError, text: &str) {
    assert_eq!(error, expected);
    assert_eq!(error.to_string(), text);
}

#[test]
fn an_input_of_another_width() {
    for (batch_first, expected) in [(true, "[B, T, D=5]"), (false, "[T, B, D=5]")] {
        let lstm = config()
            .with_batch_first(batch_first)
            .init_with(&Key::new(1), &device());
        let input = Tensor::ones([B, T, D + 1], &device());
        check(
            error(&lstm, input, ForwardOptions::new()),
            ForwardError::Shape {
                what: "input",
                expected: expected.into(),
                found: vec![3, 7, 6],
            },
            &format!("input: expected shape {expected}, found [3, 7, 6]"),
        );
    }
}

#[test]
fn an_input_without_rows_or_steps() {
    for shape in [[0, T, D], [B, 0, D]] {
        let input = Tensor::zeros(shape, &device());
        check(
            error(&lstm(), input, ForwardOptions::new()),
            ForwardError::Empty {
                what: "input",
                found: shape.to_vec(),
            },
            &format!("input: expected at least one row and one time step, found shape {shape:?}"),
        );
    }
}

#[test]
fn a_state_of_another_shape() {
    // Another batch, number of layers and directions, width: of either tensor.
    for shape in [[4, B + 1, H], [2, B, H], [4, B, H + 1]] {
        for what in ["state.hidden", "state.cell"] {
            let mut state = state([4, B, H]);
            let odd = Tensor::zeros(shape, &device());
            match what {
                "state.hidden" => state.hidden = odd,
                _ => state.cell = odd,
            }
            check(
                error(&lstm(), input(), ForwardOptions::new().with_state(state)),
                ForwardError::Shape {
                    what,
                    expected: "[L*K=4, B=3, H=11]".into(),
                    found: shape.to_vec(),
                },
                &format!("{what}: expected shape [L*K=4, B=3, H=11], found {shape:?}"),
            );
        }
    }
    let found = lstm().try_forward(input(), Some(state([4, B + 1, H])));
    assert!(matches!(found, Err(ForwardError::Shape { .. })));
}

#[test]
fn lists_with_another_number_of_rows() {
    let text =
        |what| format!("{what}: expected one entry for each of the 3 rows of the batch, found 2");
    let rows = |what| ForwardError::Rows {
        what,
        expected: 3,
        found: 2,
    };
    let options = ForwardOptions::new().with_lengths(&[1, 2][..]);
    check(
        error(&lstm(), input(), options),
        rows("lengths"),
        &text("lengths"),
    );
    // With a state and without one.
    let options = ForwardOptions::new().with_resets(&[true, false][..]);
    check(
        error(&lstm(), input(), options.clone()),
        rows("resets"),
        &text("resets"),
    );
    let options = options.with_state(state([4, B, H]));
    check(
        error(&lstm(), input(), options),
        rows("resets"),
        &text("resets"),
    );
}

#[test]
fn a_length_beyond_the_input() {
    let options = ForwardOptions::new().with_lengths(&[7, 0, 8][..]);
    check(
        error(&lstm(), input(), options),
        ForwardError::Length {
            row: 2,
            steps: 7,
            found: 8,
        },
        "lengths: expected at most 7 (the time steps of the input), found 8 in row 2",
    );
    let options = ForwardOptions::new().with_lengths(&[7, usize::MAX, 7][..]);
    assert!(matches!(
        error(&lstm(), input(), options),
        ForwardError::Length { row: 1, .. }
    ));
}

#[test]
fn another_element_type() {
    if !has_f64("another_element_type") {
        return;
    }
    let double = |what| ForwardError::DType {
        what,
        expected: "F32".into(),
        found: "F64".into(),
    };
    let text = |what| format!("{what}: expected element type F32 (that of the weights), found F64");
    let wide = input().cast(DType::F64);
    check(
        error(&lstm(), wide, ForwardOptions::new()),
        double("input"),
        &text("input"),
    );
    for what in ["state.hidden", "state.cell"] {
        let mut state = state([4, B, H]);
        match what {
            "state.hidden" => state.hidden = state.hidden.cast(DType::F64),
            _ => state.cell = state.cell.cast(DType::F64),
        }
        let options = ForwardOptions::new().with_state(state);
        check(error(&lstm(), input(), options), double(what), &text(what));
    }
}

#[test]
fn another_device() {
    let here = device();
    let others = backend::all().into_iter().map(|chosen| chosen.device);
    let Some(other) = others.into_iter().find(|other| *other != here) else {
        say("skipped: another_device, only one backend is built in");
        return;
    };
    let elsewhere = |what| ForwardError::Device {
        what,
        expected: format!("{here:?}"),
        found: format!("{other:?}"),
    };
    let text =
        |what| format!("{what}: expected device {here:?} (that of the weights), found {other:?}");
    let far = Tensor::ones([B, T, D], &other);
    check(
        error(&lstm(), far, ForwardOptions::new()),
        elsewhere("input"),
        &text("input"),
    );
    for what in ["state.hidden", "state.cell"] {
        let mut state = state([4, B, H]);
        let far = Tensor::zeros([4, B, H], &other);
        match what {
            "state.hidden" => state.hidden = far,
            _ => state.cell = far,
        }
        let options = ForwardOptions::new().with_state(state);
        check(
            error(&lstm(), input(), options),
            elsewhere(what),
            &text(what),
        );
    }
}

#[test]
fn the_cell() {
    let cell: ScratchLstmCell = lstm().layers[0].forward.clone();
    let step = |width: usize| Tensor::<2>::ones([B, width], &device());
    let shape = |what, expected: &str, found: [usize; 2]| ForwardError::Shape {
        what,
        expected: expected.into(),
        found: found.to_vec(),
    };
    let found = cell.try_forward(step(D + 1), None).unwrap_err();
    assert_eq!(found, shape("input", "[B=3, 5]", [3, 6]));

    let states = [
        ("state.hidden", step(H + 1), step(H)),
        ("state.cell", step(H), step(H + 1)),
    ];
    for (what, hidden, cell_state) in states {
        let state = LstmState {
            hidden,
            cell: cell_state,
        };
        let found = cell.try_forward(step(D), Some(state)).unwrap_err();
        assert_eq!(found, shape(what, "[B=3, 11]", [3, 12]));
    }
    let other_batch = LstmState::<2>::zeros([B + 1, H], &device());
    let found = cell.try_forward(step(D), Some(other_batch)).unwrap_err();
    assert_eq!(found, shape("state.hidden", "[B=3, 11]", [4, 11]));

    if has_f64("the_cell in f64") {
        let found = cell
            .try_forward(step(D).cast(DType::F64), None)
            .unwrap_err();
        assert!(
            matches!(found, ForwardError::DType { what: "input", .. }),
            "{found}"
        );
        let state = LstmState::<2>::zeros([B, H], (&device(), DType::F64));
        let found = cell.try_forward(step(D), Some(state)).unwrap_err();
        assert!(
            matches!(
                found,
                ForwardError::DType {
                    what: "state.hidden",
                    ..
                }
            ),
            "{found}"
        );
    }
    let panic = catch_unwind(AssertUnwindSafe(|| cell.forward(step(D + 1), None))).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert_eq!(text, "input: expected shape [B=3, 5], found [3, 6]");
}

#[test]
fn settings() {
    let base = ScratchLstmConfig::new(D, H);
    let cases: [(ScratchLstmConfig, &str); 8] = [
        (
            ScratchLstmConfig::new(0, H),
            "invalid configuration: `d_input` must be at least 1, found 0",
        ),
        (
            ScratchLstmConfig::new(D, 0),
            "invalid configuration: `d_hidden` must be at least 1, found 0",
        ),
        (
            base.clone().with_num_layers(0),
            "invalid configuration: `num_layers` must be at least 1, found 0",
        ),
        (
            base.clone().with_dropout(1.0),
            "invalid configuration: `regularization.dropout` must be at least 0 and less than 1, \
             found 1",
        ),
        (
            base.clone().with_dropout(-0.5),
            "invalid configuration: `regularization.dropout` must be at least 0 and less than 1, \
             found -0.5",
        ),
        (
            base.clone().with_dropout(f64::NAN),
            "invalid configuration: `regularization.dropout` must be at least 0 and less than 1, \
             found NaN",
        ),
        (
            base.clone().with_forget_bias(f64::INFINITY),
            "invalid configuration: `init.forget_bias` must be a finite number, found inf",
        ),
        (
            ScratchLstmConfig::new(D, usize::MAX),
            "invalid configuration: `d_hidden` must be small enough for 2147483648 parameters in \
             all, found d_hidden 18446744073709551615, more than can be counted",
        ),
    ];
    for (config, text) in cases {
        let error: ConfigError = config.validate().unwrap_err();
        assert_eq!(error.to_string(), text);
        for found in [
            config.try_init(&device()),
            config.try_init_with(&Key::new(1), &device()),
        ] {
            assert_eq!(found.err(), Some(error.clone()));
        }
        let panic = catch_unwind(|| config.init(&device())).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), text);
    }
}

#[test]
fn training_settings() {
    let base = TrainingConfig::default();
    let cases = [
        (
            TrainingConfig {
                epochs: 0,
                ..base.clone()
            },
            "invalid configuration: `epochs` must be at least 1, found 0",
        ),
        (
            TrainingConfig {
                accumulate: 0,
                ..base.clone()
            },
            "invalid configuration: `accumulate` must be at least 1, found 0",
        ),
        (
            TrainingConfig {
                validate_every: Some(0),
                ..base.clone()
            },
            "invalid configuration: `validate_every` must be at least 1, found 0",
        ),
        (
            TrainingConfig {
                patience: Some(0),
                ..base.clone()
            },
            "invalid configuration: `patience` must be at least 1, found 0",
        ),
        (
            TrainingConfig {
                max_time: Some(0.0),
                ..base.clone()
            },
            "invalid configuration: `max_time` must be a positive number, found 0",
        ),
        (
            TrainingConfig {
                learning_rate: f64::NAN,
                ..base.clone()
            },
            "invalid configuration: `learning_rate` must be a positive number, found NaN",
        ),
        (
            TrainingConfig {
                epochs: usize::MAX,
                ..base.clone()
            },
            "invalid configuration: `epochs` must be at most 1000000000, found \
             18446744073709551615",
        ),
        (
            TrainingConfig {
                clip_norm: Some(-1.0),
                ..base.clone()
            },
            "invalid configuration: `clip_norm` must be a positive number, found -1",
        ),
    ];
    for (config, text) in cases {
        assert_eq!(config.validate().unwrap_err().to_string(), text);
    }
    assert!(base.validate().is_ok());
}

#[test]
fn a_saved_state() {
    let state = LstmState {
        hidden: Tensor::<3>::ones([2, B, H], &device()),
        cell: Tensor::<3>::ones([2, B, H], &device()) * 2.0,
    };
    let saved = state.to_named();
    let back = LstmState::try_from_named(&saved, &device()).unwrap();
    assert_eq!(Values::from(back.hidden), Values::from(state.hidden));
    assert_eq!(Values::from(back.cell), Values::from(state.cell));

    let without = |name: &str| -> BTreeMap<String, TensorData> {
        saved
            .clone()
            .into_iter()
            .filter(|(other, _)| other != name)
            .collect()
    };
    for (name, other) in [("hidden", "cell"), ("cell", "hidden")] {
        let error = LstmState::try_from_named(&without(name), &device()).unwrap_err();
        let expected = StateError::Missing {
            name: name.into(),
            found: vec![other.into()],
        };
        assert_eq!(error, expected);
        let text = format!("saved state: expected a tensor named `{name}`, found [\"{other}\"]");
        assert_eq!(error.to_string(), text);
    }
    let mut flat = saved;
    flat.insert("cell".into(), TensorData::new(vec![0.0f32; 6], [2, 3]));
    let error = LstmState::try_from_named(&flat, &device()).unwrap_err();
    let expected = StateError::Rank {
        name: "cell".into(),
        expected: 3,
        found: vec![2, 3],
    };
    assert_eq!(error, expected);
    let text = "saved state: expected `cell` to have 3 axes, found shape [2, 3]";
    assert_eq!(error.to_string(), text);
}

/// A device with autodiff and the same one without are equal in burn, so neither is an error: a
/// plain input or state is a constant to an LSTM that is trained, and gradients reach every
/// parameter.
#[test]
fn plain_inputs_are_constants_to_an_lstm_that_is_trained() {
    let trained = config().init_with(&Key::new(1).child("lstm"), &device().autodiff());
    let state = LstmState {
        hidden: Tensor::ones([4, B, H], &device()),
        cell: Tensor::ones([4, B, H], &device()),
    };
    let (output, after) = trained.try_forward(input(), Some(state.clone())).unwrap();
    assert!(output.is_autodiff());
    let gradients = (output.clone().sum() + after.cell.sum()).backward();
    assert_eq!(
        parameters_without_gradient(&trained, &gradients),
        Vec::<String>::new()
    );

    // The same numbers as with everything on the autodiff device.
    let on = |device: &Device| LstmState {
        hidden: Tensor::ones([4, B, H], device),
        cell: Tensor::ones([4, B, H], device),
    };
    let autodiff = device().autodiff();
    let everything = Tensor::ones([B, T, D], &autodiff);
    let (expected, _) = trained
        .try_forward(everything, Some(on(&autodiff)))
        .unwrap();
    assert_eq!(Values::from(output), Values::from(expected));

    // With lengths and resets, too.
    let options = ForwardOptions::new()
        .with_state(state)
        .with_lengths(&[3, 0, 7][..])
        .with_resets(&[true, false, false][..]);
    let (output, _) = trained.try_forward_with(input(), options).unwrap();
    let gradients = output.sum().backward();
    assert_eq!(
        parameters_without_gradient(&trained, &gradients),
        Vec::<String>::new()
    );
}

/// The other way round: gradients flow through an LSTM that is not trained, into what it reads.
#[test]
fn gradients_flow_through_an_lstm_that_is_not_trained() {
    let fixed = lstm().valid();
    let input = Tensor::<3>::ones([B, T, D], &device().autodiff()).require_grad();
    let (output, _) = fixed.try_forward(input.clone(), None).unwrap();
    let gradients = output.sum().backward();
    let gradient: Values = input.grad(&gradients).unwrap().into();
    assert!(gradient.values.iter().all(|value| *value != 0.0));
}
