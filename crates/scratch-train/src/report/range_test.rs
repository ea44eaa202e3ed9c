//! Loss by learning rate.

use plotters::prelude::*;

use super::canvas::{
    Axis, BLUE, Entry, HEADINGS, VERMILION, chart, headings, legend, px, sheet, stroke,
};
use super::points::padded;
use super::{ReportError, ticks};
use crate::range_test::{RangePoint, RangeTest};

/// The curve of a range test, with the learning rate it suggests.
#[derive(Debug, Clone, Copy)]
pub struct RangePlot<'a> {
    /// What was trained.
    pub title: &'a str,
    /// What the loss is, with its unit.
    pub y_axis: &'a str,
    /// What was found.
    pub test: &'a RangeTest,
}

impl RangePlot<'_> {
    /// The plot as an SVG file; learning rates are on a logarithmic axis. What is far above
    /// the losses before the lowest is cut off: an explosion would hide the fall.
    ///
    /// # Errors
    ///
    /// If the test has no points, or the drawing fails.
    pub fn to_svg(&self) -> Result<String, ReportError> {
        let points = &self.test.points;
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return Err(ReportError::Nothing {
                plot: "range plot",
                expected: "steps of a range test",
            });
        };
        let (low, high) = extent(points);
        let (low, high) = padded(low, high);
        let y = Axis {
            name: self.y_axis.into(),
            low,
            high,
            marks: ticks::linear(low, high, 7),
        };
        let left = first.learning_rate.log10();
        // One point alone still has an axis.
        let right = last.learning_rate.log10().max(left + 0.1);
        let x = Axis {
            name: "learning rate (log scale)".into(),
            low: left,
            high: right,
            marks: ticks::logarithmic(left, right),
        };
        let results = match self.test.suggestion {
            Some(rate) => {
                format!("suggested learning rate {rate:.1e}: the loss falls fastest there")
            }
            None => "the loss does not fall: no learning rate is suggested".into(),
        };
        sheet((1000, 560), |root| {
            headings(root, self.title, &results)?;
            let entry = |name: &str, style| Entry {
                name: name.into(),
                style,
                points: false,
            };
            let entries = [
                entry("each step", single_style()),
                entry("smoothed", smoothed_style()),
                entry("suggestion", suggestion_style()),
            ];
            let shown = match self.test.suggestion {
                Some(_) => &entries[..],
                None => &entries[..2],
            };
            legend(root, shown, (84, HEADINGS + 14))?;
            let (_, area) = root.split_vertically(px(HEADINGS + 26));
            let mut plane = chart(&area, x, y)?;
            let line = |loss: fn(&RangePoint) -> f64| {
                let at = move |point| (f64::log10(rate_of(point)), loss(point).clamp(low, high));
                points.iter().map(at)
            };
            plane.draw_series(LineSeries::new(line(|point| point.loss), single_style()))?;
            plane.draw_series(LineSeries::new(
                line(|point| point.smoothed),
                smoothed_style(),
            ))?;
            if let Some(rate) = self.test.suggestion {
                let line = [(rate.log10(), low), (rate.log10(), high)];
                plane.draw_series(LineSeries::new(line, suggestion_style()))?;
            }
            Ok(())
        })
    }
}

/// The lowest loss, and the highest that is to be seen.
fn extent(points: &[RangePoint]) -> (f64, f64) {
    let highest = |points: &[RangePoint]| {
        let smoothed = points.iter().map(|point| point.smoothed);
        smoothed.fold(f64::NEG_INFINITY, f64::max)
    };
    let losses = points.iter().map(|point| point.loss.min(point.smoothed));
    let low = losses.fold(f64::INFINITY, f64::min);
    let by_smoothed = |a: &&RangePoint, b: &&RangePoint| a.smoothed.total_cmp(&b.smoothed);
    let lowest = points.iter().min_by(by_smoothed);
    let falls = points
        .iter()
        .take_while(|&point| Some(point) != lowest)
        .count();
    let (before, all) = (highest(&points[..falls]), highest(points));
    if falls == 0 {
        return (low, all);
    }
    (low, all.min(before + (before - low)))
}

fn rate_of(point: &RangePoint) -> f64 {
    point.learning_rate
}

fn single_style() -> ShapeStyle {
    stroke(BLUE.mix(0.45), 10)
}

fn smoothed_style() -> ShapeStyle {
    stroke(BLUE, 20)
}

fn suggestion_style() -> ShapeStyle {
    stroke(VERMILION, 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(count: i32, suggestion: Option<f64>) -> RangeTest {
        let points = (0..count).map(|step| {
            let learning_rate = 1e-5 * 10f64.powf(f64::from(step) / 10.0);
            let loss = 3.0 - f64::from(step) * 0.05;
            RangePoint {
                learning_rate,
                loss: loss * if step == 4 { 1e9 } else { 1.0 },
                smoothed: loss,
            }
        });
        RangeTest {
            points: points.collect(),
            exploded: false,
            suggestion,
        }
    }

    fn svg(test: &RangeTest) -> Result<String, ReportError> {
        RangePlot {
            title: "Sunspots",
            y_axis: "mean squared error",
            test,
        }
        .to_svg()
    }

    #[test]
    fn the_suggestion_is_drawn_and_named() {
        let with = svg(&test(31, Some(1e-3))).unwrap();
        assert!(with.contains("suggested learning rate 1.0e-3") && with.contains("0.001"));
        assert!(with.contains("(log scale)") && with.contains("suggestion"));
        let without = svg(&test(31, None)).unwrap();
        assert!(without.contains("no learning rate is suggested"));
        assert!(without.len() < with.len());
    }

    /// Losses from 3 down to 1.5 and then a thousand: seen is as much again above as they fall.
    #[test]
    fn an_explosion_is_cut_off() {
        let mut exploded = test(31, None);
        let last = exploded.points[30];
        exploded.points.push(RangePoint {
            loss: 1000.0,
            smoothed: 1000.0,
            ..last
        });
        assert_eq!(extent(&exploded.points), (1.5, 4.5));
        assert!(svg(&exploded).unwrap().contains("4.5"));
        assert_eq!(extent(&exploded.points[30..]), (1.5, 1000.0));
    }

    #[test]
    fn one_point_is_enough_and_none_is_an_error() {
        assert!(svg(&test(1, None)).is_ok());
        let error = svg(&test(0, None)).unwrap_err();
        assert!(error.to_string().contains("range plot"));
    }
}
