//! Proves what truncated backpropagation through time computes (Williams & Peng 1990): windows give
//! the outputs of the whole sequence; the gradient of a window is that of the whole with the state
//! before it held constant; over all windows the sum lacks exactly the paths through the states
//! between windows; and the trainer's step is that sum.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use scratch_lstm::{Key, LstmState, RecurrentState, ScratchLstm, ScratchLstmConfig};
use scratch_tests::probe::{Cotangents, Sequence, observe, parameter_gradients, parameters};
use scratch_tests::toy::{Starts, Toy, ToyData};
use scratch_tests::{
    Case, Named, Tolerance, Values, assert_all_close, assert_close, device, dtypes,
};
use scratch_train::optimizer::OptimizerConfig;
use scratch_train::schedule::ScheduleConfig;
use scratch_train::{SequenceModel, Trainer, TrainingConfig};

/// Steps of the whole sequence, and of its first window.
const STEPS: usize = 14;
const FIRST: usize = 6;

/// Input and initial state as constants: a graph can be walked back once, and several are made of
/// these.
fn constants(case: &Case) -> (Tensor<3>, LstmState) {
    let sequence = case.sequence();
    let constant = |tensor: Tensor<3>| tensor.set_require_grad(false);
    (
        constant(sequence.input),
        sequence.state.unwrap().map(constant),
    )
}

fn case() -> Case {
    Case::new(ScratchLstmConfig::new(5, 11).with_num_layers(2)).with_sizes(3, STEPS)
}

/// Gradients of the parameters of a weighted sum of what a window gives.
fn gradients(
    lstm: &ScratchLstm,
    input: Tensor<3>,
    state: LstmState,
    cotangents: &Cotangents,
) -> Named {
    let (output, after) = lstm.forward(input, Some(state));
    parameter_gradients(lstm, &cotangents.loss(&output, &after).backward())
}

fn sum(mut one: Named, other: &Named) -> Named {
    assert!(one.keys().eq(other.keys()));
    for (name, values) in &mut one {
        let other = &other[name].values;
        values
            .values
            .iter_mut()
            .zip(other)
            .for_each(|(a, b)| *a += b);
    }
    one
}

fn largest(named: &Named) -> f64 {
    let values = named.values().flat_map(|values| &values.values);
    values.fold(0.0, |largest, value| largest.max(value.abs()))
}

fn window(tensor: &Tensor<3>, from: usize, to: usize) -> Tensor<3> {
    tensor.clone().narrow(1, from, to - from)
}

/// What the second window adds to a loss: cotangents of its outputs and of the final state.
fn of_second(all: &Cotangents) -> Cotangents {
    Cotangents {
        output: window(&all.output, FIRST, STEPS),
        state: all.state.clone(),
    }
}

/// What the first window adds: nothing comes from its final state.
fn of_first(all: &Cotangents) -> Cotangents {
    Cotangents {
        output: window(&all.output, 0, FIRST),
        state: all.state.clone().map(|tensor| tensor.zeros_like()),
    }
}

#[test]
fn windows_with_the_state_carried_give_the_whole() {
    for dtype in dtypes() {
        for width in [1, 3, 5, STEPS, STEPS + 3] {
            let case = case().with_dtype(dtype);
            let lstm = case.lstm();
            let Sequence { input, state } = case.sequence();
            let (expected, last) = lstm.forward(input.clone(), state.clone());
            let (mut outputs, mut carried) = (Vec::new(), state);
            for from in (0..STEPS).step_by(width) {
                let part = window(&input, from, STEPS.min(from + width));
                let (output, after) = lstm.forward(part, carried);
                outputs.push(output);
                carried = Some(after.detach());
            }
            let what = format!("{case}, windows of {width}");
            let tolerance = Tolerance::of(dtype);
            assert_close(&what, Tensor::cat(outputs, 1), expected, tolerance);
            let carried = carried.unwrap();
            assert_close(&what, carried.hidden, last.hidden, tolerance);
            assert_close(&what, carried.cell, last.cell, tolerance);
        }
    }
}

