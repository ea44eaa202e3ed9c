//! Which backend the tests run on.
//!
//! `SCRATCH_TEST_BACKEND=ndarray cargo test …` runs them on NdArray; without it they run on Flex
//! if it is built in, and otherwise on what the program itself would choose. A backend that is not
//! built in, or has no device, fails every test.

use std::env::{self, VarError};
use std::io::Write as _;
use std::sync::OnceLock;

use burn::tensor::{DType, Device, FloatDType, Tensor, activation};
use scratch_train::backend::{self, Backend, Chosen};

const VARIABLE: &str = "SCRATCH_TEST_BACKEND";

/// The device of the tests, without autodiff.
pub fn device() -> Device {
    chosen().device.clone()
}

/// What a backend computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The host's processor and memory; the same call gives the same bits.
    Cpu,
    /// A GPU, or a program that plays one.
    Gpu,
}

impl Kind {
    /// That of a backend.
    pub fn of(chosen: &Chosen) -> Self {
        match chosen.backend {
            Backend::Flex | Backend::NdArray => Self::Cpu,
            Backend::Wgpu | Backend::Vulkan | Backend::Cuda => Self::Gpu,
        }
    }
}

/// Whether the tests run through kernels that are compiled one by one: grids are thinned then, and
/// sums are taken in an order of the device's own.
pub fn is_gpu() -> bool {
    Kind::of(chosen()) == Kind::Gpu
}

/// The backend of the tests.
pub fn chosen() -> &'static Chosen {
    static CHOSEN: OnceLock<Chosen> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let named = match env::var(VARIABLE) {
            Ok(name) => Some(name.parse().unwrap_or_else(|error| fail(error))),
            Err(VarError::NotPresent) => Backend::Flex.is_built_in().then_some(Backend::Flex),
            Err(error) => fail(error),
        };
        let chosen = backend::choose(named).unwrap_or_else(|error| fail(error));
        say(&format!("tests run on {chosen}"));
        chosen
    })
}

/// f32, and f64 where the backend computes in it.
pub fn dtypes() -> Vec<DType> {
    static DTYPES: OnceLock<Vec<DType>> = OnceLock::new();
    let dtypes = DTYPES.get_or_init(|| match check_f64() {
        Ok(()) => vec![DType::F32, DType::F64],
        Err(why) => {
            say(&format!("skipped: f64, {why}"));
            vec![DType::F32]
        }
    });
    dtypes.clone()
}

/// Whether a test in f64 can run; says that it cannot.
pub fn has_f64(test: &str) -> bool {
    check_f64()
        .inspect_err(|why| say(&format!("skipped: {test}, {why}")))
        .is_ok()
}

/// Why f64 cannot be used: shader languages have the type, but neither `exp` nor `tanh` of it.
fn check_f64() -> Result<(), String> {
    let backend = chosen().backend;
    if !device().supports_dtype(DType::F64) {
        return Err(format!("{backend} has no f64"));
    }
    if !is_exact(0.3f64.tanh(), Tensor::tanh) {
        return Err(format!("{backend}'s tanh of f64 is none"));
    }
    Ok(())
}

/// Whether a comparison with burn's own LSTM in f64 can run; says that it cannot. Its sigmoid goes
/// through f32 on most backends.
pub fn burn_has_f64(test: &str) -> bool {
    let has = is_exact(1.0 / (1.0 + (-0.3f64).exp()), activation::sigmoid);
    if !has {
        let backend = chosen().backend;
        say(&format!(
            "skipped: {test}, burn's sigmoid is in f32 on {backend}"
        ));
    }
    has
}

/// Whether `function` of 0.3 in f64 is `expected`.
fn is_exact(expected: f64, function: impl Fn(Tensor<1>) -> Tensor<1>) -> bool {
    let x = Tensor::from_data([0.3f64], (&device(), DType::F64));
    let found: f64 = function(x).into_scalar();
    (found - expected).abs() < 1e-14
}

/// The device, with f64 for every tensor that does not say otherwise; `None` (and said so) where
/// there is no f64. A process has one such setting: a test binary uses either this or
/// [`device`].
pub fn device_of_f64(test: &str) -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        let mut device = device();
        if device.supports_dtype(DType::F64) {
            device
                .configure(FloatDType::F64)
                .expect("this is the first use of the device");
        }
        has_f64(test).then_some(device)
    });
    device.clone()
}

/// Every backend that is built in and has a device here. Says which have none.
pub fn all() -> Vec<Chosen> {
    let built_in = Backend::PREFERENCE.into_iter().filter(|b| b.is_built_in());
    built_in
        .filter_map(|backend| {
            let chosen = backend::choose(Some(backend));
            chosen
                .map_err(|error| say(&format!("skipped: {error}")))
                .ok()
        })
        .collect()
}

/// Tells whoever runs the tests, past the capture of what passing tests print.
pub fn say(text: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "[scratch-tests] {text}");
}

fn fail(error: impl std::fmt::Display) -> ! {
    panic!("{VARIABLE}: {error}")
}
