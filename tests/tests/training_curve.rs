//! Proves that training is the same: the loss before each of ten SGD steps, and the weights after
//! them, are those of burn's own LSTM and PyTorch's. Losses move slowly in this setting, so that a
//! gradient that is a little wrong shows and rounding does not.
//!
//! burn and PyTorch have two biases that move together, twice as fast as one: curves are equal
//! without a bias, and where burn's second bias is zero and frozen.

use burn::module::Module;
use burn::nn::Lstm;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use scratch_lstm::weights::{PytorchFile, PytorchOptions};
use scratch_lstm::{LstmState, ScratchLstm, ScratchLstmConfig};
use scratch_tests::burn_lstm::BurnStack;
use scratch_tests::golden::Golden;
use scratch_tests::probe::parameters;
use scratch_tests::{Case, Tolerance, Values, assert_all_close, assert_close, device, dtypes};
use scratch_train::loss::mean_squared_error;
use scratch_train::optimizer::{OptimizerConfig, ParameterGroups};

const STEPS: usize = 10;
const LEARNING_RATE: f64 = 0.1;

/// The loss before each step, and the model after the last.
fn train<M: Module>(
    mut model: M,
    momentum: f64,
    forward: impl Fn(&M) -> Tensor<3>,
    target: &Tensor<3>,
) -> (Values, M) {
    let config = OptimizerConfig::sgd(momentum);
    let mut optimizer = config.init(&ParameterGroups::none());
    let mut losses = Vec::new();
    for _ in 0..STEPS {
        let loss = mean_squared_error(forward(&model), target.clone());
        losses.push(loss.clone().into_scalar());
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(LEARNING_RATE, model, grads);
    }
    (Values::new([STEPS], losses), model)
}

/// That a curve went down, and not far.
#[track_caller]
fn assert_moves(losses: &Values) {
    let falls = losses.values.windows(2).all(|pair| pair[1] < pair[0]);
    assert!(falls, "losses must fall: {:?}", losses.values);
    let share = losses.values[STEPS - 1] / losses.values[0];
    assert!((0.1..0.999).contains(&share), "{share} of the loss is left");
}

/// At most 1e-5, whatever the table says of a device.
fn tolerance(dtype: DType) -> Tolerance {
    let table = Tolerance::of(dtype);
    Tolerance {
        absolute: 0.0,
        relative: table.relative.min(1e-5),
    }
}

fn check_against_burn(case: &Case, theirs: BurnStack, momentum: f64) {
    let ours = theirs.to_scratch();
    let input = case.constant(case.io_shape(case.config.d_input), "input");
    let target = case.constant(case.io_shape(case.config.d_output()), "target");
    let state = || -> Option<LstmState> {
        let [hidden, cell] = ["h_0", "c_0"].map(|name| case.constant(case.state_shape(), name));
        Some(LstmState { hidden, cell })
    };
    let forward = |lstm: &BurnStack| lstm.forward(input.clone(), state()).0;
    let (expected, theirs) = train(theirs, momentum, forward, &target);
    let forward = |lstm: &ScratchLstm| lstm.forward(input.clone(), state()).0;
    let (found, ours) = train(ours, momentum, forward, &target);
    assert_moves(&expected);
    assert_close(
        &format!("{case}: losses"),
        found,
        expected,
        tolerance(case.dtype),
    );
    assert_all_close(
        &format!("{case}: weights after {STEPS} steps"),
        &parameters(&ours),
        &parameters(&theirs.to_scratch()),
        Tolerance::of(case.dtype).times(2.0),
    );
}

fn configs() -> Vec<ScratchLstmConfig> {
    let base = ScratchLstmConfig::new(5, 11);
    vec![
        base.clone(),
        base.clone().with_num_layers(2).with_batch_first(false),
        base.clone().with_bidirectional(true),
        base.with_num_layers(2).with_bidirectional(true),
    ]
}

#[test]
fn burns_curve_without_a_bias() {
    for config in configs() {
        for momentum in [0.0, 0.5] {
            let case = Case::new(config.clone().with_bias(false));
            check_against_burn(&case, BurnStack::random(&case), momentum);
        }
    }
}

#[test]
fn burns_curve_with_its_second_bias_zero_and_frozen() {
    for config in configs() {
        for momentum in [0.0, 0.5] {
            let case = Case::new(config.clone());
            let theirs = BurnStack::random(&case).with_second_bias_frozen();
            check_against_burn(&case, theirs, momentum);
        }
    }
}

