//! Proves that every variant of the LSTM, alone and together with every other one, is the same
//! fused and raw, and that its gradients are the slopes of the function; and what single variants
//! promise: zoneout outside of training, masks without holes, padding at the left, and settings
//! that describe no LSTM.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Bool, DType, Tensor, TensorData};
use scratch_lstm::config::{
    Activation, Activations, CellConfig, LayerConnection, RegularizationConfig,
};
use scratch_lstm::gradcheck::GradCheck;
use scratch_lstm::{
    ForwardOptions, LstmState, Padding, PathChoice, ScratchLstm, ScratchLstmConfig,
};
use scratch_tests::backend::has_f64;
use scratch_tests::features::Setup;
use scratch_tests::probe::{
    observe, parameter_gradients, parameters, parameters_without_gradient, probe,
};
use scratch_tests::{
    Case, Named, PATHS, Tolerance, Values, assert_all_close, assert_all_same, assert_close, device,
    dtypes, is_gpu,
};

#[test]
fn every_two_variants_together_are_those_of_raw_operations() {
    for setup in Setup::pairs() {
        fused_is_raw(setup);
    }
}

#[test]
fn every_variant_alone_is_that_of_raw_operations() {
    // The pairs have every one of them.
    if is_gpu() {
        return;
    }
    for (_, setup) in Setup::alone() {
        fused_is_raw(setup);
    }
}

/// A variant that has no effect would agree with itself by any path.
#[test]
fn every_variant_has_an_effect() {
    if is_gpu() {
        return;
    }
    let plain = Setup::plain().run(PathChoice::Raw);
    for (factor, setup) in Setup::alone() {
        if factor.matters {
            let named = setup.run(PathChoice::Raw);
            assert_ne!(named["output"], plain["output"], "{setup}");
        }
    }
}

fn fused_is_raw(mut setup: Setup) {
    for dtype in dtypes() {
        setup.case.dtype = dtype;
        let expected = setup.run(PathChoice::Raw);
        let found = setup.run(PathChoice::Fused);
        let what = setup.to_string();
        assert_all_close(&what, &found, &expected, tolerance(&setup.case));
    }
}

/// Layer normalization divides by deviations, some of them small, and so enlarges rounding errors.
fn tolerance(case: &Case) -> Tolerance {
    let factor = match (case.dtype, case.config.cell.layer_norm) {
        (DType::F32, true) => 4.0,
        _ => 1.0,
    };
    Tolerance::of(case.dtype).times(factor)
}

/// An LSTM and all else that it computes from.
#[derive(Module, Debug)]
struct Function {
    lstm: ScratchLstm,
    input: Param<Tensor<3>>,
    h_0: Param<Tensor<3>>,
    c_0: Param<Tensor<3>>,
}

#[test]
fn gradients_are_the_slopes_of_the_function() {
    if !has_f64("gradients_are_the_slopes_of_the_function") {
        return;
    }
    for setup in Setup::pairs() {
        check_slopes(setup.small());
    }
}

fn check_slopes(mut setup: Setup) {
    setup.case.dtype = DType::F64;
    let case = &setup.case;
    for path in PATHS {
        let sequence = case.sequence();
        let state = sequence.state.expect("a case has a state");
        let function = Function {
            lstm: case.lstm(),
            input: Param::from_tensor(sequence.input),
            h_0: Param::from_tensor(state.hidden),
            c_0: Param::from_tensor(state.cell),
        };
        let check = GradCheck {
            // Short, for layer normalization by small deviations has large third derivatives, and
            // where numbers are clipped there is none at all.
            step: 1e-6,
            directions: Some(2),
            seed: case.seed,
            ..GradCheck::default()
        };
        let report = check.run(&function, |function| {
            let state = setup.has_state.then(|| LstmState {
                hidden: function.h_0.val(),
                cell: function.c_0.val(),
            });
            let run = |options: ForwardOptions<'_>| {
                let options = options.with_state(state).with_path(path);
                function.lstm.forward_with(function.input.val(), options)
            };
            let (output, state) = setup.with_options(run);
            (output, state.hidden, state.cell)
        });
        let report = report.unwrap_or_else(|error| panic!("{setup}, {path:?}: {error}"));
        assert_eq!(report.parameters.len(), parameters(&function).len());
    }
}

/// Weights that are not trained, one at a time: they have no gradient, and the others the same.
#[test]
fn any_of_the_weights_can_be_untracked() {
    let case = Case::new(
        ScratchLstmConfig::new(5, 11)
            .with_projection(6)
            .with_cell(all_of_the_cell()),
    );
    let mut paths: Vec<_> = parameters(&case.lstm()).into_keys().collect();
    assert_eq!(paths.len(), 9, "{paths:?}");
    if is_gpu() {
        paths.truncate(2);
    }
    for path in paths {
        let run = |choice: PathChoice| {
            let lstm = case.lstm().map(&mut Untrack {
                path: Vec::new(),
                of: &path,
            });
            let sequence = case.sequence();
            let options = ForwardOptions::new()
                .with_state(sequence.state.clone())
                .with_path(choice);
            let (output, state) = lstm.forward_with(sequence.input.clone(), options);
            let cotangents = case.cotangents();
            let (mut named, gradients) = observe(&sequence, output, state, &cotangents);
            let without = parameters_without_gradient(&lstm, &gradients);
            assert_eq!(without, [path.as_str()], "{choice:?}");
            named.extend(parameter_gradients(&lstm, &gradients));
            named
        };
        let expected = run(PathChoice::Raw);
        let found = run(PathChoice::Fused);
        assert_all_close(&path, &found, &expected, tolerance(&case));
    }
}

