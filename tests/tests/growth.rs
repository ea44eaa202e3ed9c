//! Proves that memory grows linearly in the number of steps, forward and backward, also for several
//! layers and for a tracked input: bytes allocated in all and at the peak at most 2.3 times as many
//! for twice as many steps. (What is quadratic quadruples them: burn gives every slice of a tracked
//! tensor a gradient of the whole tensor's size.) Bytes are counted by the allocator, so that the
//! figures are the same on every machine; only backends that compute in the host's memory count.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use burn::tensor::Tensor;
use scratch_lstm::fused::release_memory;
use scratch_lstm::{ForwardOptions, Key, PathChoice, ScratchLstm, ScratchLstmConfig};
use scratch_tests::backend::{Kind, chosen};
use scratch_tests::{Case, say};

/// The system's allocator, counting.
struct Counting;

static TOTAL: AtomicUsize = AtomicUsize::new(0);
static PRESENT: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn allocated(bytes: usize) {
    TOTAL.fetch_add(bytes, Relaxed);
    let present = PRESENT.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(present, Relaxed);
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        PRESENT.fetch_sub(layout.size(), Relaxed);
        allocated(size);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        PRESENT.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One measurement at a time.
static TURN: Mutex<()> = Mutex::new(());

const STEPS: [usize; 4] = [64, 128, 256, 512];
const LIMIT: f64 = 2.3;
const ROWS: usize = 4;

/// Bytes allocated in all, and the most at once, beyond what was there.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    total: usize,
    peak: usize,
}

fn count(work: impl FnOnce()) -> Bytes {
    let total = TOTAL.load(Relaxed);
    let present = PRESENT.load(Relaxed);
    PEAK.store(present, Relaxed);
    work();
    Bytes {
        total: TOTAL.load(Relaxed) - total,
        peak: PEAK.load(Relaxed).saturating_sub(present),
    }
}

fn case(config: ScratchLstmConfig, steps: usize) -> Case {
    Case::new(config).with_sizes(ROWS, steps)
}

fn wide() -> ScratchLstmConfig {
    ScratchLstmConfig::new(64, 16).with_num_layers(2)
}

/// Forward and backward for each number of steps.
fn measure(
    config: &ScratchLstmConfig,
    forward: impl Fn(&ScratchLstm, Tensor<3>) -> Tensor<3>,
) -> Vec<Bytes> {
    let _turn = TURN.lock().unwrap_or_else(|poison| poison.into_inner());
    let lstm = case(config.clone(), 1).lstm();
    let run = |steps: usize| {
        let input = case(config.clone(), steps).sequence().input;
        // What one number of steps leaves behind for the next must not count as saved.
        release_memory();
        count(|| {
            let output = forward(&lstm, input.clone());
            let gradients = output.sum().backward();
            assert!(input.grad(&gradients).is_some());
        })
    };
    // Buffers that are kept, threads, and so on.
    run(STEPS[0]);
    STEPS.into_iter().map(run).collect()
}

/// How many times as many bytes twice as many steps take: the worst doubling.
fn growth(bytes: &[Bytes], pick: impl Fn(&Bytes) -> usize) -> f64 {
    let ratio = |pair: &[Bytes]| pick(&pair[1]) as f64 / pick(&pair[0]) as f64;
    bytes.windows(2).map(ratio).fold(0.0, f64::max)
}

fn is_counted() -> bool {
    let is_cpu = Kind::of(chosen()) == Kind::Cpu;
    if !is_cpu {
        say("skipped: growth, this backend's memory is not the host's");
    }
    is_cpu
}

#[track_caller]
fn assert_linear(what: &str, bytes: &[Bytes]) {
    let growth = [growth(bytes, |b| b.total), growth(bytes, |b| b.peak)];
    println!("{what}: {bytes:?}, growth {growth:.2?}");
    assert!(
        growth.iter().all(|&ratio| ratio < LIMIT),
        "{what}: {growth:.2?}, {bytes:?}"
    );
    // Something was measured, and it does grow.
    assert!(
        growth.iter().all(|&ratio| ratio > 1.7),
        "{what}: {growth:.2?}, {bytes:?}"
    );
}

