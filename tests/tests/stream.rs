//! Proves that an LSTM step by step is the LSTM over the sequence, from any state; that a step
//! allocates nothing; and that what does not fit is a typed error that changes nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use burn::module::Module;
use burn::tensor::{DType, Tensor, TensorData};
use scratch_lstm::config::{Activation, Activations, CellConfig, LayerConnection};
use scratch_lstm::{LstmState, LstmStream, ScratchLstmConfig, StreamError};
use scratch_tests::{Case, Tolerance, Values, assert_close, device};

/// Counts what this thread allocates; other tests run beside it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn case(num_layers: usize) -> Case {
    Case::new(ScratchLstmConfig::new(5, 11).with_num_layers(num_layers)).with_sizes(1, 9)
}

/// All steps of `case`'s input, one after the other.
fn run(stream: &mut LstmStream, case: &Case) -> Values {
    let input: Values = case.sequence().input.into();
    let mut outputs = Vec::new();
    for step in input.values.chunks(stream.d_input()) {
        let step: Vec<f32> = step.iter().map(|&x| x as f32).collect();
        let mut output = vec![f32::NAN; stream.d_output()];
        stream.step(&step, &mut output);
        outputs.extend(output.into_iter().map(f64::from));
    }
    Values::new([1, case.steps, stream.d_output()], outputs)
}

#[test]
fn steps_are_the_sequence() {
    let tolerance = Tolerance::of(DType::F32);
    for num_layers in [1, 3] {
        let case = case(num_layers);
        let (lstm, sequence) = (case.lstm(), case.sequence());
        let mut stream = lstm.stream();

        let (output, after) = lstm.forward(sequence.input.clone(), None);
        assert_close("from zeros", run(&mut stream, &case), output, tolerance);
        let state = stream.state(&case.device());
        assert_close("hidden", state.hidden, after.hidden, tolerance);
        assert_close("cell", state.cell, after.cell, tolerance);

        let before = sequence.state.expect("a case has a state");
        stream.set_state(&before);
        let (output, _) = lstm.forward(sequence.input.clone(), Some(before));
        assert_close("from a state", run(&mut stream, &case), output, tolerance);

        stream.reset();
        let (output, _) = lstm.forward(sequence.input, None);
        assert_close("anew", run(&mut stream, &case), output, tolerance);
    }
}

/// Every variant by itself, and many at once.
fn variants() -> Vec<ScratchLstmConfig> {
    let base = || ScratchLstmConfig::new(5, 11).with_num_layers(3);
    let cell = |set: fn(&mut CellConfig)| {
        let mut config = base();
        set(&mut config.cell);
        config
    };
    let mut kept = base();
    kept.regularization.zoneout_hidden = 0.3;
    kept.regularization.zoneout_cell = 0.2;
    let mut all = base()
        .with_projection(6)
        .with_connection(LayerConnection::Skip)
        .with_learned_state(true)
        .with_regularization(kept.regularization.clone());
    all.cell = CellConfig {
        peepholes: true,
        clip_gates: Some(1.5),
        clip_cell: Some(0.9),
        layer_norm: true,
        ..CellConfig::default()
    };
    let mut hard = all.clone();
    hard.cell.coupled = true;
    hard.cell.activations = Activations {
        gate: Activation::HardSigmoid {
            alpha: 0.2,
            beta: 0.5,
        },
        cell: Activation::Softsign,
        hidden: Activation::LeakyRelu { alpha: 0.1 },
    };
    vec![
        base().with_projection(6),
        base().with_connection(LayerConnection::Residual),
        base().with_connection(LayerConnection::Skip),
        base().with_learned_state(true),
        base().with_bias(false),
        cell(|cell| cell.peepholes = true),
        cell(|cell| cell.coupled = true),
        cell(|cell| cell.clip_gates = Some(0.8)),
        cell(|cell| cell.clip_cell = Some(0.5)),
        cell(|cell| cell.layer_norm = true),
        kept,
        all,
        hard,
    ]
}

#[test]
fn steps_of_every_variant_are_the_sequence() {
    let tolerance = Tolerance::of(DType::F32).times(4.0);
    for config in variants() {
        let case = Case::new(config).with_sizes(1, 9);
        // Outside of training, where zoneout has no masks.
        let lstm = case.lstm().valid();
        let mut stream = lstm.stream();
        let (output, after) = lstm.forward(case.sequence().input.inner(), None);
        let what = format!("{case}, {:?}", case.config.cell);
        assert_close(&what, run(&mut stream, &case), output, tolerance);
        let state = stream.state(&device());
        assert_close(&what, state.hidden, after.hidden, tolerance);
        assert_close(&what, state.cell, after.cell, tolerance);
    }
}

#[test]
fn a_step_allocates_nothing() {
    let sizes =
        [11, 64, 300].map(|d_hidden| ScratchLstmConfig::new(5, d_hidden).with_num_layers(2));
    for config in sizes.into_iter().chain(variants()) {
        let lstm = Case::new(config).lstm();
        let mut stream = lstm.stream();
        let (input, mut output) = ([0.5; 5], vec![0.0; stream.d_output()]);
        stream.step(&input, &mut output);
        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            stream.step(&input, &mut output);
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{:?}", lstm.config());
    }
    // The counter counts.
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![1]));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let case = case(2);
    let mut stream = case.lstm().stream();
    let mut output = [0.0; 11];
    stream.step(&[1.0; 5], &mut output);
    let before: Values = stream.state(&case.device()).cell.into();

    let error = stream.try_step(&[1.0; 4], &mut output).unwrap_err();
    assert_eq!(
        error.to_string(),
        "stream input: expected 5 numbers, found 4"
    );
    let error = stream.try_step(&[1.0; 5], &mut output[..3]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "stream output: expected 11 numbers, found 3"
    );
    let two_rows = Tensor::from_data(TensorData::new(vec![0f32; 44], [2, 2, 11]), &case.device());
    let state = LstmState {
        hidden: two_rows.clone(),
        cell: two_rows,
    };
    let error = stream.try_set_state(&state).unwrap_err();
    let expected = "state.hidden: expected shape [L, 1, H] = [2, 1, 11], found [2, 2, 11]";
    assert_eq!(error.to_string(), expected);

    let after: Values = stream.state(&case.device()).cell.into();
    assert_eq!(after, before);
    let both = ScratchLstmConfig::new(5, 11).with_bidirectional(true);
    let error = Case::new(both).lstm().try_stream().unwrap_err();
    assert_eq!(error, StreamError::Bidirectional);
}
