//! burn's terminal dashboard: curves and progress of a run on the whole screen.

mod hook;
mod keys;
mod position;

use std::io::{self, IsTerminal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn_train::Interrupter;
use burn_train::logger::TrainingProgressLogger as _;
use burn_train::metric::{
    MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use burn_train::renderer::tui::TuiMetricsRendererWrapper as Screen;
use burn_train::renderer::{MetricState, MetricsRenderer as _, MetricsRendererTraining as _};
use thiserror::Error;

use crate::callback::{Callback, Control, Ending, Plan, StepReport};
use crate::progress::Validation;
use crate::terminal::{count, figures, reason, short};
use hook::Hook;
use position::Position;

/// Shows a run on burn's terminal dashboard. From its start to its end the terminal is the
/// dashboard's; whatever should be read afterwards is told when it is given back, also if the run
/// fails or panics.
///
/// Both ways to quit that the dashboard offers end the run after the step under way, with a
/// validation and a checkpoint: nothing is lost.
pub struct Dashboard {
    loss_unit: String,
    target_unit: String,
    heading: Vec<String>,
    /// What is told when the terminal is given back.
    warnings: Vec<String>,
    plan: Option<Plan>,
    position: Option<Position>,
    interrupter: Interrupter,
    /// Shared with the panic hook, which closes it.
    screen: Arc<Mutex<Option<Screen>>>,
    hook: Option<Hook>,
    /// Whether the user wants an end.
    stop: bool,
    metrics: Vec<Metric>,
}

/// A terminal that cannot hold a dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the dashboard: expected {stream} to be a terminal, found a file or a pipe")]
pub struct NoTerminal {
    /// Which stream is none.
    pub stream: &'static str,
}

impl Dashboard {
    /// A dashboard for a run whose loss is `loss_unit`: `nats per character`. The terminal is
    /// taken when the run starts.
    ///
    /// # Errors
    ///
    /// If the standard input or output is no terminal.
    pub fn try_new(loss_unit: impl Into<String>) -> Result<Self, NoTerminal> {
        check_terminal(io::stdin().is_terminal(), io::stdout().is_terminal())?;
        Ok(Self {
            loss_unit: loss_unit.into(),
            target_unit: "targets".into(),
            heading: Vec::new(),
            warnings: Vec::new(),
            plan: None,
            position: None,
            interrupter: Interrupter::new(),
            screen: Arc::default(),
            hook: None,
            stop: false,
            metrics: Vec::new(),
        })
    }

    /// Says what is counted each second: `characters`.
    pub fn with_target_unit(mut self, unit: impl Into<String>) -> Self {
        self.target_unit = unit.into();
        self
    }

    /// A line to be told before the terminal is taken; it is there again afterwards.
    pub fn with_heading(mut self, line: impl Into<String>) -> Self {
        self.heading.push(line.into());
        self
    }

    /// What the run was going to do, once it has started.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Takes the terminal. `epoch` is the one the run begins in: the time left is reckoned from
    /// there.
    fn open(&mut self, epoch: usize) {
        self.hook = Some(Hook::keep(self.screen.clone()));
        let screen = Screen::new(self.interrupter.clone(), Some(epoch));
        self.screen().replace(screen);
        for name in [LOSS, RATE, NORM] {
            self.register(name);
        }
        let speed = self.speed();
        self.register(&speed);
    }

    /// Gives the terminal back.
    fn close(&mut self) {
        if std::thread::panicking() {
            // The hook has done so, before the panic's message was written.
            return;
        }
        let screen = self.screen().take();
        // This waits for the thread that draws. It panics as `show` may.
        if catch_unwind(AssertUnwindSafe(|| drop(screen))).is_err() {
            self.stop = true;
        }
        if let Some(hook) = self.hook.take() {
            hook.restore();
        }
        for warning in self.warnings.drain(..) {
            eprintln!("warning: {warning}");
        }
    }

    /// Tells the screen something. It panics where the user asked for the program's sudden death:
    /// that is taken for a wish to stop.
    fn show(&mut self, tell: impl FnOnce(&mut Screen)) {
        let mut shared = self.screen();
        let Some(screen) = shared.as_mut() else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| tell(screen))).is_ok() {
            return;
        }
        // The thread that draws has given the terminal back and is gone; to drop what is left
        // would panic once more.
        std::mem::forget(shared.take());
        drop(shared);
        self.stop = true;
        if let Some(hook) = self.hook.take() {
            hook.restore();
        }
        eprintln!("the run ends after this step, with a checkpoint");
    }

    /// The screen, if it is open.
    fn screen(&self) -> MutexGuard<'_, Option<Screen>> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn speed(&self) -> String {
        format!("{}/s", capitalized(&self.target_unit))
    }

    fn register(&mut self, name: &str) {
        let metric = Metric::new(name);
        let definition = metric.definition();
        self.metrics.push(metric);
        self.show(|screen| screen.register_metric(definition));
    }

    /// A number of a metric, in training or in validation, which has its own curve. The other one
    /// gets a step without a point, so that both have the same axis.
    fn push(&mut self, name: &str, validation: bool, value: f64, text: String) {
        if !self.metrics.iter().any(|metric| metric.name == name) {
            self.register(name);
        }
        let Some(metric) = self.metrics.iter_mut().find(|metric| metric.name == name) else {
            return;
        };
        // Its plots have no place for what is not finite.
        let point = value.is_finite().then_some(value);
        let state = metric.state(&text, point);
        if validation {
            metric.last_valid = Some(text);
            self.show(|screen| screen.update_valid(state));
        } else {
            let beside = metric.last_valid.clone();
            let beside = beside.map(|text| metric.state(&text, None));
            self.show(|screen| {
                screen.update_train(state);
                if let Some(beside) = beside {
                    screen.update_valid(beside);
                }
            });
        }
    }
}

