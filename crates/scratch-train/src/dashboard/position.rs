//! Where a run is, in the terms of burn's dashboard: an epoch of so many, an item of so many.

use crate::callback::{Plan, StepReport};

/// Counts what the dashboard shows. Its bars and its time left need counts that never fall.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Position {
    measure: Measure,
    /// Epoch and item of the report before.
    last: (usize, usize),
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    /// The epoch under way, from 0.
    pub epoch: usize,
    pub epochs: usize,
    /// Items of it that are done.
    pub item: usize,
    /// Items in all.
    pub items: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Measure {
    /// Windows of epochs.
    Windows { windows: usize, epochs: usize },
    /// Seconds since the run went on here, of those that are left: epochs say nothing then.
    Seconds { from: f64, left: f64 },
}

impl Position {
    /// Of a run with this plan, whose first report this is.
    pub fn new(plan: &Plan, first: &StepReport) -> Self {
        let measure = match plan.max_time {
            Some(most) => {
                let from = if plan.resumed_at == 0 {
                    0.0
                } else {
                    first.seconds
                };
                Measure::Seconds {
                    from,
                    left: most - from,
                }
            }
            None => Measure::Windows {
                windows: plan.windows.max(1),
                epochs: plan.epochs.max(1),
            },
        };
        Self {
            measure,
            last: (0, 0),
        }
    }

    /// Where this report is.
    pub fn of(&mut self, report: &StepReport) -> At {
        let (epoch, item, epochs, items) = match self.measure {
            Measure::Windows { windows, epochs } => {
                let epoch = report.epoch.min(epochs - 1);
                let done = report.progress * epochs as f64 - epoch as f64;
                let item = (done.clamp(0.0, 1.0) * windows as f64).round() as usize;
                (epoch, item, epochs, windows)
            }
            Measure::Seconds { from, left } => {
                let items = left.max(1.0).ceil() as usize;
                let item = (report.seconds - from).max(0.0) as usize;
                (0, item.min(items), 1, items)
            }
        };
        self.last = self.last.max((epoch, item));
        At {
            epoch: self.last.0,
            epochs,
            item: self.last.1,
            items,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(epoch: usize, progress: f64, seconds: f64) -> StepReport {
        StepReport {
            step: 1,
            epoch,
            progress,
            loss: 1.0,
            learning_rate: 1.0,
            grad_norm: None,
            targets_per_second: 1.0,
            seconds,
        }
    }

    fn plan(max_time: Option<f64>, resumed_at: u64) -> Plan {
        Plan {
            windows: 40,
            epochs: 4,
            max_time,
            resumed_at,
        }
    }

    #[test]
    fn epochs_are_counted_in_windows_and_never_fall() {
        let first = report(0, 0.0, 0.0);
        let mut position = Position::new(&plan(None, 0), &first);
        let mut at = |epoch, progress| {
            let at = position.of(&report(epoch, progress, 0.0));
            assert_eq!((at.epochs, at.items), (4, 40));
            (at.epoch, at.item)
        };
        assert_eq!(at(0, 0.125), (0, 20));
        assert_eq!(at(1, 0.25), (1, 0));
        assert_eq!(at(1, 0.5), (1, 40));
        assert_eq!(at(1, 0.4), (1, 40));
        // At the end, and where progress is measured otherwise.
        assert_eq!(at(4, 1.0), (3, 40));
        assert_eq!(at(9, f64::NAN), (3, 40));
    }

    #[test]
    fn a_limit_of_time_is_counted_in_seconds_from_where_the_run_goes_on() {
        let first = report(7, 0.5, 30.0);
        let mut position = Position::new(&plan(Some(60.0), 100), &first);
        let at = position.of(&report(9, 0.7, 42.5));
        assert_eq!((at.epoch, at.epochs, at.item, at.items), (0, 1, 12, 30));
        assert_eq!(position.of(&report(9, 1.2, 99.0)).item, 30);
        let mut whole = Position::new(&plan(Some(60.0), 0), &report(0, 0.1, 6.0));
        assert_eq!(whole.of(&report(0, 0.1, 6.0)).item, 6);
    }
}
