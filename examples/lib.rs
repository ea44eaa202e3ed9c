//! What the examples share: the command line and where the repository is.
//!
//! Run one with `cargo run --release --example NAME`; a list is in `README.md` beside this file.

use std::error::Error;

use burn::tensor::Device;
use scratch_train::Backend;
use scratch_train::backend;

/// The folder that the examples lie in a folder of, for its texts.
pub const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The device to train on, and the arguments that are not about it.
///
/// Without `--backend NAME` it is the first backend that is built in and has a device here, so
/// that `--features wgpu` is all it takes to train on a GPU. Which one, and why, goes to the
/// standard error stream.
///
/// # Errors
///
/// If the backend is not built in or has no device, or there is another option.
pub fn device_and_arguments() -> Result<(Device, Vec<String>), Box<dyn Error>> {
    let (named, rest) = parse_arguments()?;
    let chosen = backend::choose(named).map_err(|error| error.to_string())?;
    eprintln!("backend: {chosen}");
    Ok((chosen.device, rest))
}

/// The value of `--backend`, and the arguments that are no options.
fn parse_arguments() -> Result<(Option<Backend>, Vec<String>), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(|argument| {
        let not_unicode = |argument| format!("expected an argument in UTF-8, found {argument:?}");
        argument.into_string().map_err(not_unicode)
    });
    let (mut named, mut rest) = (None, Vec::new());
    while let Some(argument) = arguments.next().transpose()? {
        if argument == "--backend" {
            let name = arguments.next().transpose()?;
            let name = name.ok_or("expected a name after `--backend`, found nothing")?;
            named = Some(name.parse::<Backend>().map_err(|error| error.to_string())?);
        } else if argument.starts_with("--") {
            return Err(format!("expected no option but `--backend`, found `{argument}`").into());
        } else {
            rest.push(argument);
        }
    }
    Ok((named, rest))
}