/// What the tests above leave out, and why.
#[test]
fn two_biases_move_twice_as_fast_as_one() {
    let case = Case::new(ScratchLstmConfig::new(5, 11));
    let theirs = BurnStack::random(&case);
    let before = parameters(&theirs.to_scratch());
    let input = case.constant(case.io_shape(5), "input");
    let target = case.constant(case.io_shape(11), "target");
    let one_step = |bias: &Values, before: &Values| -> Vec<f64> {
        let pairs = bias.values.iter().zip(&before.values);
        pairs.map(|(after, before)| after - before).collect()
    };
    let config = OptimizerConfig::sgd(0.0);
    let ours = theirs.to_scratch();
    let loss = mean_squared_error(ours.forward(input.clone(), None).0, target.clone());
    let grads = GradientsParams::from_grads(loss.backward(), &ours);
    let ours = parameters(&config.init(&ParameterGroups::none()).step(1.0, ours, grads));
    let loss = mean_squared_error(theirs.forward(input, None).0, target);
    let grads = GradientsParams::from_grads(loss.backward(), &theirs);
    let theirs = parameters(
        &config
            .init(&ParameterGroups::none())
            .step(1.0, theirs, grads)
            .to_scratch(),
    );

    let name = "layers.0.forward.bias";
    let twice: Vec<f64> = one_step(&ours[name], &before[name])
        .iter()
        .map(|change| 2.0 * change)
        .collect();
    let found = one_step(&theirs[name], &before[name]);
    // Differences of numbers near 1, in f32.
    let tolerance = Tolerance::of(DType::F32);
    assert_close(
        name,
        Values::new([44], found),
        Values::new([44], twice),
        tolerance,
    );
    let name = "layers.0.forward.weight_hh";
    assert_close(name, theirs[name].clone(), ours[name].clone(), tolerance);
}

#[test]
fn pytorchs_curve() {
    let golden = Golden::open("loss_curve");
    assert_eq!(golden.settings["lr"].as_f64(), Some(LEARNING_RATE));
    assert_eq!(golden.settings["steps"].as_u64(), Some(STEPS as u64));
    let device = device().autodiff();
    for dtype in dtypes() {
        let options = PytorchOptions {
            dtype: Some(dtype),
            ..PytorchOptions::default()
        };
        let file = PytorchFile::open(Golden::path("loss_curve")).unwrap();
        let ours = file.lstm("", &options, &device).unwrap();
        let input = golden.tensor::<3>("input", &device, dtype);
        let target = golden.tensor::<3>("target", &device, dtype);
        let forward = |lstm: &ScratchLstm| lstm.forward(input.clone(), None).0;
        let (losses, ours) = train(ours, 0.0, forward, &target);
        let expected = golden.values("losses");
        assert_moves(&expected);
        // PyTorch's numbers are in f32.
        let tight = tolerance(DType::F32);
        assert_close(&format!("losses in {dtype:?}"), losses, expected, tight);

        let after = parameters(&ours);
        for (name, golden_name) in [
            ("layers.0.forward.weight_ih", "final.weight_ih_l0"),
            ("layers.0.forward.weight_hh", "final.weight_hh_l0"),
        ] {
            let expected = golden.values(golden_name);
            assert_close(
                name,
                after[name].clone(),
                expected,
                Tolerance::of(DType::F32),
            );
        }
    }
}

/// That burn's frozen bias stays where it is: what the comparison above rests on.
#[test]
fn a_frozen_bias_stays() {
    let case = Case::new(ScratchLstmConfig::new(5, 11));
    let theirs = BurnStack::random(&case).with_second_bias_frozen();
    let input = case.constant(case.io_shape(5), "input");
    let target = case.constant(case.io_shape(11), "target");
    let forward = |lstm: &BurnStack| lstm.forward(input.clone(), None).0;
    let (_, after) = train(theirs, 0.5, forward, &target);
    let BurnStack::One(layers) = after else {
        unreachable!("one direction")
    };
    let lstm: &Lstm = &layers[0];
    for gate in [&lstm.input_gate, &lstm.cell_gate, &lstm.output_gate] {
        let bias = gate.hidden_transform.bias.as_ref().unwrap();
        let bias = Values::from(bias.val());
        assert!(bias.values.iter().all(|&value| value == 0.0));
    }
}