/// Makes one parameter need no gradient.
struct Untrack<'a> {
    path: Vec<String>,
    of: &'a str,
}

impl ModuleMapper for Untrack<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.path.join(".") == self.of {
            true => param.set_require_grad(false),
            false => param,
        }
    }
}

/// Outside of training every unit keeps its share of the old state (Krueger et al. 2017).
#[test]
fn zoneout_outside_of_training_is_what_can_be_expected() {
    let (kept_hidden, kept_cell) = (0.2, 0.3);
    let regularization = RegularizationConfig {
        zoneout_hidden: kept_hidden,
        zoneout_cell: kept_cell,
        ..RegularizationConfig::default()
    };
    let config = ScratchLstmConfig::new(5, 11).with_regularization(regularization);
    for dtype in dtypes() {
        let case = Case::new(config.clone()).with_dtype(dtype);
        let lstm = case.lstm().valid();
        let inner = |tensor: Tensor<3>| tensor.inner();
        let input = inner(case.sequence().input);
        let first = case.sequence().state.expect("a case has a state");
        let first = first.map(inner);
        let mut state = first.clone().map(|tensor| tensor.squeeze_dim::<2>(0));
        let mut shown = Vec::new();
        for time in 0..case.steps {
            let read = input.clone().narrow(1, time, 1).squeeze_dim(1);
            let next = lstm.layers[0].forward.forward(read, Some(state.clone()));
            state = LstmState {
                hidden: next.hidden * (1.0 - kept_hidden) + state.hidden * kept_hidden,
                cell: next.cell * (1.0 - kept_cell) + state.cell * kept_cell,
            };
            shown.push(state.hidden.clone());
        }
        let shown: Tensor<3> = Tensor::stack(shown, 1);
        for path in PATHS {
            let options = ForwardOptions::new()
                .with_state(first.clone())
                .with_path(path);
            let (output, after) = lstm.forward_with(input.clone(), options);
            let close = |what: &str, found: Tensor<3>, expected: Tensor<3>| {
                let what = format!("{case}, {path:?}: {what}");
                assert_close(&what, found, expected, Tolerance::of(dtype));
            };
            close("output", output, shown.clone());
            close("h_n", after.hidden, state.hidden.clone().unsqueeze_dim(0));
            close("c_n", after.cell, state.cell.clone().unsqueeze_dim(0));
        }
    }
}

/// Every variant of the equations.
fn all_of_the_cell() -> CellConfig {
    CellConfig {
        peepholes: true,
        coupled: true,
        clip_gates: Some(0.8),
        clip_cell: Some(0.5),
        layer_norm: true,
        activations: Activations::default(),
    }
}

/// A plain LSTM, and one of all that is not random.
fn configs() -> Vec<ScratchLstmConfig> {
    let base = ScratchLstmConfig::new(5, 11)
        .with_num_layers(2)
        .with_bidirectional(true);
    let full = base
        .clone()
        .with_projection(6)
        .with_learned_state(true)
        .with_connection(LayerConnection::Skip)
        .with_cell(all_of_the_cell());
    match is_gpu() {
        true => vec![full],
        false => vec![base, full],
    }
}

#[test]
fn a_mask_without_holes_is_none() {
    for config in configs() {
        for path in PATHS {
            let case = Case::new(config.clone().with_path(path));
            let all = vec![true; case.batch * case.steps];
            let run = |options: ForwardOptions<'_>| {
                let (lstm, sequence) = (case.lstm(), case.sequence());
                probe(&lstm, &sequence, &case.cotangents(), options)
            };
            let expected = run(ForwardOptions::new());
            let found = run(ForwardOptions::new().with_mask(&all[..]));
            assert_all_same(&case.to_string(), &found, &expected);
        }
    }
}

/// Lengths in any order, 0 among them, of rows that end together.
const LENGTHS: [usize; 4] = [3, 7, 0, 5];

#[test]
fn rows_that_are_padded_left_are_what_they_are_alone() {
    for config in configs() {
        for dtype in dtypes() {
            for path in PATHS {
                let config = config.clone().with_path(path);
                let case = Case::new(config).with_sizes(LENGTHS.len(), 7);
                padded_left_is_alone(&case.with_dtype(dtype));
            }
        }
    }
}