#[test]
fn layers_directions_and_a_tracked_input() {
    if !is_counted() {
        return;
    }
    let configs = [
        ("two layers", wide()),
        ("two layers, time first", wide().with_batch_first(false)),
        (
            "two layers, both directions",
            wide().with_bidirectional(true),
        ),
        (
            "a wide hidden state",
            ScratchLstmConfig::new(8, 48).with_num_layers(3),
        ),
    ];
    for (what, config) in configs {
        let bytes = measure(&config, |lstm, input| lstm.forward(input, None).0);
        assert_linear(what, &bytes);
    }
}

#[test]
fn lengths_and_dropout() {
    if !is_counted() {
        return;
    }
    let config = wide().with_bidirectional(true).with_dropout(0.3);
    let bytes = measure(&config, |lstm, input| {
        let [rows, steps, _] = input.dims();
        let lengths: Vec<usize> = (0..rows).map(|row| steps - row * steps / rows).collect();
        let key = Key::new(1);
        let options = ForwardOptions::new()
            .with_lengths(&lengths[..])
            .with_key(&key);
        lstm.forward_with(input, options).0
    });
    assert_linear("lengths and dropout", &bytes);
}

/// Nothing is kept where there is no way back: an evaluation needs its output and one segment.
#[test]
fn inference_keeps_nothing() {
    if !is_counted() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(|poison| poison.into_inner());
    let steps = 20_000;
    let case = case(ScratchLstmConfig::new(8, 16), steps);
    let lstm = burn::module::Module::valid(&case.lstm());
    let input = case.sequence().input.inner();
    release_memory();
    let output = ROWS * steps * 16 * size_of::<f32>();
    let gates = 4 * output;
    let options = ForwardOptions::new()
        .with_path(PathChoice::Fused)
        .with_segment(std::num::NonZeroUsize::new(100));
    let bytes = count(|| drop(lstm.forward_with(input, options)));
    assert!(bytes.peak >= output, "{bytes:?}");
    assert!(
        bytes.peak < output + gates / 10,
        "{bytes:?}, output {output}"
    );
}

/// With gradient checkpointing a step costs what its input, output and their gradients take: the
/// gates of two segments of `√T` steps are there at a time.
#[test]
fn checkpointing_keeps_the_square_root() {
    if !is_counted() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(|poison| poison.into_inner());
    let steps = 4096;
    let peak = |case: Case| {
        let (lstm, input) = (case.lstm(), case.sequence().input.detach());
        release_memory();
        let bytes = count(|| {
            let options = ForwardOptions::new().with_path(PathChoice::Fused);
            let (output, _) = lstm.forward_with(input, options);
            let gradients = output.sum().backward();
            assert!(lstm.layers[0].forward.weight_hh.grad(&gradients).is_some());
        });
        bytes.peak
    };
    let case = case(ScratchLstmConfig::new(4, 32), steps);
    let output = ROWS * steps * 32 * size_of::<f32>();
    let kept = peak(case.clone());
    let checkpointed = peak(case.with_checkpointing());
    println!("kept {kept}, checkpointed {checkpointed}, output {output}");
    // Gates and cell states are five times the output.
    assert!(kept > 6 * output, "{kept}, output {output}");
    // The output, its gradient and the input are there in full; the rest may be some 20 numbers for
    // each of `√T` steps. Keeping a fifth of all gates would break it.
    let of_root = 20 * steps.isqrt() * output / steps;
    assert!(
        checkpointed < 2 * output + output / 5 + of_root,
        "{checkpointed}, output {output}"
    );
}

/// That the measure sees what it is there to see: a slice of the tracked input for each step.
#[test]
fn a_slice_for_each_step_would_be_quadratic() {
    if !is_counted() {
        return;
    }
    let config = wide().with_num_layers(1);
    let bytes = measure(&config, |lstm, input| {
        let [_, steps, _] = input.dims();
        let mut state = None;
        let mut outputs = Vec::new();
        for time in 0..steps {
            let step = input.clone().narrow(1, time, 1).squeeze_dim(1);
            let after = lstm.layers[0].forward.forward(step, state);
            outputs.push(after.hidden.clone());
            state = Some(after);
        }
        Tensor::stack(outputs, 1)
    });
    let growth = growth(&bytes, |bytes| bytes.total);
    assert!(growth > LIMIT, "{growth:.2}, {bytes:?}");
}
