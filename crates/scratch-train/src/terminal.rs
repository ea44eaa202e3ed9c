//! Watching a run on a terminal, or as lines of text where there is none.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::callback::{Callback, Ending, Plan, StepReport, StepRow};
use crate::progress::Validation;

/// Tells of a run on the standard error stream: a progress bar and a line for each validation on a
/// terminal, otherwise a line for each validation and at most one every few seconds between them.
pub struct TerminalObserver {
    output: Output,
    heading: Vec<String>,
    loss_unit: Option<String>,
    target_unit: String,
    plan: Option<Plan>,
    /// Steps skipped so far.
    skipped: u64,
    /// Where the time left is reckoned from.
    from: Option<(Instant, f64)>,
    last_line: Instant,
}

impl TerminalObserver {
    /// A progress bar if the standard error stream is a terminal, lines otherwise.
    pub fn new() -> Self {
        if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(BAR_TICKS), ProgressDrawTarget::stderr());
            Self::with_output(Output::Bar(bar))
        } else {
            Self::lines(io::stderr())
        }
    }

    /// Lines, written to `sink`. What cannot be written is left out.
    pub fn lines(sink: impl Write + 'static) -> Self {
        Self::with_output(Output::Lines(Box::new(sink)))
    }

    /// A line to begin with. It is held back until the training starts: until then something can
    /// be wrong with the data, and there is nothing to tell.
    pub fn with_heading(mut self, line: impl Into<String>) -> Self {
        self.heading.push(line.into());
        self
    }

    /// Says what the loss is: `nats per character`.
    pub fn with_loss_unit(mut self, unit: impl Into<String>) -> Self {
        self.loss_unit = Some(unit.into());
        self
    }

    /// Says what is counted each second: `characters`.
    pub fn with_target_unit(mut self, unit: impl Into<String>) -> Self {
        self.target_unit = unit.into();
        self
    }

    /// What the run was going to do, once it has started.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    fn with_output(output: Output) -> Self {
        Self {
            output,
            heading: Vec::new(),
            loss_unit: None,
            target_unit: "targets".into(),
            plan: None,
            skipped: 0,
            from: None,
            last_line: Instant::now(),
        }
    }

    /// `3/25`, or `3` where time is the limit. Lines count the epochs that are done, as
    /// `metrics.csv` does; the bar the one under way.
    fn epoch(&self, epoch: usize) -> String {
        match &self.plan {
            Some(plan) if plan.max_time.is_none() => {
                let width = plan.epochs.to_string().len();
                format!("{epoch:>width$}/{}", plan.epochs)
            }
            _ => epoch.to_string(),
        }
    }

    /// What is worth knowing about the last steps.
    fn numbers(&self, report: &StepReport) -> String {
        let mut numbers = format!(
            "loss {}  lr {:.1e}",
            figures(report.loss),
            report.learning_rate
        );
        if let Some(norm) = report.grad_norm {
            numbers += &format!("  grad {}", short(norm));
        }
        numbers += &format!(
            "  {} {}/s",
            count(report.targets_per_second),
            self.target_unit
        );
        if self.skipped > 0 {
            numbers += &format!("  {} skipped", self.skipped);
        }
        numbers
    }

    /// Seconds until the end, by the share of the run that was done since it started here.
    fn seconds_left(&mut self, progress: f64) -> Option<f64> {
        let (since, share) = *self.from.get_or_insert((Instant::now(), progress));
        let done = progress - share;
        (done > 0.0).then(|| since.elapsed().as_secs_f64() * (1.0 - progress).max(0.0) / done)
    }
}

impl Default for TerminalObserver {
    fn default() -> Self {
        Self::new()
    }
}

