//! STUB
use crate::schedule::Place;
use serde::{Deserialize, Serialize};
/// s
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AverageConfig {}
/// s
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AverageState {}
/// s
pub struct Average<M>(Option<M>);
impl<M> Average<M> {
    pub(crate) fn new(_: AverageConfig) -> Self {
        Self(None)
    }
    pub(crate) fn restore(_: AverageConfig, _: AverageState, m: Option<M>) -> Self {
        Self(m)
    }
    pub(crate) fn after_step(&mut self, _: &M, _: &Place) {}
    pub(crate) fn validated(&mut self, _: f64) {}
    pub(crate) fn model(&self) -> Option<&M> {
        self.0.as_ref()
    }
    pub(crate) fn state(&self) -> AverageState {
        AverageState {}
    }
}
