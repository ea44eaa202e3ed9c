//! Which backend a run uses, and why.
//!
//! Backends are compiled in by cargo features. Without a name the first in the order of
//! [`Backend::PREFERENCE`] that is built in and has a device is taken, so that whoever adds a
//! feature gets it. A software GPU adapter (Mesa's llvmpipe) is taken only by name.

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;
use thiserror::Error;

/// A backend by the name of its cargo feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// NVIDIA GPUs.
    Cuda,
    /// GPUs through Vulkan, with SPIR-V kernels.
    Vulkan,
    /// GPUs through wgpu (Vulkan, Metal or DirectX).
    Wgpu,
    /// The CPU with the ndarray crate; burn deprecates it in favour of Flex.
    NdArray,
    /// The CPU with burn's own kernels.
    Flex,
}

/// The device of a run.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Its backend.
    pub backend: Backend,
    /// The device, without autodiff.
    pub device: Device,
    /// What the device is: `NVIDIA H100`, `CPU`.
    pub name: String,
    /// Why it was chosen.
    pub reason: String,
}

/// What a backend has on this machine.
#[derive(Debug, Clone)]
pub struct Found {
    /// The backend.
    pub backend: Backend,
    /// The device.
    pub device: Device,
    /// What the device is.
    pub name: String,
    /// Whether a program plays the GPU.
    pub software: bool,
}

/// A backend that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BackendError {
    /// No backend of that name.
    #[error("unknown backend `{name}`: expected one of cuda, vulkan, wgpu, ndarray, flex")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The program was built without it.
    #[error(
        "backend `{backend}` is not built in (built in: {}); build with `--features {backend}`",
        built_in_names()
    )]
    NotBuiltIn {
        /// What was asked for.
        backend: Backend,
    },
    /// The machine has no device for it.
    #[error("backend `{backend}` finds no device on this machine: {missing}")]
    NoDevice {
        /// What was asked for.
        backend: Backend,
        /// What is needed.
        missing: &'static str,
    },
    /// The program was built without any.
    #[error("no backend with a device on this machine is built in; build with `--features flex`")]
    None,
}

impl Backend {
    /// All backends; without a name the first with a device is taken.
    pub const PREFERENCE: [Backend; 5] = [
        Backend::Cuda,
        Backend::Vulkan,
        Backend::Wgpu,
        Backend::NdArray,
        Backend::Flex,
    ];

    /// Whether the cargo feature is on.
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(any(feature = "wgpu", feature = "wgpu-untuned")),
            Self::NdArray => cfg!(feature = "ndarray"),
            Self::Flex => cfg!(feature = "flex"),
        }
    }

    /// The name of the cargo feature.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
            Self::NdArray => "ndarray",
            Self::Flex => "flex",
        }
    }

    /// Devices of this backend on this machine, real ones first; none if it is not built in.
    pub fn devices(self) -> Vec<Found> {
        let found = |device: Device, software: bool| Found {
            backend: self,
            name: describe(self, &device, software),
            device,
            software,
        };
        match self {
            Self::Cuda => cuda_devices()
                .into_iter()
                .map(|device| found(device, false))
                .collect(),
            Self::Vulkan | Self::Wgpu => wgpu_devices(self)
                .into_iter()
                .map(|(device, software)| found(device, software))
                .collect(),
            Self::NdArray | Self::Flex => cpu_device(self)
                .into_iter()
                .map(|device| found(device, false))
                .collect(),
        }
    }

    const fn needs(self) -> &'static str {
        match self {
            Self::Cuda => "it needs an NVIDIA GPU, its driver and the CUDA toolkit",
            Self::Vulkan => "it needs a GPU with a Vulkan driver, or Mesa's software driver",
            Self::Wgpu => {
                "it needs a GPU with a Vulkan, Metal or DirectX driver, or Mesa's software driver"
            }
            Self::NdArray | Self::Flex => "it needs nothing but the CPU",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::PREFERENCE
            .into_iter()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| BackendError::Unknown { name: name.into() })
    }
}

/// Chooses the device of a run: of the backend `named`, or the first there is.
///
/// # Errors
///
/// If the backend is not built in or has no device here.
pub fn choose(named: Option<Backend>) -> Result<Chosen, BackendError> {
    let chosen = choose_from(named, |backend| backend.is_built_in(), Backend::devices)?;
    if chosen.is_software() {
        keep_autotuning_minimal();
    }
    Ok(chosen)
}

