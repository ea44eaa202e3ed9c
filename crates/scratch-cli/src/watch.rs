//! Who watches a training: lines and a bar, or the whole screen.

use std::path::Path;

use scratch_train::callback::{Saved, SavedStates};
#[cfg(feature = "tui")]
use scratch_train::dashboard::Dashboard;
use scratch_train::progress::Validation;
use scratch_train::terminal::TerminalObserver;
use scratch_train::{Callback, Control, Ending, Plan, StepReport, StepRow, TrainError};

use crate::args::WatchArgs;
use crate::failure::Failure;

/// Watches a training on the terminal.
pub enum Watch {
    /// A progress bar, or lines where there is no terminal.
    Lines(Box<TerminalObserver>),
    /// burn's dashboard.
    #[cfg(feature = "tui")]
    Dashboard(Box<Dashboard>),
}

impl Watch {
    /// As the flags say. `loss` is what the loss is, `targets` what is learned from.
    pub fn new(args: &WatchArgs, loss: &str, targets: &str) -> Result<Self, Failure> {
        if args.tui {
            return dashboard(loss, targets);
        }
        let observer = TerminalObserver::new()
            .with_loss_unit(loss)
            .with_target_unit(targets);
        Ok(Self::Lines(Box::new(observer)))
    }

    /// A line to begin with.
    pub fn with_heading(self, line: impl Into<String>) -> Self {
        match self {
            Self::Lines(observer) => Self::Lines(Box::new(observer.with_heading(line))),
            #[cfg(feature = "tui")]
            Self::Dashboard(dashboard) => Self::Dashboard(Box::new(dashboard.with_heading(line))),
        }
    }

    /// What the run was going to do, once it has started.
    pub fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Lines(observer) => observer.plan(),
            #[cfg(feature = "tui")]
            Self::Dashboard(dashboard) => dashboard.plan(),
        }
    }

    fn inner(&mut self) -> &mut dyn Callback {
        match self {
            Self::Lines(observer) => &mut **observer,
            #[cfg(feature = "tui")]
            Self::Dashboard(dashboard) => &mut **dashboard,
        }
    }
}

impl Callback for Watch {
    fn started(&mut self, plan: &Plan) {
        self.inner().started(plan);
    }

    fn stepped(&mut self, step: u64) -> Control {
        self.inner().stepped(step)
    }

    fn logged(&mut self, row: &StepRow) {
        self.inner().logged(row);
    }

    fn progressed(&mut self, report: &StepReport) {
        self.inner().progressed(report);
    }

    fn validated(&mut self, validation: &Validation, best: bool) {
        self.inner().validated(validation, best);
    }

    fn saved(&mut self, folder: &Path) {
        self.inner().saved(folder);
    }

    fn warned(&mut self, warning: &str) {
        self.inner().warned(warning);
    }

    fn ended(&mut self, ending: Ending) {
        self.inner().ended(ending);
    }

    fn save(&mut self) -> Result<Option<Saved>, TrainError> {
        self.inner().save()
    }

    fn load(&mut self, saved: &SavedStates) -> Result<(), TrainError> {
        self.inner().load(saved)
    }
}

#[cfg(feature = "tui")]
fn dashboard(loss: &str, targets: &str) -> Result<Watch, Failure> {
    let dashboard = Dashboard::try_new(loss).map_err(|error| {
        Failure::input(error.to_string(), "run it in a terminal, or without --tui")
    })?;
    let dashboard = dashboard.with_target_unit(targets);
    Ok(Watch::Dashboard(Box::new(dashboard)))
}

#[cfg(not(feature = "tui"))]
fn dashboard(_loss: &str, _targets: &str) -> Result<Watch, Failure> {
    Err(Failure::input(
        "--tui: the dashboard is not built in",
        "cargo run --release --features tui -- ...",
    ))
}
