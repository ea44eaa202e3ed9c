//! `scratch resume`.

use scratch_train::tasks::{TaskError, classify, forecast, text};
use scratch_train::terminal::TerminalObserver;
use scratch_train::{ResumeOptions, RunFolder, TrainingConfig};
use serde::Serialize;

use super::{choose_device_and_watch, failed, session, unknown_task};
use crate::args::ResumeArgs;
use crate::failure::Failure;
use crate::output::{Output, note};
use crate::summary::Summary;

/// Goes on with a run from its last checkpoint.
pub fn run(args: &ResumeArgs, output: Output) -> Result<(), Failure> {
    let run = RunFolder::open(&args.run)?;
    let task = run.task()?;
    let (device, mut observer) = choose_device_and_watch(&args.device)?;
    let change = |training: &mut TrainingConfig| {
        training.epochs = args.epochs.unwrap_or(training.epochs);
        training.max_time = args.max_time.or(training.max_time);
    };
    let options = ResumeOptions {
        accept_changes: args.accept_changes,
        fall_back: args.fall_back,
    };
    match task.as_str() {
        forecast::TASK => {
            observer = observer.with_loss_unit(forecast::LOSS);
            let session = session(&device, &mut observer)?.with_resume(options);
            let report = forecast::resume(&run, change, session);
            finish(report, &run, &observer, output, |report| {
                report.training.as_ref()
            })
        }
        text::TASK => {
            observer = observer.with_loss_unit(text::LOSS);
            let session = session(&device, &mut observer)?.with_resume(options);
            let report = text::resume(&run, change, session);
            finish(report, &run, &observer, output, |report| {
                report.training.as_ref()
            })
        }
        classify::TASK => {
            observer = observer.with_loss_unit(classify::LOSS);
            let session = session(&device, &mut observer)?.with_resume(options);
            let report = classify::resume(&run, change, session);
            finish(report, &run, &observer, output, |report| {
                report.training.as_ref()
            })
        }
        other => Err(unknown_task(&run, other)),
    }
}

fn finish<R: Serialize + Summary>(
    report: Result<R, TaskError>,
    run: &RunFolder,
    observer: &TerminalObserver,
    output: Output,
    ended: impl Fn(&R) -> Option<&scratch_train::tasks::Ended>,
) -> Result<(), Failure> {
    let report = report.map_err(|error| failed(&error, run.root(), observer))?;
    let before = observer.plan().map(|plan| plan.resumed_at);
    if ended(&report).map(|ended| ended.steps) == before {
        note("note: nothing was left to do; --epochs or --max-time set new limits");
    }
    output.report(&report)
}
