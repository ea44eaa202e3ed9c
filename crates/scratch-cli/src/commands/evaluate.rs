//! `scratch evaluate`.

use scratch_train::RunFolder;
use scratch_train::tasks::{TaskError, classify, forecast, text};

use super::{choose_device, unknown_task};
use crate::args::EvaluateArgs;
use crate::failure::{Failure, Phase};
use crate::output::Output;

/// Scores the best model of a run.
pub fn run(args: &EvaluateArgs, output: Output) -> Result<(), Failure> {
    let run = RunFolder::open(&args.run)?;
    let task = run.task()?;
    let device = choose_device(&args.device)?;
    let failed = |error: TaskError| Failure::task(&error, Phase::Preparing).of_run(run.root());
    match task.as_str() {
        forecast::TASK => output.report(&forecast::evaluate(&run, &device).map_err(failed)?),
        text::TASK => output.report(&text::evaluate(&run, &device).map_err(failed)?),
        classify::TASK => output.report(&classify::evaluate(&run, &device).map_err(failed)?),
        other => Err(unknown_task(&run, other)),
    }
}