impl Chosen {
    fn is_software(&self) -> bool {
        self.name.ends_with(SOFTWARE)
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} ({})", self.backend, self.name, self.reason)
    }
}

const SOFTWARE: &str = "(software)";

/// The choice, apart from the machine it is made on.
fn choose_from(
    named: Option<Backend>,
    is_built_in: impl Fn(Backend) -> bool,
    devices: impl Fn(Backend) -> Vec<Found>,
) -> Result<Chosen, BackendError> {
    if let Some(backend) = named {
        if !is_built_in(backend) {
            return Err(BackendError::NotBuiltIn { backend });
        }
        let found = devices(backend).into_iter().next();
        let found = found.ok_or(BackendError::NoDevice {
            backend,
            missing: backend.needs(),
        })?;
        return Ok(found.chosen("named".into()));
    }
    let mut passed_over = Vec::new();
    for backend in Backend::PREFERENCE {
        if !is_built_in(backend) {
            continue;
        }
        let found = devices(backend);
        let why_not = match found.iter().find(|found| !found.software) {
            Some(found) => {
                let mut reason = String::from("first of those built in");
                if !passed_over.is_empty() {
                    reason = format!("{reason} but {}", passed_over.join(", "));
                }
                return Ok(found.clone().chosen(reason));
            }
            None if found.is_empty() => "has no device here",
            None => "has only a software adapter here, used when named",
        };
        passed_over.push(format!("{backend}, which {why_not}"));
    }
    Err(BackendError::None)
}

impl Found {
    fn chosen(self, reason: String) -> Chosen {
        Chosen {
            backend: self.backend,
            device: self.device,
            name: self.name,
            reason,
        }
    }
}

fn built_in_names() -> String {
    let names: Vec<_> = Backend::PREFERENCE
        .into_iter()
        .filter(|backend| backend.is_built_in())
        .map(Backend::name)
        .collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

#[allow(unused_variables)]
fn describe(backend: Backend, device: &Device, software: bool) -> String {
    #[cfg(any(
        feature = "wgpu",
        feature = "wgpu-untuned",
        feature = "vulkan",
        feature = "cuda"
    ))]
    if matches!(backend, Backend::Cuda | Backend::Vulkan | Backend::Wgpu) {
        let name = quietly(|| device.identity())
            .flatten()
            .map_or_else(|| "an unnamed GPU".into(), |identity| identity.name);
        return if software {
            format!("{name} {SOFTWARE}")
        } else {
            name
        };
    }
    "CPU".into()
}

#[allow(deprecated, unused_variables)]
fn cpu_device(backend: Backend) -> Option<Device> {
    match backend {
        #[cfg(feature = "flex")]
        Backend::Flex => Some(Device::flex()),
        #[cfg(feature = "ndarray")]
        Backend::NdArray => Some(Device::ndarray()),
        _ => None,
    }
}

/// Whether a device computes on this processor, where work is done when it is asked for and not
/// queued.
pub fn is_processor(device: &Device) -> bool {
    let device = device.clone().without_autodiff();
    Backend::PREFERENCE
        .into_iter()
        .filter_map(cpu_device)
        .any(|processor| processor == device)
}

fn cuda_devices() -> Vec<Device> {
    #[cfg(feature = "cuda")]
    {
        // Without a driver the first look at it panics.
        quietly(|| Device::enumerate(burn::tensor::DeviceType::Cuda).to_vec()).unwrap_or_default()
    }
    #[cfg(not(feature = "cuda"))]
    Vec::new()
}

/// Devices and whether they are software.
#[allow(unused_variables)]
fn wgpu_devices(backend: Backend) -> Vec<(Device, bool)> {
    #[cfg(any(feature = "wgpu", feature = "wgpu-untuned", feature = "vulkan"))]
    {
        use burn::tensor::{DeviceKind, DeviceType};
        let (filter, make): (DeviceType, fn(DeviceKind) -> Device) = match backend {
            #[cfg(feature = "vulkan")]
            Backend::Vulkan => (DeviceType::Vulkan, Device::vulkan),
            #[cfg(any(feature = "wgpu", feature = "wgpu-untuned"))]
            Backend::Wgpu => (DeviceType::Wgpu, Device::wgpu),
            _ => return Vec::new(),
        };
        let found = quietly(|| Device::enumerate(filter).to_vec()).unwrap_or_default();
        let software = make(DeviceKind::Cpu);
        let mut devices: Vec<_> = found
            .into_iter()
            .map(|device| {
                let is_software = device == software;
                (device, is_software)
            })
            .collect();
        devices.sort_by_key(|(_, is_software)| *is_software);
        devices
    }
    #[cfg(not(any(feature = "wgpu", feature = "wgpu-untuned", feature = "vulkan")))]
    Vec::new()
}

