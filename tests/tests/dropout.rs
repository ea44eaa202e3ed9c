//! Proves what dropout of every kind does: nothing in a model that is evaluated, the same masks for
//! the same key on every backend, zeros at the rate asked for, and nothing after the last layer; and
//! what zoneout does instead.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use scratch_lstm::config::{DirectionJoin, RegularizationConfig};
use scratch_lstm::{ForwardOptions, Key, ScratchLstm, ScratchLstmConfig, dropout, locked_dropout};
use scratch_tests::backend::all;
use scratch_tests::probe::probe;
use scratch_tests::{
    Case, Named, Tolerance, Values, assert_all_close, assert_all_same, assert_close, device, dtypes,
};

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

/// A stack of one layer with all rates 0 but those that `set` sets, and a call of it in training by
/// each path.
fn one_layer(steps: usize, set: impl Fn(&mut RegularizationConfig)) -> Vec<(Case, Named)> {
    let mut config = ScratchLstmConfig::new(5, 67);
    set(&mut config.regularization);
    let case = Case::new(config).with_sizes(13, steps);
    let (lstm, key) = (case.lstm(), Key::new(5));
    let of_path = |path| {
        let options = ForwardOptions::new().with_key(&key).with_path(path);
        let named = probe(&lstm, &case.sequence(), &case.cotangents(), options);
        (case.clone(), named)
    };
    scratch_tests::PATHS.map(of_path).to_vec()
}

/// That so many of `count` draws at `rate` can be.
#[track_caller]
fn assert_rate(hits: usize, count: usize, rate: f64) {
    let share = hits as f64 / count as f64;
    let deviation = 4.0 * (rate * (1.0 - rate) / count as f64).sqrt();
    assert!(
        (share - rate).abs() <= deviation,
        "{share} instead of {rate}"
    );
}

#[test]
fn locked_masks_are_the_same_at_every_step() {
    for batch_first in [true, false] {
        let shape = if batch_first { [3, 7, 64] } else { [7, 3, 64] };
        let ones = Tensor::<3>::ones(shape, &device().autodiff());
        let dropped = locked_dropout(ones, batch_first, 0.5, &Key::new(9));
        let rows = if batch_first {
            dropped
        } else {
            dropped.swap_dims(0, 1)
        };
        let Values { values, .. } = rows.into();
        let of_rows: Vec<_> = values.chunks(7 * 64).collect();
        for row in &of_rows {
            assert!(row.chunks(64).all(|step| step == &row[..64]));
        }
        assert_ne!(of_rows[0], of_rows[1]);
        assert_rate(
            values.iter().filter(|&&x| x == 0.0).count() / 7,
            3 * 64,
            0.5,
        );
    }
}

/// A unit that is dropped is not read at any step, so that the state before has no gradient through
/// it; the state itself stays whole.
#[test]
fn recurrent_dropout_hides_units_of_the_hidden_state() {
    for (_, named) in one_layer(1, |rates| rates.recurrent_dropout = RATE) {
        let values = &named["grad.h_0"].values;
        let hidden = values.iter().filter(|&&x| x == 0.0).count();
        assert_rate(hidden, values.len(), RATE);
        assert!(named["h_n"].values.iter().all(|&x| x != 0.0));
    }
}

/// An entry that is dropped is dropped for all steps and rows: it has no gradient.
#[test]
fn weight_dropout_drops_entries_of_the_recurrent_weights() {
    for (_, named) in one_layer(7, |rates| rates.weight_dropout = RATE) {
        let values = &named["grad.layers.0.forward.weight_hh"].values;
        let dropped = values.iter().filter(|&&x| x == 0.0).count();
        assert_rate(dropped, values.len(), RATE);
        let values = &named["grad.layers.0.forward.weight_ih"].values;
        assert!(values.iter().all(|&x| x != 0.0));
    }
}

#[test]
fn zoneout_keeps_units_as_they_were() {
    let of_paths = one_layer(1, |rates| {
        rates.zoneout_hidden = RATE;
        rates.zoneout_cell = 0.1;
    });
    for (case, named) in of_paths {
        let before = case.sequence().state.unwrap();
        for (after, before, rate) in [("h_n", before.hidden, RATE), ("c_n", before.cell, 0.1)] {
            let Values { values, .. } = before.into();
            let pairs = named[after].values.iter().zip(&values);
            // A mixture of the whole of one and nothing of the other may round.
            let kept = pairs.filter(|(a, b)| (*a - *b).abs() < 1e-6).count();
            assert_rate(kept, values.len(), rate);
        }
    }
}

/// Outside of training a unit keeps the share of its old value that it would keep on average.
#[test]
fn zoneout_is_its_expectation_in_a_model_that_is_evaluated() {
    let device = device();
    let mut config = ScratchLstmConfig::new(5, 11);
    let plain = config.clone().init_with(&Key::new(1), &device);
    config.regularization.zoneout_hidden = RATE;
    config.regularization.zoneout_cell = 0.1;
    let lstm = config.init_with(&Key::new(1), &device);
    let case = Case::new(config);
    let state = case.sequence().state.unwrap().map(|t| t.inner());
    let input = Tensor::ones([3, 1, 5], &device);
    let (_, whole) = plain.forward(input.clone(), Some(state.clone()));
    for path in scratch_tests::PATHS {
        let options = ForwardOptions::new()
            .with_state(state.clone())
            .with_path(path);
        let (_, found) = lstm.forward_with(input.clone(), options);
        let mixed = |old: &Tensor<3>, new: &Tensor<3>, share: f64| {
            old.clone() * share + new.clone() * (1.0 - share)
        };
        let tolerance = Tolerance::of(burn::tensor::DType::F32);
        let expected = mixed(&state.hidden, &whole.hidden, RATE);
        assert_close("hidden", found.hidden, expected, tolerance);
        let expected = mixed(&state.cell, &whole.cell, 0.1);
        assert_close("cell", found.cell, expected, tolerance);
    }
}
