//! Proves what dropout does: nothing in a model that is evaluated, the same masks for the same key
//! on every backend, zeros at the rate asked for, and nothing after the last layer.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use scratch_lstm::config::DirectionJoin;
use scratch_lstm::{ForwardOptions, Key, ScratchLstm, ScratchLstmConfig, dropout};
use scratch_tests::backend::all;
use scratch_tests::probe::probe;
use scratch_tests::{Case, Tolerance, Values, assert_all_close, assert_all_same, device, dtypes};

const RATE: f64 = 0.4;

fn config(rate: f64) -> ScratchLstmConfig {
    ScratchLstmConfig::new(5, 11)
        .with_num_layers(3)
        .with_bidirectional(true)
        .with_dropout(rate)
}

fn lstm(rate: f64, device: &Device) -> ScratchLstm {
    config(rate).init_with(&Key::new(1).child("lstm"), device)
}

fn output(lstm: &ScratchLstm, key: Option<&Key>, device: &Device) -> Values {
    let input = Tensor::ones([3, 7, 5], device);
    let (output, _) = lstm.forward_with(input, ForwardOptions::new().with_key(key));
    output.into()
}

#[test]
fn a_model_that_is_evaluated_has_none() {
    let autodiff = device().autodiff();
    let key = Key::new(5);
    let without = output(&lstm(0.0, &device()), None, &device());
    // `valid()`, a device that never differentiated, and a frozen model.
    let trained = lstm(RATE, &autodiff);
    assert_eq!(output(&trained.valid(), Some(&key), &device()), without);
    assert_eq!(
        output(&lstm(RATE, &device()), Some(&key), &device()),
        without
    );
    assert_eq!(
        output(&trained.clone().freeze(), Some(&key), &autodiff),
        without
    );
    assert_ne!(output(&trained, Some(&key), &autodiff), without);
    // And back again.
    let again = trained.valid().train();
    assert_eq!(
        output(&again, Some(&key), &autodiff),
        output(&trained, Some(&key), &autodiff)
    );
}

#[test]
fn a_key_repeats_a_call_and_its_gradients() {
    for dtype in dtypes() {
        for join in [DirectionJoin::EachLayer, DirectionJoin::AtEnd] {
            let case = Case::new(config(RATE).with_join(join)).with_dtype(dtype);
            let (lstm, cotangents) = (case.lstm(), case.cotangents());
            let run = |key: &Key| {
                let options = ForwardOptions::new().with_key(key);
                probe(&lstm, &case.sequence(), &cotangents, options)
            };
            let one = run(&Key::new(5).child("step").child(3));
            let again = run(&Key::new(5).child("step").child(3));
            assert_all_same(&case.to_string(), &again, &one);
            let other = run(&Key::new(5).child("step").child(4));
            assert_ne!(other["output"], one["output"], "{case}");
        }
    }
}

#[test]
fn without_a_key_each_call_draws_anew() {
    let autodiff = device().autodiff();
    let lstm = lstm(RATE, &autodiff);
    assert_ne!(
        output(&lstm, None, &autodiff),
        output(&lstm, None, &autodiff)
    );
}

#[test]
fn one_layer_has_no_place_for_it() {
    let autodiff = device().autodiff();
    let build = |rate| {
        let config = config(rate).with_num_layers(1);
        config.init_with(&Key::new(1), &autodiff)
    };
    let key = Key::new(5);
    assert_eq!(
        output(&build(RATE), Some(&key), &autodiff),
        output(&build(0.0), Some(&key), &autodiff)
    );
}

#[test]
fn zeros_come_at_the_rate_and_the_rest_is_scaled() {
    let autodiff = device().autodiff();
    for rate in [0.0, 0.1, 0.5, 0.9] {
        let ones = Tensor::<3>::ones([20, 50, 30], &autodiff);
        let Values { values, .. } = dropout(ones, rate, &Key::new(9)).into();
        let zeros = values.iter().filter(|&&value| value == 0.0).count() as f64;
        let share = zeros / values.len() as f64;
        // Four standard deviations of 30 000 draws.
        let deviation = 4.0 * (rate * (1.0 - rate) / values.len() as f64).sqrt();
        assert!((share - rate).abs() <= deviation, "rate {rate}: {share}");
        let kept = f64::from((1.0 / (1.0 - rate)) as f32);
        assert!(
            values.iter().all(|&value| value == 0.0 || value == kept),
            "rate {rate}"
        );
    }
}

/// Dropped entries are not the same in every step or row.
#[test]
fn every_step_has_a_mask_of_its_own() {
    let ones = Tensor::<3>::ones([7, 3, 64], &device().autodiff());
    let Values { values, .. } = dropout(ones, 0.5, &Key::new(9)).into();
    let masks: std::collections::BTreeSet<Vec<bool>> = values
        .chunks(64)
        .map(|row| row.iter().map(|&value| value == 0.0).collect())
        .collect();
    assert_eq!(masks.len(), 21);
}

/// A mask on the gradient: what is dropped has none, the rest is scaled.
#[test]
fn gradients_pass_where_values_did() {
    let ones = Tensor::<3>::ones([2, 3, 5], &device().autodiff()).require_grad();
    let dropped = dropout(ones.clone(), 0.5, &Key::new(9));
    let gradients = dropped.clone().sum().backward();
    let gradient: Values = ones.grad(&gradients).unwrap().into();
    assert_eq!(gradient, Values::from(dropped));
}

#[test]
fn the_same_on_every_backend() {
    let on = |device: &Device| {
        let autodiff = device.clone().autodiff();
        let key = Key::new(5).child("step").child(3);
        let mask = dropout(Tensor::<3>::ones([3, 7, 11], &autodiff), RATE, &key);
        let lstm = lstm(RATE, &autodiff);
        (Values::from(mask), output(&lstm, Some(&key), &autodiff))
    };
    let (mask, expected) = on(&device());
    for other in all() {
        let (found_mask, found) = on(&other.device);
        assert_eq!(found_mask, mask, "{}", other.backend);
        // The masks are equal; sums may be taken in another order.
        let named = |values: Values| [("output".to_string(), values)].into();
        let tolerance = Tolerance::of(burn::tensor::DType::F32).times(10.0);
        let what = other.backend.name();
        assert_all_close(what, &named(found), &named(expected.clone()), tolerance);
    }
}

#[test]
#[should_panic(expected = "dropout rate: expected at least 0 and less than 1, found 1")]
fn a_rate_that_drops_everything_is_refused() {
    dropout(Tensor::<1>::ones([3], &device()), 1.0, &Key::new(1));
}
