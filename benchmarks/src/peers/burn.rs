//! burn's own LSTM, with the weights of ours.

use burn::tensor::{Device, Tensor};
use scratch_lstm::ScratchLstm;

use crate::workload::Size;

use super::PeerError;
use super::on_burn::BurnModel;

/// burn's own LSTM.
pub type BurnLstm = burn::nn::Lstm;

impl BurnModel for BurnLstm {
    const NAME: &'static str = "burn";

    fn build(size: Size, device: &Device) -> Result<Self, PeerError> {
        let ours = ScratchLstm::build(size, device)?;
        Ok(ours.try_to_burn()?.remove(0))
    }

    fn output(&self, input: Tensor<3>) -> Tensor<3> {
        self.forward(input, None).0
    }
}