fn padded_left_is_alone(case: &Case) {
    let lstm = case.lstm();
    let sequence = case.sequence();
    let state = sequence.state.expect("a case has a state");
    let cotangents = case.cotangents();
    let input = sequence.input.inner();
    let filling = LENGTHS.into_iter();
    let filling: Vec<bool> = filling
        .flat_map(|length| (0..case.steps).map(move |time| time + length < case.steps))
        .collect();
    let filling = TensorData::new(filling, [LENGTHS.len(), case.steps, 1]);
    let filling = Tensor::<3, Bool>::from_data(filling, &input.device());
    let padded = input
        .clone()
        .mask_fill(filling.expand(input.dims()), f64::NAN);
    let padded = Tensor::from_inner(padded);
    let run = |input: Tensor<3>, row: Option<usize>, lengths: Option<&[usize]>| {
        let of_row = |tensor: Tensor<3>, axis: usize| match row {
            Some(row) => tensor.narrow(axis, row, 1),
            None => tensor,
        };
        let [_, steps, _] = input.dims();
        let input = input.detach().require_grad();
        let state = state
            .clone()
            .map(|tensor| of_row(tensor, 1).detach().require_grad());
        let options = ForwardOptions::new()
            .with_state(state.clone())
            .with_lengths(lengths)
            .with_padding(Padding::Left);
        let (output, after) = lstm.forward_with(input.clone(), options);
        let d_output = of_row(cotangents.output.clone(), 0);
        let d_output = d_output.narrow(1, case.steps - steps, steps);
        let d_state = cotangents.state.clone().map(|tensor| of_row(tensor, 1));
        let loss = (output.clone() * d_output).sum()
            + (after.hidden.clone() * d_state.hidden).sum()
            + (after.cell.clone() * d_state.cell).sum();
        let gradients = loss.backward();
        let gradient = |leaf: &Tensor<3>| leaf.grad(&gradients).expect("a gradient");
        let results = [
            output.inner(),
            gradient(&input),
            after.hidden.inner(),
            after.cell.inner(),
            gradient(&state.hidden),
            gradient(&state.cell),
        ];
        let weights = parameter_gradients(&lstm, &gradients);
        (results, weights)
    };
    let (together, weights) = run(padded, None, Some(&LENGTHS));
    let mut sums: Option<Named> = None;
    for (row, length) in LENGTHS.into_iter().enumerate() {
        let start = case.steps - length;
        let axes = [0, 0, 1, 1, 1, 1];
        let together = together.iter().zip(axes);
        let together: Vec<Tensor<3>> = together
            .map(|(tensor, axis)| tensor.clone().narrow(axis, row, 1))
            .collect();
        for series in together[..2].iter().filter(|_| start > 0) {
            let filling = series.clone().narrow(1, 0, start);
            let values = Values::from(filling).values;
            assert!(values.iter().all(|&value| value == 0.0), "{case}: filling");
        }
        if length == 0 {
            continue;
        }
        let steps = input.clone().narrow(0, row, 1).narrow(1, start, length);
        let (alone, weights) = run(Tensor::from_inner(steps), Some(row), None);
        for (place, (found, expected)) in together.into_iter().zip(alone).enumerate() {
            let found = match place {
                0 | 1 => found.narrow(1, start, length),
                _ => found,
            };
            let what = format!("{case}, row {row}: result {place}");
            assert_close(&what, found, expected, tolerance(case));
        }
        sums = Some(match sums {
            None => weights,
            Some(sums) => add(sums, &weights),
        });
    }
    let sums = sums.expect("some rows have steps");
    assert_all_close(&case.to_string(), &weights, &sums, tolerance(case));
}

fn add(mut sums: Named, terms: &Named) -> Named {
    for (name, sum) in &mut sums {
        for (sum, term) in sum.values.iter_mut().zip(&terms[name].values) {
            *sum += term;
        }
    }
    sums
}

#[test]
fn settings_that_describe_no_lstm_name_the_field() {
    let base = ScratchLstmConfig::new(5, 11);
    let check = |field: &str, change: &dyn Fn(&mut ScratchLstmConfig)| {
        let mut config = base.clone();
        change(&mut config);
        let error = config.try_init(&device()).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    };
    check("d_proj", &|config| config.d_proj = Some(0));
    for connection in [LayerConnection::Residual, LayerConnection::Skip] {
        check("connection", &|config| config.connection = connection);
    }
    for bound in [0.0, -0.5, f64::NAN, f64::INFINITY] {
        check("cell.clip_gates", &|config| {
            config.cell.clip_gates = Some(bound);
        });
        check("cell.clip_cell", &|config| {
            config.cell.clip_cell = Some(bound);
        });
    }
    check("path", &|config| {
        config.path = PathChoice::Fused;
        config.cell.activations.hidden = Activation::Relu;
    });
    for rate in [1.0, -0.1, f64::NAN] {
        type Rate = fn(&mut RegularizationConfig) -> &mut f64;
        let rates: [(&str, Rate); 5] = [
            ("regularization.dropout", |r| &mut r.dropout),
            ("regularization.recurrent_dropout", |r| {
                &mut r.recurrent_dropout
            }),
            ("regularization.weight_dropout", |r| &mut r.weight_dropout),
            ("regularization.zoneout_hidden", |r| &mut r.zoneout_hidden),
            ("regularization.zoneout_cell", |r| &mut r.zoneout_cell),
        ];
        for (field, of) in rates {
            check(field, &|config| *of(&mut config.regularization) = rate);
        }
    }
}
