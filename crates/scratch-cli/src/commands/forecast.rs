//! `scratch forecast`.

use std::path::Path;

use scratch_train::RunFolder;
use scratch_train::tasks::forecast::{self, Ahead};
use serde::Serialize;

use super::choose_device;
use crate::args::AheadArgs;
use crate::failure::{Failure, Phase};
use crate::output::{self, Output};

/// Forecasts what comes after the end of a run's data.
pub fn run(args: &AheadArgs, output: Output) -> Result<(), Failure> {
    let run = RunFolder::open(&args.run)?;
    let device = choose_device(&args.device)?;
    let ahead = forecast::forecast(&run, &device, args.horizon)
        .map_err(|error| Failure::task(&error, Phase::Preparing).of_run(run.root()))?;
    if output.json {
        return output.object(&Answer {
            run: run.root(),
            horizon: args.horizon,
            ahead: &ahead,
        });
    }
    output::text(&csv(&ahead)?);
    Ok(())
}

#[derive(Serialize)]
struct Answer<'a> {
    run: &'a Path,
    horizon: usize,
    #[serde(flatten)]
    ahead: &'a Ahead,
}

fn csv(ahead: &Ahead) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let step = std::iter::once("step".to_string());
    let header = step.chain(ahead.columns.iter().cloned());
    let mut written = writer.write_record(header);
    for (row, values) in ahead.values.iter().enumerate() {
        let step = std::iter::once((row + 1).to_string());
        let record = step.chain(values.iter().map(|&value| figures(value)));
        written = written.and_then(|()| writer.write_record(record));
    }
    let bytes = written
        .map_err(|error| error.to_string())
        .and_then(|()| writer.into_inner().map_err(|error| error.to_string()));
    match bytes {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(Failure::running(error, "try --json")),
    }
}

/// As many figures as the model's 32 bits hold.
fn figures(value: f64) -> String {
    let rounded = value as f32;
    if rounded.is_finite() {
        rounded.to_string()
    } else {
        value.to_string()
    }
}
