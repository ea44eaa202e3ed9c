//! `scratch resume`.

use scratch_train::models::LstmSettings;
use scratch_train::tasks::{Ended, Session, TaskError, classify, forecast, text};
use scratch_train::{ResumeOptions, RunFolder, TrainingConfig};
use serde::Serialize;

use super::{choose_device_to_train, failed, session, unknown_task};
use crate::args::ResumeArgs;
use crate::failure::Failure;
use crate::output::{Output, note};
use crate::summary::Summary;
use crate::watch::Watch;

/// Goes on with a run from its last checkpoint.
pub fn run(args: &ResumeArgs, output: Output) -> Result<(), Failure> {
    let run = RunFolder::open(&args.run)?;
    let task = run.task()?;
    let change = |training: &mut TrainingConfig| {
        training.epochs = args.epochs.unwrap_or(training.epochs);
        training.max_time = args.max_time.or(training.max_time);
    };
    let resumption = Resumption { args, run: &run };
    match task.as_str() {
        forecast::TASK => {
            let model = run
                .config::<forecast::ForecastConfig>(forecast::TASK)?
                .model;
            resumption.go(
                (&model.lstm, model.d_hidden),
                (forecast::LOSS, forecast::TARGETS),
                |session| forecast::resume(&run, change, session),
                |report| report.training.as_ref(),
                output,
            )
        }
        text::TASK => {
            let model = run.config::<text::TextConfig>(text::TASK)?.model;
            resumption.go(
                (&model.lstm, model.d_hidden),
                (text::LOSS, text::TARGETS),
                |session| text::resume(&run, change, session),
                |report| report.training.as_ref(),
                output,
            )
        }
        classify::TASK => {
            let model = run
                .config::<classify::ClassifyConfig>(classify::TASK)?
                .model;
            resumption.go(
                (&model.lstm, model.d_hidden),
                (classify::LOSS, classify::TARGETS),
                |session| classify::resume(&run, change, session),
                |report| report.training.as_ref(),
                output,
            )
        }
        other => Err(unknown_task(&run, other)),
    }
}

/// A resumption whatever the task.
struct Resumption<'a> {
    args: &'a ResumeArgs,
    run: &'a RunFolder,
}

impl Resumption<'_> {
    fn go<R: Serialize + Summary>(
        &self,
        lstm: (&LstmSettings, usize),
        (loss, targets): (&str, &str),
        resume: impl FnOnce(Session<'_>) -> Result<R, TaskError>,
        ended: impl FnOnce(&R) -> Option<&Ended>,
        output: Output,
    ) -> Result<(), Failure> {
        let args = self.args;
        let (device, lines) = choose_device_to_train(&args.device, lstm)?;
        let mut watch = Watch::new(&args.watch, loss, targets)?;
        for line in lines {
            watch = watch.with_heading(line);
        }
        let options = ResumeOptions {
            accept_changes: args.accept_changes,
            fall_back: args.fall_back,
        };
        let session = session(&device, &mut watch, &args.watch, self.run.root())?;
        let report = resume(session.with_resume(options))
            .map_err(|error| failed(&error, self.run.root(), &watch))?;
        let before = watch.plan().map(|plan| plan.resumed_at);
        match ended(&report) {
            Some(ended) if Some(ended.steps) == before => note(nothing_left(&ended.ending)),
            _ => {}
        }
        output.report(&report)
    }
}

/// How a run that is over can be gone on with.
fn nothing_left(ending: &str) -> &'static str {
    match ending {
        "no_gain" => {
            "note: nothing was left to do: validations stopped getting better; a higher `patience` \
             in config.toml lets the run go on"
        }
        "out_of_time" => "note: nothing was left to do: time is up; --max-time sets a new limit",
        _ => "note: nothing was left to do: all epochs are done; --epochs sets a new limit",
    }
}
