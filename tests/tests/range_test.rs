//! Proves that the range test finds learning rates that train and ends cleanly where the loss
//! explodes, and leaves the model as it was.

use burn::tensor::Device;
use scratch_tests::probe::parameters;
use scratch_tests::toy::{Toy, ToyData};
use scratch_tests::{assert_all_same, device};
use scratch_train::data::{SequenceData, Window};
use scratch_train::optimizer::OptimizerConfig;
use scratch_train::schedule::ScheduleConfig;
use scratch_train::{
    RangeTest, RangeTestConfig, SequenceModel, TrainError, Trainer, TrainingConfig, range_test,
};

fn config(learning_rate: f64) -> TrainingConfig {
    TrainingConfig {
        epochs: 12,
        learning_rate,
        optimizer: OptimizerConfig::sgd(0.9),
        schedule: ScheduleConfig::constant(),
        clip_norm: None,
        accumulate: 2,
        ..TrainingConfig::default()
    }
}

/// Targets that can be learned: always the same few sequences.
fn data() -> ToyData {
    ToyData::new(6, 3, 5, 41).with_scale(0.7)
}

fn range() -> RangeTestConfig {
    RangeTestConfig {
        from: 1e-5,
        to: 1e3,
        steps: 150,
        ..RangeTestConfig::default()
    }
}

fn test(model: &Toy) -> RangeTest {
    range_test(model, &config(1.0), &data(), &device(), &range()).unwrap()
}

fn model() -> Toy {
    Toy::with_hidden(17, 5, 0.0, &device())
}

/// The training loss of the last validation interval.
fn train(learning_rate: f64) -> Option<f64> {
    let mut trainer = Trainer::new(model(), config(learning_rate), &device()).unwrap();
    match trainer.fit(&data(), &data()) {
        Ok(_) => trainer.progress().last.as_ref().map(|last| last.train_loss),
        Err(TrainError::Diverged { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_suggestion_trains_better_than_others_far_away() {
    let model = model();
    let before = parameters(&model);
    let found = test(&model);
    assert_all_same("the model", &parameters(&model), &before);
    assert!(found.exploded, "1000 is too much for any model");
    assert!(found.points.len() < 150);
    assert!(found.points.iter().all(|point| point.loss.is_finite()));
    let rises = found
        .points
        .windows(2)
        .all(|pair| pair[1].learning_rate > pair[0].learning_rate);
    assert!(rises);

    let suggestion = found.suggestion.expect("the loss falls");
    let good = train(suggestion).expect("the suggestion trains");
    let start = found.points[0].loss;
    assert!(good < start, "{good} of {start} at {suggestion}");
    let slow = train(suggestion / 300.0).unwrap();
    assert!(good < slow, "{good} against {slow} at {suggestion}");
    let most = found.points.last().expect("there are some").learning_rate;
    let fast = train(most);
    assert!(
        fast.is_none_or(|fast| good < fast),
        "{good} {fast:?} at {most}"
    );
    // The same test again gives the same curve.
    assert_eq!(test(&model), found);
}

#[test]
fn what_cannot_be_tested_is_an_error() {
    struct Nothing;
    impl SequenceData for Nothing {
        type Batch = <Toy as SequenceModel>::Batch;

        fn windows(&self) -> usize {
            0
        }

        fn window(&self, _epoch: usize, _index: usize, _device: &Device) -> Window<Self::Batch> {
            unreachable!("there is none")
        }
    }
    let model = model();
    let error = range_test(&model, &config(1.0), &Nothing, &device(), &range());
    assert!(matches!(error, Err(TrainError::NoData { .. })));
    let poisoned = data().with_poison(0, 1);
    let error = range_test(&model, &config(1.0), &poisoned, &device(), &range());
    assert!(matches!(error, Err(TrainError::Diverged { step: 0, .. })));
    let backwards = RangeTestConfig {
        to: 1e-9,
        ..range()
    };
    let error = range_test(&model, &config(1.0), &data(), &device(), &backwards);
    assert!(error.unwrap_err().to_string().contains("range_test.to"));
}
