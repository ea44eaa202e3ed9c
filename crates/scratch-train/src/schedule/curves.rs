//! Curves as shares of the learning rate.

use std::f64::consts::PI;

use super::Warmup;

/// From `first` to `last` in a line; `done` goes from 0 to 1.
pub(super) fn linear(first: f64, last: f64, done: f64) -> f64 {
    first + (last - first) * done
}

/// From `first` to `last` along half a cosine; `done` goes from 0 to 1.
pub(super) fn cosine(first: f64, last: f64, done: f64) -> f64 {
    last + (first - last) * 0.5 * (1.0 + (PI * done).cos())
}

/// What the warm-up leaves of the learning rate.
pub(super) fn rise(warmup: Warmup, step: u64, share: f64) -> f64 {
    match warmup {
        Warmup::Share(warmup) if share < warmup => linear(START, 1.0, share / warmup),
        Warmup::Steps { steps } if step < steps => (step + 1) as f64 / steps as f64,
        _ => 1.0,
    }
}

/// How much is done of what comes after a warm-up by share.
pub(super) fn behind(warmup: Warmup, share: f64) -> f64 {
    match warmup {
        Warmup::Share(warmup) => ((share - warmup) / (1.0 - warmup)).max(0.0),
        Warmup::Steps { .. } => share,
    }
}

/// How much is done of the present cycle, of which the first takes `length` epochs and each
/// `multiplier` times as many as the one before.
pub(super) fn cycle(epoch: f64, length: f64, multiplier: u32) -> f64 {
    if multiplier == 1 {
        return (epoch % length) / length;
    }
    let (mut begin, mut length) = (0.0, length);
    while epoch >= begin + length {
        begin += length;
        length *= f64::from(multiplier);
    }
    (epoch - begin) / length
}

/// 1 at the last step of the rise.
pub(super) fn noam(step: u64, warmup_steps: u64) -> f64 {
    let (step, warmup) = ((step + 1) as f64, warmup_steps as f64);
    (step / warmup).min((warmup / step).sqrt())
}

/// 1 when `rise` of the run is done.
pub(super) fn one_cycle(share: f64, rise: f64, div_factor: f64, final_div_factor: f64) -> f64 {
    let first = 1.0 / div_factor;
    let last = first / final_div_factor;
    if share < rise {
        return cosine(first, 1.0, share / rise);
    }
    // A rise that takes the whole run has nothing behind it.
    let done = if rise < 1.0 {
        (share - rise) / (1.0 - rise)
    } else {
        0.0
    };
    cosine(1.0, last, done)
}

/// Where a warm-up by share begins: a first step at 0 would be none.
const START: f64 = 0.01;
