//! Checks gradients against the function itself, as PyTorch's `torch.autograd.gradcheck` does.
//!
//! A module's results are weighted with random cotangents and added up, and the gradient that
//! autodiff gives for each parameter is compared, by name, with central differences
//! `(f(x + step) - f(x - step)) / (2 step)` of that sum. Parameters and inputs have to be f64: in
//! f32 a difference drowns in rounding.
//!
//! ```
//! # #[cfg(feature = "flex")] {
//! use burn::module::{Module, Param};
//! use burn::tensor::{DType, Device, Distribution, Tensor};
//! use scratch_lstm::{ScratchLstmConfig, gradcheck::{gradcheck, to_f64}};
//!
//! let device = Device::flex().autodiff();
//! let lstm = to_f64(ScratchLstmConfig::new(2, 3).init(&device));
//! let input = Tensor::<3>::random([2, 4, 2], Distribution::Default, (&device, DType::F64));
//! // An input is checked too when it is a parameter of what is checked.
//! let report = gradcheck(&(lstm, Param::from_tensor(input)), |(lstm, input)| {
//!     let (output, state) = lstm.forward(input.val(), None);
//!     (output, state.cell)
//! });
//! println!("{}", report.unwrap());
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Gradients, Tensor, TensorData};
use rand::Rng;
use thiserror::Error;

use crate::random::Key;

/// Checks every entry of every parameter of `module`, with the defaults of [`GradCheck`].
/// `forward` computes what is differentiated, the same at every call.
///
/// # Errors
///
/// Where [`GradCheck::run`] has one.
pub fn gradcheck<M: Module, O: Results>(
    module: &M,
    forward: impl Fn(&M) -> O,
) -> Result<GradReport, GradCheckError> {
    GradCheck::default().run(module, forward)
}

/// How gradients are checked.
#[derive(Debug, Clone, PartialEq)]
pub struct GradCheck {
    /// Half the distance of a difference. Its error is about `step²` times the third derivative,
    /// and rounding adds about `1e-16 / step`.
    pub step: f64,
    /// How far gradient and difference may lie apart, beside [`relative`](Self::relative).
    pub absolute: f64,
    /// The same, as a share of the gradient.
    pub relative: f64,
    /// Checks so many random directions in the space of each parameter instead of every entry:
    /// for large modules.
    pub directions: Option<usize>,
    /// Of cotangents and directions.
    pub seed: u64,
}

impl Default for GradCheck {
    fn default() -> Self {
        Self {
            step: 1e-5,
            absolute: 1e-8,
            relative: 1e-7,
            directions: None,
            seed: 0,
        }
    }
}

/// What a module computes, for [`gradcheck`]: a tensor, or several of any ranks in a tuple or a
/// `Vec`.
pub trait Results {
    /// All numbers, tensor by tensor.
    fn flat(self) -> Vec<Tensor<1>>;
}

/// What was checked, and how near gradients and differences were.
#[derive(Debug, Clone, PartialEq)]
pub struct GradReport {
    /// By the parameters' paths.
    pub parameters: BTreeMap<String, ParameterReport>,
}

/// What was checked of one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParameterReport {
    /// Entries, or directions.
    pub checked: usize,
    /// The largest distance of a gradient and its difference.
    pub largest_error: f64,
    /// The largest gradient.
    pub largest_gradient: f64,
}

/// Gradients that are not the slopes, or that cannot be checked.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum GradCheckError {
    /// There is nothing to check.
    #[error("gradcheck: expected a module with parameters that require gradients, found none")]
    NoParameters,
    /// No entry and no direction is to be checked.
    #[error("gradcheck: expected at least one direction, found 0")]
    NoDirections,
    /// A parameter is not f64.
    #[error(
        "gradcheck: expected parameters in F64, found `{name}` in {found:?}: see `gradcheck::to_f64`"
    )]
    ElementType {
        /// Its path.
        name: String,
        /// Its element type.
        found: DType,
    },
    /// Some gradients are wrong.
    #[error(
        "gradcheck: {wrong} of {checked} gradients are not the slopes of the function, {first}"
    )]
    Wrong {
        /// How many.
        wrong: usize,
        /// Of how many.
        checked: usize,
        /// The first one.
        first: WrongGradient,
    },
}

/// A gradient that is not the slope.
#[derive(Debug, Clone, PartialEq)]
pub struct WrongGradient {
    /// The parameter's path.
    pub name: String,
    /// The entry's place in the parameter; empty for a direction.
    pub place: Vec<usize>,
    /// What autodiff says.
    pub gradient: f64,
    /// The central difference.
    pub slope: f64,
}

