//! Identities of parameters.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Bool, Int, Tensor};
use scratch_lstm::param_id;

/// Gives every parameter the identity that follows from its path in the module.
///
/// Optimizer states and records are kept by identity; burn's are drawn at random in each process.
pub fn with_path_ids<M: Module>(module: M) -> M {
    module.map(&mut PathIds::default())
}

#[derive(Default)]
struct PathIds {
    path: Vec<String>,
}

impl PathIds {
    fn id(&self) -> burn::module::ParamId {
        param_id(&self.path.join("."))
    }
}

impl ModuleMapper for PathIds {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, mut param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.id = self.id();
        param
    }

    fn map_int<const D: usize>(
        &mut self,
        mut param: Param<Tensor<D, Int>>,
    ) -> Param<Tensor<D, Int>> {
        param.id = self.id();
        param
    }

    fn map_bool<const D: usize>(
        &mut self,
        mut param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        param.id = self.id();
        param
    }
}