impl Callback for Dashboard {
    fn started(&mut self, plan: &Plan) {
        self.plan = Some(plan.clone());
        for line in self.heading.drain(..) {
            eprintln!("{line}");
        }
        // Where a resumed run stands is not known before its first report.
        if plan.resumed_at == 0 {
            self.open(0);
        }
    }

    fn stepped(&mut self, _step: u64) -> Control {
        match self.stop || self.interrupter.should_stop() {
            true => Control::Stop,
            false => Control::Continue,
        }
    }

    fn progressed(&mut self, report: &StepReport) {
        let Some(plan) = self.plan.clone() else {
            return;
        };
        let first = self.position.is_none();
        let position = self
            .position
            .get_or_insert_with(|| Position::new(&plan, report));
        let at = position.of(report);
        if first {
            if self.screen().is_none() && !self.stop {
                self.open(at.epoch);
            }
            let label = format!("loss: {}", self.loss_unit);
            self.show(|screen| {
                screen.start(at.epochs, at.epoch, Some(at.items), Some(&label));
                screen.start_split("train", at.items);
            });
        }
        if self.screen().is_some() {
            keys::let_interrupts_through();
        }
        self.show(|screen| {
            screen.update_epoch(at.epoch);
            screen.update_split(at.item);
        });
        self.push(LOSS, false, report.loss, figures(report.loss));
        let rate = format!("{:.1e}", report.learning_rate);
        self.push(RATE, false, report.learning_rate, rate);
        if let Some(norm) = report.grad_norm {
            self.push(NORM, false, norm, short(norm));
        }
        let (speed, value) = (self.speed(), report.targets_per_second);
        self.push(&speed, false, value, count(value));
    }

    fn validated(&mut self, validation: &Validation, best: bool) {
        let loss = validation.valid.loss;
        let best = if best { "  best" } else { "" };
        self.push(LOSS, true, loss, figures(loss) + best);
        for (name, value) in &validation.valid.metrics {
            self.push(&capitalized(name), true, *value, figures(*value));
        }
    }

    fn warned(&mut self, warning: &str) {
        self.warnings.push(warning.into());
    }

    fn ended(&mut self, ending: Ending) {
        self.close();
        match reason(ending) {
            Some(_) if ending == Ending::Stopped => eprintln!("training ended: it was quit"),
            Some(reason) => eprintln!("training ended: {reason}"),
            None => {}
        }
    }
}

/// A run that failed ends without `ended`.
impl Drop for Dashboard {
    fn drop(&mut self) {
        self.close();
    }
}

const LOSS: &str = "Loss";
const RATE: &str = "Learning rate";
const NORM: &str = "Gradient norm";

struct Metric {
    name: String,
    id: MetricId,
    /// What its last validation said.
    last_valid: Option<String>,
}

impl Metric {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            id: MetricId::new(Arc::new(name.into())),
            last_valid: None,
        }
    }

    fn definition(&self) -> MetricDefinition {
        MetricDefinition {
            metric_id: self.id.clone(),
            name: Arc::new(self.name.clone()),
            description: None,
            attributes: MetricAttributes::Numeric(NumericAttributes::default()),
        }
    }

    fn state(&self, text: &str, value: Option<f64>) -> MetricState {
        let text = SerializedEntry::new(text.into(), text.into());
        let entry = MetricEntry::new(self.id.clone(), text);
        MetricState::Numeric(entry, value.map(NumericEntry::Value))
    }
}

/// Keys are read from one, and the other is drawn on.
fn check_terminal(input: bool, output: bool) -> Result<(), NoTerminal> {
    for (is_terminal, stream) in [(output, "standard output"), (input, "standard input")] {
        if !is_terminal {
            return Err(NoTerminal { stream });
        }
    }
    Ok(())
}

fn capitalized(text: &str) -> String {
    let text = text.replace('_', " ");
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_there_is_no_dashboard() {
        assert_eq!(check_terminal(true, true), Ok(()));
        let error = check_terminal(true, false).unwrap_err();
        assert_eq!(error.stream, "standard output");
        let error = check_terminal(false, true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the dashboard: expected standard input to be a terminal, found a file or a pipe"
        );
    }

    #[test]
    fn names_are_for_people() {
        assert_eq!(capitalized("macro_f1"), "Macro f1");
        assert_eq!(capitalized(""), "");
    }
}