impl GradCheck {
    /// Checks the gradients of `module`'s parameters.
    ///
    /// # Errors
    ///
    /// If a gradient is not the slope, or there is nothing that can be checked.
    pub fn run<M: Module, O: Results>(
        &self,
        module: &M,
        forward: impl Fn(&M) -> O,
    ) -> Result<GradReport, GradCheckError> {
        if self.directions == Some(0) {
            return Err(GradCheckError::NoDirections);
        }
        let key = Key::new(self.seed);
        let results = forward(module).flat();
        let cotangents: Vec<Tensor<1>> = results
            .iter()
            .enumerate()
            .map(|(index, result)| {
                let [count] = result.dims();
                let values = uniform(count, &key.child("cotangent").child(index));
                let device = result.device().without_autodiff();
                Tensor::from_data(TensorData::new(values, [count]), (&device, DType::F64))
            })
            .collect();
        let weigh = |results: Vec<Tensor<1>>| -> Tensor<1> {
            let weighted = results
                .into_iter()
                .zip(&cotangents)
                .map(|(result, weights)| {
                    let weights = weights.clone().to_device(&result.device());
                    (result * weights).sum()
                });
            weighted
                .reduce(|sum, term| sum + term)
                .expect("a module computes something")
        };
        let parameters = parameters(module, None);
        if let Some((name, parameter)) = parameters.iter().find(|(_, p)| p.dtype != DType::F64) {
            return Err(GradCheckError::ElementType {
                name: name.clone(),
                found: parameter.dtype,
            });
        }
        if parameters.is_empty() {
            return Err(GradCheckError::NoParameters);
        }
        let gradients = weigh(results).backward();
        let gradients = self::parameters(module, Some(&gradients));

        // The function of all parameters' numbers.
        let mut point: BTreeMap<String, Vec<f64>> = parameters
            .iter()
            .map(|(name, parameter)| (name.clone(), parameter.values.clone()))
            .collect();
        let at = |point: &BTreeMap<String, Vec<f64>>| -> f64 {
            let module = module.clone().map(&mut Replace {
                path: Vec::new(),
                by: point,
            });
            weigh(forward(&module).flat()).into_scalar()
        };
        let mut report = BTreeMap::new();
        let (mut wrong, mut checked, mut first) = (0, 0, None);
        for (name, parameter) in &parameters {
            let gradient = &gradients[name].values;
            let mut of_parameter = ParameterReport {
                checked: 0,
                largest_error: 0.0,
                largest_gradient: 0.0,
            };
            for Direction { place, shares } in self.directions(&key.child(name), parameter) {
                let mut along = |by: f64| -> f64 {
                    let values = point.get_mut(name).expect("the parameter's own");
                    for &(index, share) in &shares {
                        values[index] = parameter.values[index] + by * share;
                    }
                    at(&point)
                };
                let slope = (along(self.step) - along(-self.step)) / (2.0 * self.step);
                point.insert(name.clone(), parameter.values.clone());
                let gradient: f64 = shares
                    .iter()
                    .map(|&(index, share)| gradient[index] * share)
                    .sum();
                let error = (slope - gradient).abs();
                of_parameter.checked += 1;
                of_parameter.largest_error = of_parameter.largest_error.max(error);
                of_parameter.largest_gradient = of_parameter.largest_gradient.max(gradient.abs());
                // A comparison that NaN fails.
                let near = error <= self.absolute + self.relative * gradient.abs();
                if !near {
                    wrong += 1;
                    first.get_or_insert_with(|| WrongGradient {
                        name: name.clone(),
                        place,
                        gradient,
                        slope,
                    });
                }
            }
            checked += of_parameter.checked;
            report.insert(name.clone(), of_parameter);
        }
        match first {
            Some(first) => Err(GradCheckError::Wrong {
                wrong,
                checked,
                first,
            }),
            None => Ok(GradReport { parameters: report }),
        }
    }

    /// The directions in which a parameter is shifted.
    fn directions(&self, key: &Key, parameter: &Parameter) -> Vec<Direction> {
        let count = parameter.values.len();
        match self.directions {
            None => (0..count)
                .map(|index| Direction {
                    place: place(&parameter.shape, index),
                    shares: vec![(index, 1.0)],
                })
                .collect(),
            Some(directions) => (0..directions)
                .map(|number| {
                    let shares = uniform(count, &key.child(number));
                    // Of length 1: the error of a difference grows with its third power.
                    let length = shares.iter().map(|share| share * share).sum::<f64>().sqrt();
                    let shares = shares.into_iter().map(|share| share / length);
                    Direction {
                        place: Vec::new(),
                        shares: shares.enumerate().collect(),
                    }
                })
                .collect(),
        }
    }
}

