//! Proves in f64 that the gradients are the slopes of the function, fused and raw: central
//! differences in every entry of every parameter, of the input and of both initial states, and at
//! larger sizes along random directions; stacked and bidirectional, both joins, with lengths in any
//! order (0 among them) and rows that start anew. And that gradient checkpointing changes no
//! gradient.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use scratch_lstm::config::DirectionJoin;
use scratch_lstm::gradcheck::GradCheck;
use scratch_lstm::{ForwardOptions, Key, LstmState, ScratchLstm, ScratchLstmConfig};
use scratch_tests::backend::has_f64;
use scratch_tests::probe::probe;
use scratch_tests::{Case, PATHS, Tolerance, assert_all_close, dtypes};

/// An LSTM and all else that it computes from.
#[derive(Module, Debug)]
struct Function {
    lstm: ScratchLstm,
    input: Param<Tensor<3>>,
    h_0: Param<Tensor<3>>,
    c_0: Param<Tensor<3>>,
}

fn check(case: &Case, directions: Option<usize>, options: &ForwardOptions<'_>) {
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
            directions,
            seed: case.seed,
            ..GradCheck::default()
        };
        let report = check.run(&function, |function| {
            let state = LstmState {
                hidden: function.h_0.val(),
                cell: function.c_0.val(),
            };
            let options = options.clone().with_state(state).with_path(path);
            let (output, state) = function.lstm.forward_with(function.input.val(), options);
            (output, state.hidden, state.cell)
        });
        let report = report.unwrap_or_else(|error| panic!("{case}, {path:?}: {error}"));
        // Weights and biases of each direction of each layer, and three more.
        let config = &case.config;
        let cells = config.num_layers * config.num_directions();
        let of_cell = if config.bias { 3 } else { 2 };
        assert_eq!(report.parameters.len(), cells * of_cell + 3, "{report}");
    }
}

fn small() -> ScratchLstmConfig {
    ScratchLstmConfig::new(2, 3)
        .with_num_layers(2)
        .with_bidirectional(true)
}

fn case(config: ScratchLstmConfig) -> Case {
    Case::new(config).with_dtype(DType::F64)
}

#[test]
fn every_entry_with_lengths_and_resets() {
    if !has_f64("every_entry_with_lengths_and_resets") {
        return;
    }
    let options = ForwardOptions::new()
        .with_lengths(&[3, 5, 0, 1][..])
        .with_resets(&[false, true, false, false][..]);
    for join in [DirectionJoin::EachLayer, DirectionJoin::AtEnd] {
        let case = case(small().with_join(join)).with_sizes(4, 5);
        check(&case, None, &options);
    }
}

#[test]
fn every_entry_of_the_plain_call() {
    if !has_f64("every_entry_of_the_plain_call") {
        return;
    }
    check(
        &case(small()).with_sizes(2, 4),
        None,
        &ForwardOptions::new(),
    );
    let one = ScratchLstmConfig::new(3, 4)
        .with_bias(false)
        .with_batch_first(false);
    let case = case(one).with_sizes(3, 9);
    check(&case, None, &ForwardOptions::new());
    check(&case.with_checkpointing(), None, &ForwardOptions::new());
}

#[test]
fn random_directions_at_larger_sizes() {
    if !has_f64("random_directions_at_larger_sizes") {
        return;
    }
    for (join, batch_first) in [
        (DirectionJoin::EachLayer, true),
        (DirectionJoin::AtEnd, false),
    ] {
        let config = ScratchLstmConfig::new(5, 11)
            .with_num_layers(3)
            .with_bidirectional(true)
            .with_join(join)
            .with_batch_first(batch_first);
        let case = case(config).with_sizes(5, 19);
        check(&case, Some(3), &ForwardOptions::new());
        let options = ForwardOptions::new()
            .with_lengths(&[19, 0, 7, 18, 8][..])
            .with_resets(&[true, false, false, true, false][..]);
        check(&case, Some(3), &options);
    }
}

#[test]
fn gradient_checkpointing_changes_no_gradient() {
    for dtype in dtypes() {
        for (join, path) in [
            (DirectionJoin::EachLayer, PATHS[0]),
            (DirectionJoin::AtEnd, PATHS[0]),
            (DirectionJoin::EachLayer, PATHS[1]),
            (DirectionJoin::AtEnd, PATHS[1]),
        ] {
            let config = ScratchLstmConfig::new(5, 11)
                .with_num_layers(2)
                .with_bidirectional(true)
                .with_join(join)
                .with_path(path)
                .with_dropout(0.3);
            let case = Case::new(config).with_sizes(4, 19).with_dtype(dtype);
            let run = |case: &Case| {
                let (lengths, key) = ([19, 0, 7, 18], Key::new(5));
                let options = ForwardOptions::new()
                    .with_lengths(&lengths[..])
                    .with_resets(&[false, false, true, false][..])
                    .with_key(&key);
                probe(&case.lstm(), &case.sequence(), &case.cotangents(), options)
            };
            let expected = run(&case);
            let found = run(&case.clone().with_checkpointing());
            let tolerance = Tolerance::of(dtype);
            assert_all_close(&case.to_string(), &found, &expected, tolerance);
        }
    }
}