#[test]
fn a_windows_gradient_is_that_of_the_whole_with_the_state_before_it_constant() {
    for dtype in dtypes() {
        let case = case().with_dtype(dtype);
        let lstm = case.lstm();
        let (input, state) = constants(&case);
        let cotangents = of_second(&case.cotangents());

        // In one graph, cut between the windows.
        let (_, between) = lstm.forward(window(&input, 0, FIRST), Some(state.clone()));
        let rest = window(&input, FIRST, STEPS);
        let whole = gradients(&lstm, rest.clone(), between.detach(), &cotangents);

        // In a graph of its own: the state before it is a number from a model without one.
        let plain = |tensor: Tensor<3>| tensor.inner();
        let (_, between) = lstm
            .valid()
            .forward(plain(window(&input, 0, FIRST)), Some(state.map(plain)));
        let alone = gradients(&lstm, rest, between, &cotangents);
        assert!(largest(&whole) > 0.1);
        assert_all_close(&case.to_string(), &alone, &whole, Tolerance::of(dtype));
    }
}

/// `full = truncated + (gradient of the second window's loss through the state between them)`.
#[test]
fn what_is_cut_off_are_the_paths_through_the_state_between_windows() {
    for dtype in dtypes() {
        let case = case().with_dtype(dtype);
        let lstm = case.lstm();
        let (input, state) = constants(&case);
        let all = case.cotangents();
        let (first, second) = (window(&input, 0, FIRST), window(&input, FIRST, STEPS));

        let full = gradients(&lstm, input.clone(), state.clone(), &all);

        let (output, between) = lstm.forward(first.clone(), Some(state.clone()));
        let loss = of_first(&all).loss(&output, &between);
        let of_window_one = parameter_gradients(&lstm, &loss.backward());
        let leaf = |tensor: Tensor<3>| tensor.detach().require_grad();
        let entering = Sequence {
            input: leaf(second.clone()),
            state: Some(between.clone().map(leaf)),
        };
        let (output, after) = lstm.forward(entering.input.clone(), entering.state.clone());
        let (_, grads) = observe(&entering, output, after, &of_second(&all));
        let truncated = sum(of_window_one, &parameter_gradients(&lstm, &grads));

        // The way on: from the second window's gradient of the state back through the first.
        let entering = entering.state.unwrap();
        let back = |tensor: &Tensor<3>| Tensor::from_inner(tensor.grad(&grads).unwrap());
        let cut_off = Cotangents {
            output: window(&all.output, 0, FIRST).zeros_like(),
            state: LstmState {
                hidden: back(&entering.hidden),
                cell: back(&entering.cell),
            },
        };
        let missing = gradients(&lstm, first, state, &cut_off);

        let tolerance = Tolerance::of(dtype).times(3.0);
        assert_all_close(
            &case.to_string(),
            &sum(truncated.clone(), &missing),
            &full,
            tolerance,
        );
        // And that is not nothing.
        assert!(largest(&missing) > 0.05, "{}", largest(&missing));
        for (name, values) in &truncated {
            assert_ne!(values, &full[name], "{name}");
        }
    }
}

/// The mean gradient that one step of the trainer follows: weights before minus weights after.
fn of_the_trainer(data: &ToyData, windows: usize) -> Named {
    let config = TrainingConfig {
        epochs: 1,
        learning_rate: 1.0,
        optimizer: OptimizerConfig::sgd(0.0),
        schedule: ScheduleConfig::constant(),
        clip_norm: None,
        accumulate: windows,
        ..TrainingConfig::default()
    };
    let model = Toy::new(3, 0.0, &device());
    let before = parameters(&model);
    let mut trainer = Trainer::new(model, config, &device()).unwrap();
    let outcome = trainer.fit(data, data).unwrap();
    assert_eq!(outcome.steps, 1);
    let mut moved = before;
    for (name, after) in parameters(trainer.model()) {
        let values = &mut moved.get_mut(&name).unwrap().values;
        values
            .iter_mut()
            .zip(&after.values)
            .for_each(|(before, after)| *before -= after);
    }
    moved
}