/// Where a parameter is shifted to.
struct Direction {
    /// The entry's place; empty if all entries are shifted.
    place: Vec<usize>,
    /// Entries, and how far each is shifted.
    shares: Vec<(usize, f64)>,
}

/// `module` with every float parameter in f64.
pub fn to_f64<M: Module>(module: M) -> M {
    struct ToF64;
    impl ModuleMapper for ToF64 {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let tracked = tensor.is_require_grad();
                tensor.cast(DType::F64).detach().set_require_grad(tracked)
            })
        }
    }
    module.map(&mut ToF64)
}

impl<const R: usize> Results for Tensor<R> {
    fn flat(self) -> Vec<Tensor<1>> {
        vec![self.flatten(0, R - 1)]
    }
}

impl<T: Results> Results for Vec<T> {
    fn flat(self) -> Vec<Tensor<1>> {
        self.into_iter().flat_map(T::flat).collect()
    }
}

impl<A: Results, B: Results> Results for (A, B) {
    fn flat(self) -> Vec<Tensor<1>> {
        [self.0.flat(), self.1.flat()].concat()
    }
}

impl<A: Results, B: Results, C: Results> Results for (A, B, C) {
    fn flat(self) -> Vec<Tensor<1>> {
        [self.0.flat(), self.1.flat(), self.2.flat()].concat()
    }
}

impl fmt::Display for GradReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.parameters.keys().map(String::len).max().unwrap_or(0);
        for (index, (name, parameter)) in self.parameters.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(
                f,
                "{name:<width$}  {:>6} checked, gradients up to {:.3e}, errors up to {:.1e}",
                parameter.checked, parameter.largest_gradient, parameter.largest_error
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for WrongGradient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place: &dyn fmt::Display = match &self.place[..] {
            [] => &"in a random direction",
            place => &format!("at {place:?}"),
        };
        write!(
            f,
            "`{}` {place}: gradient {:e}, slope {:e}",
            self.name, self.gradient, self.slope
        )
    }
}

/// `count` numbers in ±1.
fn uniform(count: usize, key: &Key) -> Vec<f64> {
    let mut rng = key.rng();
    (0..count)
        .map(|_| 2.0 * f64::from(rng.next_u32()) / f64::from(u32::MAX) - 1.0)
        .collect()
}

/// The place of entry `index`, axis by axis.
fn place(shape: &[usize], index: usize) -> Vec<usize> {
    let mut rest = index;
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let at = rest % size;
            rest /= size;
            at
        })
        .collect();
    place.reverse();
    place
}

/// A parameter's numbers, or its gradient's.
struct Parameter {
    shape: Vec<usize>,
    dtype: DType,
    values: Vec<f64>,
}

/// The parameters that require gradients by their paths; with `gradients` those, zeros where there
/// is none.
fn parameters<M: Module>(module: &M, gradients: Option<&Gradients>) -> BTreeMap<String, Parameter> {
    struct Visitor<'a> {
        path: Vec<String>,
        gradients: Option<&'a Gradients>,
        found: BTreeMap<String, Parameter>,
    }
    impl ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if !value.is_require_grad() {
                return;
            }
            let (shape, dtype) = (value.dims().to_vec(), value.dtype());
            let values = match self.gradients {
                None => value.into_data().iter::<f64>().collect(),
                Some(gradients) => match value.grad(gradients) {
                    Some(gradient) => gradient.into_data().iter::<f64>().collect(),
                    None => vec![0.0; shape.iter().product()],
                },
            };
            let parameter = Parameter {
                shape,
                dtype,
                values,
            };
            self.found.insert(self.path.join("."), parameter);
        }
    }
    let mut visitor = Visitor {
        path: Vec::new(),
        gradients,
        found: BTreeMap::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}

/// Puts other numbers into the parameters, which need no gradient then.
struct Replace<'a> {
    path: Vec<String>,
    by: &'a BTreeMap<String, Vec<f64>>,
}

impl ModuleMapper for Replace<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(values) = self.by.get(&self.path.join(".")) else {
            return param;
        };
        let values = values.clone();
        param.map(|old| {
            let data = TensorData::new(values, old.dims());
            Tensor::from_data(data, (&old.device(), DType::F64)).set_require_grad(false)
        })
    }
}
