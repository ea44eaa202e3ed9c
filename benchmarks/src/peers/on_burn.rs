//! Timing what runs on burn, the same way for every model.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor, TensorData};

use crate::statistics::median;
use crate::workload::{Mode, Size};

use super::{Peer, PeerError};

/// An LSTM of one layer that runs on burn.
pub trait BurnModel: Sized {
    /// What it is called in results.
    const NAME: &'static str;

    /// The LSTM of a size; the same weights for every model and device.
    ///
    /// # Errors
    ///
    /// If there is none.
    fn build(size: Size, device: &Device) -> Result<Self, PeerError>;

    /// The output `[B, T, H]` for an input `[B, T, D]`, from the zero state.
    fn output(&self, input: Tensor<3>) -> Tensor<3>;
}

/// A model on one of burn's backends.
#[derive(Debug)]
pub struct OnBurn<M> {
    name: &'static str,
    library: &'static str,
    device: Device,
    /// The model and its input of the last call.
    ready: Option<(Size, Mode, M, Tensor<3>)>,
}

impl<M: BurnModel> OnBurn<M> {
    /// On `device`, which does not differentiate by itself.
    pub fn new(device: &Device) -> Self {
        Self::called(M::NAME, "burn", device)
    }

    /// On the device of another backend than the run's; model and matrix products go by its name.
    pub fn elsewhere(backend: &'static str, device: &Device) -> Self {
        Self::called(backend, backend, device)
    }

    fn called(name: &'static str, library: &'static str, device: &Device) -> Self {
        Self {
            name,
            library,
            device: device.clone(),
            ready: None,
        }
    }

    fn prepare(&mut self, size: Size, mode: Mode) -> Result<(&M, &Tensor<3>), PeerError> {
        let is_ready =
            matches!(&self.ready, Some((of, in_mode, ..)) if (*of, *in_mode) == (size, mode));
        if !is_ready {
            // What is there goes first: two of the large size need not fit.
            self.ready = None;
            let device = match mode {
                Mode::Forward => self.device.clone(),
                Mode::Train => self.device.clone().autodiff(),
            };
            let input = input([size.b, size.t, size.d], &device);
            self.ready = Some((size, mode, M::build(size, &device)?, input));
        }
        let (_, _, model, input) = self.ready.as_ref().expect("made above");
        Ok((model, input))
    }
}

impl<M: BurnModel> Peer for OnBurn<M> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn library(&self) -> &'static str {
        self.library
    }

    fn multiply(&mut self, width: usize, iterations: usize) -> Result<f64, PeerError> {
        // Drawn on the device: a large matrix takes longer to come from the host than to multiply.
        let numbers = Distribution::Uniform(-1.0, 1.0);
        let matrix = Tensor::<2>::random([width, width], numbers, &self.device);
        median_seconds(&self.device, iterations, || {
            Tensor::<2>::matmul(matrix.clone(), matrix.clone())
        })
    }

    fn time(&mut self, size: Size, mode: Mode, iterations: usize) -> Result<f64, PeerError> {
        let device = self.device.clone();
        let (model, input) = self.prepare(size, mode)?;
        match mode {
            Mode::Forward => median_seconds(&device, iterations, || model.output(input.clone())),
            Mode::Train => median_seconds(&device, iterations, || {
                mean_of_squares(model.output(input.clone())).backward()
            }),
        }
    }
}

/// The loss of a training step.
pub fn mean_of_squares(output: Tensor<3>) -> Tensor<1> {
    output.square().mean()
}

/// An input with the same numbers on every backend; which ones has no influence on the time.
pub fn input(shape: [usize; 3], device: &Device) -> Tensor<3> {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Median seconds of `iteration`. Each ends when the device has really done it: GPUs and fused
/// backends return before, and would be timed for queueing.
///
/// # Errors
///
/// If the device fails.
pub fn median_seconds<R>(
    device: &Device,
    iterations: usize,
    mut iteration: impl FnMut() -> R,
) -> Result<f64, PeerError> {
    let sync = || {
        device
            .sync()
            .map_err(|error| PeerError::Device(error.to_string()))
    };
    sync()?;
    let mut seconds = Vec::with_capacity(iterations);
    for _ in 0..iterations {
        let start = Instant::now();
        let result = black_box(iteration());
        sync()?;
        // Freeing what was kept for the backward pass is part of the work.
        drop(result);
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(median(&seconds))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::peers::BurnLstm;
    use scratch_lstm::ScratchLstm;

    const SIZE: Size = Size::new(3, 7, 5, 11);

    /// A ratio means nothing unless both sides compute the same.
    #[test]
    fn both_models_compute_the_same() {
        let device = Device::flex();
        let input = input([SIZE.b, SIZE.t, SIZE.d], &device);
        let ours = ScratchLstm::build(SIZE, &device).unwrap();
        let theirs = BurnLstm::build(SIZE, &device).unwrap();
        let difference = ours.output(input.clone()) - theirs.output(input);
        assert!(difference.abs().max().into_scalar::<f32>() < 1e-5);
    }

    #[test]
    fn each_mode_takes_time() {
        let mut peer = OnBurn::<ScratchLstm>::new(&Device::flex());
        for mode in [Mode::Forward, Mode::Train, Mode::Forward] {
            assert!(peer.time(SIZE, mode, 3).unwrap() > 0.0);
        }
    }

    #[test]
    fn a_product_takes_time() {
        let mut peer = OnBurn::<ScratchLstm>::elsewhere("other", &Device::flex());
        assert!(peer.multiply(64, 3).unwrap() > 0.0);
        assert_eq!((peer.name(), peer.library()), ("other", "other"));
    }

    #[test]
    fn a_training_step_gives_the_gradients_of_the_weights_alone() {
        let device = Device::flex().autodiff();
        let input = input([SIZE.b, SIZE.t, SIZE.d], &device);
        let model = ScratchLstm::build(SIZE, &device).unwrap();
        let gradients = mean_of_squares(model.output(input.clone())).backward();
        let weights = &model.layers[0].forward;
        assert!(weights.weight_ih.grad(&gradients).is_some());
        assert!(weights.weight_hh.grad(&gradients).is_some());
        assert!(input.grad(&gradients).is_none());
    }
}
