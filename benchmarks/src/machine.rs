//! The machine that the numbers belong to.

use std::fs;
use std::thread;

/// Number of cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Cores, processor and its vector extensions: `2 cores, AMD EPYC (avx2, fma)`.
pub fn describe() -> String {
    let extensions = vector_extensions();
    let extensions = if extensions.is_empty() {
        "no vector extensions".into()
    } else {
        extensions.join(", ")
    };
    let cores = count(cores(), "core");
    format!("{cores}, {} ({extensions})", cpu_model())
}

/// A number with its noun: `1 core`, `2 cores`.
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// The version of burn that was built in, from the lock file.
pub fn burn_version() -> &'static str {
    const LOCK: &str = include_str!("../../Cargo.lock");
    locked_version(LOCK, "burn").unwrap_or("of unknown version")
}

fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let version = lock.lines().skip_while(|line| *line != name).nth(1)?;
    version.strip_prefix("version = \"")?.strip_suffix('"')
}

/// Linux names the processor; elsewhere the architecture has to do.
fn cpu_model() -> String {
    fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| field(&text, "model name"))
        .unwrap_or_else(|| std::env::consts::ARCH.into())
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().into())
}

/// Those that matter to matrix products.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn vector_extensions() -> Vec<&'static str> {
    let found = [
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    found
        .into_iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| name)
        .collect()
}

/// Those that matter to matrix products.
#[cfg(target_arch = "aarch64")]
fn vector_extensions() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected;
    let found = [
        ("neon", is_aarch64_feature_detected!("neon")),
        ("sve", is_aarch64_feature_detected!("sve")),
    ];
    found
        .into_iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| name)
        .collect()
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn vector_extensions() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_has_the_version() {
        let lock = "[[package]]\nname = \"burn-core\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"burn\"\nversion = \"0.22.1\"\nsource = \"x\"\n";
        assert_eq!(locked_version(lock, "burn"), Some("0.22.1"));
        assert_eq!(locked_version(lock, "candle"), None);
        assert!(burn_version().starts_with("0."));
    }

    #[test]
    fn a_field_of_cpuinfo() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: a b\n\nmodel name\t: x\n";
        assert_eq!(field(text, "model name").as_deref(), Some("AMD EPYC"));
        assert_eq!(field(text, "Model"), None);
    }
}
