//! This project's LSTM by raw operations, a dozen for each step, differentiated by autodiff: what
//! the fused operation is worth.

use burn::tensor::{Device, Tensor};
use scratch_lstm::{PathChoice, ScratchLstm};

use crate::workload::Size;

use super::on_burn::BurnModel;
use super::{PeerError, scratch};

/// The LSTM on its raw path, with the weights of the other.
#[derive(Debug)]
pub struct RawLstm(ScratchLstm);

impl BurnModel for RawLstm {
    const NAME: &'static str = "raw";

    fn build(size: Size, device: &Device) -> Result<Self, PeerError> {
        scratch::build(size, PathChoice::Raw, device).map(Self)
    }

    fn output(&self, input: Tensor<3>) -> Tensor<3> {
        self.0.forward(input, None).0
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::peers::{input, path};

    #[test]
    fn both_paths_compute_the_same_and_are_two() {
        let device = Device::flex();
        let size = Size::new(3, 7, 5, 11);
        assert!(
            path(PathChoice::Fused, &device, Some(size))
                .unwrap()
                .is_fused()
        );
        let raw = RawLstm::build(size, &device).unwrap();
        assert!(!raw.0.path().unwrap().is_fused());
        let fused = ScratchLstm::build(size, &device).unwrap();
        let input = input([size.b, size.t, size.d], &device);
        let difference = raw.output(input.clone()) - fused.output(input);
        assert!(difference.abs().max().into_scalar::<f32>() < 1e-5);
    }
}
