//! `scratch devices`.

use scratch_train::{Backend, backend};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Output};

/// Lists the backends and their devices.
pub fn run(output: Output) -> Result<(), Failure> {
    let list = List {
        backends: Backend::PREFERENCE.map(Entry::of).into(),
        chosen: backend::choose(None).ok().map(|chosen| Choice {
            backend: chosen.backend.name(),
            device: chosen.name,
            reason: chosen.reason,
        }),
    };
    if output.json {
        return output.object(&list);
    }
    output::text(&list.table());
    Ok(())
}

#[derive(Serialize)]
struct List {
    backends: Vec<Entry>,
    /// What is taken without `--backend`.
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen: Option<Choice>,
}

#[derive(Serialize)]
struct Entry {
    name: &'static str,
    built_in: bool,
    /// The flag that builds it in.
    flag: String,
    devices: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    name: String,
    software: bool,
}

#[derive(Serialize)]
struct Choice {
    backend: &'static str,
    device: String,
    reason: String,
}

impl Entry {
    fn of(backend: Backend) -> Self {
        let devices = backend.devices().into_iter();
        Self {
            name: backend.name(),
            built_in: backend.is_built_in(),
            flag: format!("--features {backend}"),
            devices: devices
                .map(|found| Found {
                    name: found.name,
                    software: found.software,
                })
                .collect(),
        }
    }

    fn devices(&self) -> String {
        let names: Vec<_> = self
            .devices
            .iter()
            .map(|found| match found.software {
                true => format!("{}, used when named", found.name),
                false => found.name.clone(),
            })
            .collect();
        match (self.built_in, names.is_empty()) {
            (false, _) => format!("build with {}", self.flag),
            (true, true) => "no device on this machine".into(),
            (true, false) => names.join("; "),
        }
    }
}

impl List {
    fn table(&self) -> String {
        let mut text = format!("{:9} {:9} devices\n", "backend", "built in");
        for entry in &self.backends {
            let built_in = if entry.built_in { "yes" } else { "no" };
            text += &format!("{:9} {built_in:9} {}\n", entry.name, entry.devices());
        }
        text += &match &self.chosen {
            Some(choice) => format!(
                "\nwithout --backend: {} on {} ({})\n",
                choice.backend, choice.device, choice.reason
            ),
            None => "\nno backend with a device is built in: build with --features flex\n".into(),
        };
        text
    }
}
