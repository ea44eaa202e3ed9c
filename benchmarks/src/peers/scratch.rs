//! This project's LSTM.

use burn::tensor::{Device, Tensor};
use scratch_lstm::{Key, ScratchLstm, ScratchLstmConfig};

use crate::workload::Size;

use super::PeerError;
use super::on_burn::BurnModel;

impl BurnModel for ScratchLstm {
    const NAME: &'static str = "scratch";

    fn build(size: Size, device: &Device) -> Result<Self, PeerError> {
        let config = ScratchLstmConfig::new(size.d, size.h);
        Ok(config.try_init_with(&Key::new(0).child("lstm"), device)?)
    }

    fn output(&self, input: Tensor<3>) -> Tensor<3> {
        self.forward(input, None).0
    }
}