/// The gradient of the mean loss over the windows `batches` read one after the other, the state
/// passed on through `between`.
fn of_toy(data: &ToyData, between: impl Fn(LstmState) -> LstmState) -> Named {
    let device = device().autodiff();
    let model = Toy::new(3, 0.0, &device);
    let mut losses = Vec::new();
    let mut state = None;
    for index in 0..data.windows {
        let output = model.step(&data.batch(index, &device), state, &Key::new(0));
        losses.push(output.loss);
        state = Some(between(output.state));
    }
    let loss = Tensor::cat(losses, 0).mean();
    let grads = GradientsParams::from_grads(loss.backward(), &model);
    let mut named = Named::new();
    for (name, id, shape) in ids(&model) {
        let values = match shape.len() {
            1 => grads.get::<1>(id).map(Values::from),
            _ => grads.get::<2>(id).map(Values::from),
        };
        named.insert(name, values.expect("a gradient"));
    }
    named
}

fn ids(model: &Toy) -> Vec<(String, burn::module::ParamId, Vec<usize>)> {
    use burn::module::{ModuleVisitor, Param};
    #[derive(Default)]
    struct Ids {
        path: Vec<String>,
        found: Vec<(String, burn::module::ParamId, Vec<usize>)>,
    }
    impl ModuleVisitor for Ids {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found
                .push((self.path.join("."), param.id, param.dims().to_vec()));
        }
    }
    let mut ids = Ids::default();
    model.visit(&mut ids);
    ids.found
}

#[test]
fn where_the_window_covers_the_sequence_the_trainer_has_the_full_gradient() {
    let data = ToyData::new(1, 3, STEPS, 5);
    let full = of_toy(&data, |state| state);
    assert_all_close(
        "one window",
        &of_the_trainer(&data, 1),
        &full,
        after_a_step(),
    );
}

#[test]
fn over_several_windows_the_trainer_has_the_truncated_gradient() {
    let data = ToyData::new(3, 3, 5, 5);
    let found = of_the_trainer(&data, 3);
    let truncated = of_toy(&data, LstmState::detach);
    assert_all_close("three windows", &found, &truncated, after_a_step());

    let full = of_toy(&data, |state| state);
    let apart: f64 = full
        .iter()
        .flat_map(|(name, full)| full.values.iter().zip(&truncated[name].values))
        .fold(0.0, |largest, (full, truncated)| {
            largest.max((full - truncated).abs())
        });
    assert!(apart > 1e-3, "the full gradient differs by {apart}");
}

#[test]
fn the_trainer_resets_the_rows_that_start_anew() {
    let data = ToyData::new(3, 3, 5, 5).with_starts(Starts::Rows);
    let found = of_the_trainer(&data, 3);
    let windows = std::cell::Cell::new(0);
    let expected = of_toy(&data, |state| {
        // What the data says of the window after this one.
        windows.set(windows.get() + 1);
        let rows: Vec<bool> = (0..3).map(|row| row == windows.get() % 3).collect();
        state.detach().reset_rows(&rows)
    });
    assert_all_close("rows", &found, &expected, after_a_step());

    let fresh = ToyData::new(3, 3, 5, 5).with_starts(Starts::Fresh);
    let found = of_the_trainer(&fresh, 3);
    let zeros = |state: LstmState| state.map(|tensor| tensor.detach().zeros_like());
    assert_all_close("all rows", &found, &of_toy(&fresh, zeros), after_a_step());
}

/// A gradient read off weights of about 1 after a step of rate 1, in f32.
fn after_a_step() -> Tolerance {
    Tolerance::of(burn::tensor::DType::F32)
}
