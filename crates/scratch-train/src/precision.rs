//! STUB
use crate::error::TrainError;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
/// s
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// s
    #[default]
    F32,
    /// s
    Bf16,
}
pub(crate) fn check(_: Precision, _: &Device) -> Result<(), TrainError> {
    Ok(())
}
pub(crate) fn lowered<M: Module>(m: &M, _: Precision) -> M {
    m.clone()
}
pub(crate) fn raised<M: Module>(g: GradientsParams, _: &M) -> GradientsParams {
    g
}