impl Callback for TerminalObserver {
    fn started(&mut self, plan: &Plan) {
        self.plan = Some(plan.clone());
        // Where a resumed run stands is not known before its first report.
        self.from = (plan.resumed_at == 0).then(|| (Instant::now(), 0.0));
        self.last_line = Instant::now();
        for line in std::mem::take(&mut self.heading) {
            self.output.line(&line);
        }
        let mut line = String::from(if plan.resumed_at == 0 {
            "training"
        } else {
            "going on"
        });
        if plan.resumed_at > 0 {
            line += &format!(" after step {}", plan.resumed_at);
        }
        line += &format!(": {} windows an epoch", plan.windows);
        line += &match plan.max_time {
            Some(seconds) => format!(", {} at most", duration(seconds)),
            None if plan.epochs == 1 => ", 1 epoch".into(),
            None => format!(", {} epochs", plan.epochs),
        };
        if let Some(unit) = &self.loss_unit {
            line += &format!("; the loss is {unit}");
        }
        self.output.line(&line);
        if let Output::Bar(bar) = &self.output {
            bar.set_style(bar_style());
            bar.set_message("first steps");
            // Moves while a GPU's kernels are compiled, which can take long.
            bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    /// How many steps were skipped is in these rows only; the next report shows it.
    fn logged(&mut self, row: &StepRow) {
        self.skipped = row.skipped;
    }

    fn progressed(&mut self, report: &StepReport) {
        let left = self.seconds_left(report.progress);
        let left = left.map(|left| format!("  {} left", duration(left)));
        let left = left.unwrap_or_default();
        let (done, under_way) = (self.epoch(report.epoch), self.epoch(report.epoch + 1));
        let numbers = self.numbers(report);
        let percent = 100.0 * report.progress.clamp(0.0, 1.0);
        match &mut self.output {
            Output::Bar(bar) => {
                bar.set_position((percent / 100.0 * BAR_TICKS as f64) as u64);
                bar.set_prefix(format!("epoch {under_way}"));
                bar.set_message(numbers + &left);
            }
            Output::Lines(_) if self.last_line.elapsed() >= BETWEEN_LINES => {
                let line = format!(
                    "step {:>6}  epoch {done}  {percent:.0}%  {numbers}{left}",
                    report.step
                );
                self.output.line(&line);
                self.last_line = Instant::now();
            }
            Output::Lines(_) => {}
        }
    }

    fn validated(&mut self, validation: &Validation, best: bool) {
        let mut line = format!(
            "step {:>6}  epoch {}  train {}  valid {}",
            validation.step,
            self.epoch(validation.epoch),
            figures(validation.train_loss),
            figures(validation.valid.loss)
        );
        for (name, value) in &validation.valid.metrics {
            line += &format!("  {name} {}", figures(*value));
        }
        if best {
            line += "  best";
        }
        self.output.line(&line);
        self.last_line = Instant::now();
    }

    fn warned(&mut self, warning: &str) {
        self.output.line(&format!("warning: {warning}"));
    }

    fn ended(&mut self, ending: Ending) {
        self.output.finish();
        if let Some(reason) = reason(ending) {
            self.output.line(&format!("training ended: {reason}"));
        }
    }
}

/// A run that failed ends without `ended`.
impl Drop for TerminalObserver {
    fn drop(&mut self) {
        self.output.finish();
    }
}

enum Output {
    Bar(ProgressBar),
    Lines(Box<dyn Write>),
}

impl Output {
    fn line(&mut self, line: &str) {
        match self {
            // Above the bar; a finished one prints nothing.
            Self::Bar(bar) if !bar.is_finished() => bar.println(line),
            Self::Bar(_) => write_line(&mut io::stderr(), line),
            Self::Lines(sink) => write_line(sink, line),
        }
    }

    fn finish(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// The run does not end because nobody listens.
fn write_line(sink: &mut dyn Write, line: &str) {
    let _ = writeln!(sink, "{line}");
}

const BAR_TICKS: u64 = 1000;

const BETWEEN_LINES: Duration = Duration::from_secs(5);

fn bar_style() -> ProgressStyle {
    // The numbers have a line of their own: beside them the bar of a terminal of 80 columns would
    // have no room.
    let template = "{spinner} {prefix} [{wide_bar}] {percent:>3}%\n  {msg}";
    // The default has another form, but it moves, too.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .tick_chars("|/-\\ ")
}

/// Why a run is over. Of a signal nothing is said: whoever caught it says how the run can go on.
pub(crate) fn reason(ending: Ending) -> Option<&'static str> {
    match ending {
        Ending::Finished => Some("all epochs are done"),
        Ending::OutOfTime => Some("time is up"),
        Ending::NoGain => Some("validations stopped getting better"),
        Ending::Stopped => Some("a callback asked for it"),
        Ending::Interrupted(_) => None,
    }
}

/// `0.1234`, and `1.23e-4` where four decimals would say little.
pub(crate) fn figures(number: f64) -> String {
    if number != 0.0 && !(0.01..1e5).contains(&number.abs()) {
        format!("{number:.2e}")
    } else {
        format!("{number:.4}")
    }
}

/// Two figures of a number of any size: `0.51`, `12`, `3.4e-5`.
pub(crate) fn short(number: f64) -> String {
    match number.abs() {
        0.0 => "0".into(),
        n if (0.01..10.0).contains(&n) => format!("{number:.2}"),
        n if (10.0..1e4).contains(&n) => format!("{number:.0}"),
        _ => format!("{number:.1e}"),
    }
}

/// `950`, `12.3k`, `4.0M`.
pub(crate) fn count(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n if n >= 1e3 => format!("{:.1}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// `0.4s`, `45s`, `3m05s`, `2h00m`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 0.95 {
        return format!("{seconds:.1}s");
    }
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::evaluate::Evaluation;

    #[derive(Clone, Default)]
    struct Sink(Rc<RefCell<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn report(step: u64, progress: f64) -> StepReport {
        StepReport {
            step,
            epoch: 0,
            progress,
            loss: 0.5,
            learning_rate: 2e-3,
            grad_norm: Some(0.512),
            targets_per_second: 12_345.0,
            seconds: 1.0,
        }
    }

    #[test]
    fn without_a_terminal_there_are_few_lines() {
        let sink = Sink::default();
        let mut observer = TerminalObserver::lines(sink.clone())
            .with_heading("run: here")
            .with_loss_unit("nats")
            .with_target_unit("characters");
        observer.started(&Plan {
            windows: 10,
            epochs: 12,
            max_time: None,
            resumed_at: 0,
        });
        for step in 1..50 {
            observer.progressed(&report(step, step as f64 / 100.0));
        }
        // As if five seconds had gone by.
        observer.last_line -= BETWEEN_LINES;
        observer.logged(&StepRow {
            step: 50,
            epoch: 0,
            loss: 0.5,
            learning_rate: 2e-3,
            grad_norm: None,
            skipped: 2,
        });
        observer.progressed(&report(50, 0.5));
        let metrics = [("accuracy".to_string(), 0.75)].into_iter().collect();
        observer.validated(
            &Validation {
                step: 60,
                epoch: 6,
                train_loss: 0.25,
                valid: Evaluation { loss: 0.5, metrics },
            },
            true,
        );
        observer.ended(Ending::Finished);
        drop(observer);
        let text = String::from_utf8(sink.0.take()).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("run: here"));
        let lines: Vec<_> = lines.collect();
        assert_eq!(
            lines[0],
            "training: 10 windows an epoch, 12 epochs; the loss is nats"
        );
        let expected = "step     50  epoch  0/12  50%  loss 0.5000  lr 2.0e-3  grad 0.51  \
                        12.3k characters/s  2 skipped  ";
        assert!(lines[1].starts_with(expected), "{}", lines[1]);
        assert!(lines[1].ends_with(" left"), "{}", lines[1]);
        assert_eq!(
            lines[2],
            "step     60  epoch  6/12  train 0.2500  valid 0.5000  accuracy 0.7500  best"
        );
        assert_eq!(lines[3..], ["training ended: all epochs are done"]);
    }

    #[test]
    fn warnings_are_shown_and_an_interruption_is_left_to_others() {
        let sink = Sink::default();
        let mut observer = TerminalObserver::lines(sink.clone());
        observer.warned("the disk is full");
        observer.ended(Ending::Interrupted(2));
        drop(observer);
        let text = String::from_utf8(sink.0.take()).unwrap();
        assert_eq!(text, "warning: the disk is full\n");
    }

    #[test]
    fn the_time_left_of_a_resumed_run_counts_from_where_it_went_on() {
        let mut observer = TerminalObserver::lines(Sink::default());
        observer.started(&Plan {
            windows: 10,
            epochs: 10,
            max_time: None,
            resumed_at: 80,
        });
        assert_eq!(observer.seconds_left(0.8), None);
        observer.from = Some((Instant::now() - Duration::from_secs(10), 0.8));
        // A tenth took ten seconds, and a tenth is left.
        let left = observer.seconds_left(0.9).unwrap();
        assert!((left - 10.0).abs() < 0.5, "{left}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.12345, 1.234e-4, 0.0, -2e6].map(figures),
            ["0.1235", "1.23e-4", "0.0000", "-2.00e6"].map(String::from)
        );
        assert_eq!(
            [0.0, 0.512, 12.4, -3.4e-5, 2e6].map(short),
            ["0", "0.51", "12", "-3.4e-5", "2.0e6"].map(String::from)
        );
        assert_eq!(
            [950.4, 12_345.0, 4e6].map(count),
            ["950", "12.3k", "4.0M"].map(String::from)
        );
        assert_eq!(
            [0.42, 0.97, 45.2, 185.0, 7200.0].map(duration),
            ["0.4s", "1s", "45s", "3m05s", "2h00m"].map(String::from)
        );
    }
}
