//! Loss over a run.

use plotters::prelude::*;

use super::canvas::{
    Axis, BLUE, Entry, HEADINGS, VERMILION, chart, headings, legend, px, sheet, stroke,
};
use super::points::{averaged, padded};
use super::{ReportError, ticks};

/// The losses of a run by optimizer step.
#[derive(Debug, Clone, Copy)]
pub struct LossPlot<'a> {
    /// What was trained.
    pub title: &'a str,
    /// What the loss is, with its unit.
    pub y_axis: &'a str,
    /// On the training part.
    pub train: &'a [LossPoint],
    /// On the validation part.
    pub valid: &'a [LossPoint],
}

/// A step and the loss after it.
pub type LossPoint = (u64, f64);

impl LossPlot<'_> {
    /// The plot as an SVG file. Losses that are no finite numbers are left out; the axis is
    /// logarithmic if all are positive and the highest is more than ten times the lowest.
    ///
    /// # Errors
    ///
    /// If there are no finite losses, or the drawing fails.
    pub fn to_svg(&self) -> Result<String, ReportError> {
        let (train, valid) = (finite(self.train), finite(self.valid));
        let losses = || train.iter().chain(&valid).map(|&(_, loss)| loss);
        let low = losses().fold(f64::INFINITY, f64::min);
        let high = losses().fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            return Err(ReportError::Nothing {
                plot: "loss plot",
                expected: "finite losses",
            });
        }
        let logarithmic = low > 0.0 && high > 10.0 * low;
        let scaled = |loss: f64| if logarithmic { loss.log10() } else { loss };
        let (low, high) = padded(scaled(low), scaled(high));
        let (name, marks) = if logarithmic {
            let name = format!("{} (log scale)", self.y_axis);
            (name, ticks::logarithmic(low, high))
        } else {
            (self.y_axis.to_string(), ticks::linear(low, high, 7))
        };
        let y = Axis {
            name,
            low,
            high,
            marks,
        };
        let steps = train.iter().chain(&valid).map(|&(step, _)| step);
        let last = steps.fold(1.0, f64::max);
        let x = Axis {
            name: "optimizer step".into(),
            low: 0.0,
            high: last,
            marks: ticks::linear(0.0, last, 8),
        };

        let best = valid.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
        let results = match best {
            Some((step, loss)) => format!("best validation loss {loss:.4} after {step} steps"),
            None => "not validated".into(),
        };
        sheet((1000, 560), |root| {
            headings(root, self.title, &results)?;
            let entries = [
                ("training", train_style(), false),
                ("validation", valid_style(), true),
            ];
            let entries = entries.map(|(name, style, points)| Entry {
                name: name.into(),
                style,
                points,
            });
            legend(root, &entries, (84, HEADINGS + 14))?;
            let (_, area) = root.split_vertically(px(HEADINGS + 26));
            let mut plane = chart(&area, x, y)?;
            let line = |points: &[(f64, f64)]| -> Vec<_> {
                let points = averaged(points, MOST_POINTS).into_iter();
                points.map(|(step, loss)| (step, scaled(loss))).collect()
            };
            plane.draw_series(LineSeries::new(line(&train), train_style()))?;
            let valid = line(&valid);
            plane.draw_series(LineSeries::new(valid.clone(), valid_style()))?;
            // More points would hide the line.
            if valid.len() <= 60 {
                let point = |at| Circle::new(at, px(3), valid_style().filled());
                plane.draw_series(valid.into_iter().map(point))?;
            }
            Ok(())
        })
    }
}

/// More points cannot be seen.
const MOST_POINTS: usize = 2000;

fn train_style() -> ShapeStyle {
    stroke(BLUE, 14)
}

fn valid_style() -> ShapeStyle {
    stroke(VERMILION, 18)
}

fn finite(points: &[LossPoint]) -> Vec<(f64, f64)> {
    let points = points.iter().filter(|(_, loss)| loss.is_finite());
    points.map(|&(step, loss)| (step as f64, loss)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot<'a>(train: &'a [LossPoint], valid: &'a [LossPoint]) -> LossPlot<'a> {
        LossPlot {
            title: "Sunspots",
            y_axis: "mean squared error",
            train,
            valid,
        }
    }

    #[test]
    fn wide_positive_losses_are_drawn_logarithmically() {
        let wide = plot(&[(1, 5.0), (2, 0.4), (3, 0.1)], &[(2, 0.5), (3, 0.3)]);
        let svg = wide.to_svg().unwrap();
        assert!(svg.contains("(log scale)") && svg.contains("best validation loss 0.3000 after 3"));
        let narrow = plot(&[(1, 5.0), (2, 4.0)], &[]).to_svg().unwrap();
        assert!(!narrow.contains("(log scale)") && narrow.contains("not validated"));
        assert!(
            !plot(&[(1, 5.0), (2, -4.0)], &[])
                .to_svg()
                .unwrap()
                .contains("(log scale)")
        );
    }

    #[test]
    fn broken_losses_are_left_out_and_nothing_is_an_error() {
        assert!(
            plot(&[(1, f64::NAN), (2, 1.0)], &[(2, f64::INFINITY)])
                .to_svg()
                .is_ok()
        );
        assert!(plot(&[(0, 0.0)], &[]).to_svg().is_ok());
        for train in [&[][..], &[(1, f64::NAN)]] {
            assert!(matches!(
                plot(train, &[]).to_svg(),
                Err(ReportError::Nothing { .. })
            ));
        }
    }
}