/// Runs what may panic for want of a driver, without its message.
pub(crate) fn quietly<T>(look: impl FnOnce() -> T) -> Option<T> {
    contained(look).ok()
}

/// Runs what may panic, and gives what the panic would have said on the standard error stream.
pub(crate) fn contained<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    // The hook is that of the whole process: of two that exchange it at once, the later would put
    // back the silence of the other.
    static HOOK: Mutex<()> = Mutex::new(());
    let _turn = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    panic::set_hook(hook);
    result.map_err(|panic| panic_message(&*panic))
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

/// On a software adapter each candidate kernel takes seconds to try.
fn keep_autotuning_minimal() {
    #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
    {
        use burn::cubecl::config::autotune::AutotuneLevel;
        use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        config.autotune.level = AutotuneLevel::Minimal;
        // What a program set before stays.
        CubeClRuntimeConfig::try_set(config);
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    fn on_machine(devices: &'static [(Backend, bool)]) -> impl Fn(Backend) -> Vec<Found> {
        move |backend| {
            devices
                .iter()
                .filter(|(of, _)| *of == backend)
                .map(|&(backend, software)| Found {
                    backend,
                    device: Device::flex(),
                    name: "a device".into(),
                    software,
                })
                .collect()
        }
    }

    fn chosen(built_in: &'static [Backend], devices: &'static [(Backend, bool)]) -> Backend {
        choose_from(
            None,
            |backend| built_in.contains(&backend),
            on_machine(devices),
        )
        .unwrap()
        .backend
    }

    #[test]
    fn without_a_name_the_first_with_a_real_device_is_taken() {
        use Backend::*;
        const CPUS: &[(Backend, bool)] = &[(Flex, false), (NdArray, false)];
        assert_eq!(chosen(&[Flex], CPUS), Flex);
        assert_eq!(chosen(&[Flex, NdArray], CPUS), NdArray);
        assert_eq!(chosen(&[Flex, Wgpu], &[(Flex, false), (Wgpu, true)]), Flex);
        assert_eq!(chosen(&[Flex, Wgpu], &[(Flex, false), (Wgpu, false)]), Wgpu);
        let all = &[(Flex, false), (Wgpu, false), (Vulkan, false), (Cuda, false)];
        assert_eq!(chosen(&[Flex, Wgpu, Vulkan], all), Vulkan);
        assert_eq!(chosen(&[Flex, Wgpu, Vulkan, Cuda], all), Cuda);
        assert_eq!(chosen(&[Flex, Cuda], CPUS), Flex);
    }

    #[test]
    fn the_reason_names_what_was_passed_over() {
        use Backend::*;
        let devices = on_machine(&[(Flex, false), (Wgpu, true)]);
        let chosen = choose_from(None, |_| true, devices).unwrap();
        assert_eq!(chosen.backend, Flex);
        for part in [
            "cuda, which has no device here",
            "wgpu, which has only a software adapter",
        ] {
            assert!(chosen.reason.contains(part), "{}", chosen.reason);
        }
    }

    #[test]
    fn a_software_adapter_is_taken_by_name() {
        let devices = on_machine(&[(Backend::Wgpu, true)]);
        let chosen = choose_from(Some(Backend::Wgpu), |_| true, devices).unwrap();
        assert_eq!(chosen.backend, Backend::Wgpu);
    }

    #[test]
    fn what_is_missing_is_named() {
        let none = on_machine(&[]);
        let error = choose_from(Some(Backend::Cuda), |_| false, &none).unwrap_err();
        assert!(error.to_string().contains("--features cuda"), "{error}");
        let error = choose_from(Some(Backend::Cuda), |_| true, &none).unwrap_err();
        assert!(error.to_string().contains("NVIDIA"), "{error}");
        assert_eq!(
            choose_from(None, |_| true, &none).unwrap_err(),
            BackendError::None
        );
        let error = "gpu".parse::<Backend>().unwrap_err();
        assert!(error.to_string().contains("cuda, vulkan, wgpu"), "{error}");
    }
}
