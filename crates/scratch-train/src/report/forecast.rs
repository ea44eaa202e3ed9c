//! Forecasts beside what came.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{
    Axis, BLUE, Entry, HEADINGS, INK, TEXT, VERMILION, chart, font, headings, legend, px, sheet,
    stroke, write,
};
use super::{ReportError, ticks};

/// A series, forecasts of it, and by how much these are off.
#[derive(Debug, Clone, Copy)]
pub struct ForecastPlot<'a> {
    /// What it is: the series, the part, how many steps ahead.
    pub title: &'a str,
    /// A line about the results below the title.
    pub results: &'a str,
    /// What the rows are: `month`.
    pub x_axis: &'a str,
    /// What the values are, with their unit.
    pub y_axis: &'a str,
    /// What the rows are called, from the first observed one on; dates are marked by year.
    pub times: Option<&'a [String]>,
    /// The row number of the first observed value, for axes without names.
    pub first_row: usize,
    /// What came.
    pub observed: &'a [f64],
    /// What was forecast.
    pub forecast: &'a [f64],
    /// Which observed value the first forecast is of; forecasts may go on where these end.
    pub forecast_from: usize,
    /// What the forecast is called in the legend.
    pub forecast_name: &'a str,
}

impl ForecastPlot<'_> {
    /// The plot as an SVG file.
    ///
    /// # Errors
    ///
    /// If there are no finite values, or the drawing fails.
    pub fn to_svg(&self) -> Result<String, ReportError> {
        let values = self.observed.iter().chain(self.forecast);
        let Some((low, high)) = range(values.copied()) else {
            return Err(ReportError::Nothing {
                plot: "forecast plot",
                expected: "finite values",
            });
        };
        let errors = self.errors();
        let error_range = range(errors.iter().map(|&(_, error)| error));
        let height = if error_range.is_some() { 660 } else { 500 };
        let count = self
            .observed
            .len()
            .max(self.forecast_from + self.forecast.len());
        let x_axis = |name: &str| Axis {
            name: name.into(),
            low: 0.0,
            high: (count.max(2) - 1) as f64,
            marks: ticks::rows(count, self.times, self.first_row),
        };

        sheet((WIDTH, height), |root| {
            headings(root, self.title, self.results)?;
            let entries = [
                (!self.observed.is_empty(), "observed", observed_style()),
                (
                    !self.forecast.is_empty(),
                    self.forecast_name,
                    forecast_style(),
                ),
            ];
            let entries: Vec<_> = entries
                .into_iter()
                .filter(|(drawn, ..)| *drawn)
                .map(|(_, name, style)| Entry {
                    name: name.into(),
                    style,
                    points: false,
                })
                .collect();
            legend(root, &entries, (LEFT, HEADINGS + 14))?;
            let (_, charts) = root.split_vertically(px(HEADINGS + 26));
            let (main, below) = charts.split_vertically(px(404));

            let (low, high) = padded(low, high);
            let (main, x) = match error_range {
                Some(_) => (main, x_axis("")),
                None => (charts, x_axis(self.x_axis)),
            };
            let y = Axis {
                name: self.y_axis.into(),
                low,
                high,
                marks: ticks::linear(low, high, 7),
            };
            let mut plane = chart(&main, x, y)?;
            let observed = points(self.observed, 0);
            let forecast = points(self.forecast, self.forecast_from);
            for (points, style) in [(observed, observed_style()), (forecast, forecast_style())] {
                plane.draw_series(LineSeries::new(thinned(&points), style))?;
            }

            let Some((low, high)) = error_range else {
                return Ok(());
            };
            let furthest = low.abs().max(high.abs()).max(f64::MIN_POSITIVE) * 1.08;
            write(
                &below,
                "forecast minus observed",
                font(TEXT),
                (LEFT, 6),
                HPos::Left,
            )?;
            let (_, below) = below.split_vertically(px(14));
            let x = x_axis(self.x_axis);
            let zero = [(x.low, 0.0), (x.high, 0.0)];
            let y = Axis {
                name: "error".into(),
                low: -furthest,
                high: furthest,
                marks: ticks::linear(-furthest, furthest, 4),
            };
            let mut plane = chart(&below, x, y)?;
            plane.draw_series(LineSeries::new(zero, stroke(INK, 10)))?;
            plane.draw_series(LineSeries::new(thinned(&errors), stroke(VERMILION, 12)))?;
            Ok(())
        })
    }

    /// Forecast minus observed, where there is both.
    fn errors(&self) -> Vec<(f64, f64)> {
        let observed = self.observed.iter().enumerate().skip(self.forecast_from);
        observed
            .zip(self.forecast)
            .map(|((row, observed), forecast)| (row as f64, forecast - observed))
            .filter(|(_, error)| error.is_finite())
            .collect()
    }
}

const WIDTH: i32 = 1200;
/// Where the plane begins.
const LEFT: i32 = 84;
/// Four for each pixel of the width: more cannot be seen.
const MOST_POINTS: usize = 4 * WIDTH as usize;

fn observed_style() -> ShapeStyle {
    stroke(BLUE, 18)
}

fn forecast_style() -> ShapeStyle {
    stroke(VERMILION, 14)
}

fn points(values: &[f64], from: usize) -> Vec<(f64, f64)> {
    let rows = values.iter().enumerate();
    rows.filter(|(_, value)| value.is_finite())
        .map(|(row, &value)| ((from + row) as f64, value))
        .collect()
}

/// The lowest and the highest point of each of so many groups that they cannot be told apart.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let extremes = |group: &[(f64, f64)]| {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let low = group.iter().min_by(by_value).copied();
        let high = group.iter().max_by(by_value).copied();
        let mut both: Vec<_> = low.into_iter().chain(high).collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        both
    };
    let size = points.len().div_ceil(MOST_POINTS / 2);
    points.chunks(size).flat_map(extremes).collect()
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .filter(|value| value.is_finite())
        .fold(None, |range, value| {
            let (low, high) = range.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })
}

/// The range with some air; of a constant, a range around it.
fn padded(low: f64, high: f64) -> (f64, f64) {
    let air = match high - low {
        0.0 => low.abs().max(1.0) * 0.1,
        height => height * 0.05,
    };
    (low - air, high + air)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot<'a>(observed: &'a [f64], forecast: &'a [f64], from: usize) -> ForecastPlot<'a> {
        ForecastPlot {
            title: "A < B & C",
            results: "RMSE 1.00",
            x_axis: "day",
            y_axis: "value",
            times: None,
            first_row: 0,
            observed,
            forecast,
            forecast_from: from,
            forecast_name: "ScratchLstm",
        }
    }

    #[test]
    fn curves_errors_and_names_are_drawn() {
        let svg = plot(&[1.0, 2.0, 3.0], &[2.5, 2.0], 1).to_svg().unwrap();
        assert!(svg.starts_with("<svg width=\"1200\" height=\"660\" viewBox=\"0 0 4800 2640\""));
        for text in [
            "A &lt; B &amp; C",
            "RMSE 1.00",
            "ScratchLstm",
            "observed",
            "day",
            "value",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(
            plot(&[1.0, 2.0, 3.0], &[2.5, 2.0], 1).errors(),
            [(1.0, 0.5), (2.0, -1.0)]
        );
        // Beyond the end of the data nobody knows the error.
        let future = plot(&[1.0, 2.0], &[3.0, 4.0], 2).to_svg().unwrap();
        assert!(!future.contains("forecast minus observed"));
    }

    #[test]
    fn constants_and_broken_numbers_are_drawn_and_nothing_is_an_error() {
        assert!(plot(&[5.0; 3], &[5.0; 3], 0).to_svg().is_ok());
        assert!(
            plot(&[1.0, f64::NAN, 2.0], &[f64::INFINITY; 3], 0)
                .to_svg()
                .is_ok()
        );
        assert!(plot(&[0.0], &[], 0).to_svg().is_ok());
        assert!(plot(&[1e-300, -1e300], &[1e299], 0).to_svg().is_ok());
        assert!(matches!(
            plot(&[], &[], 0).to_svg(),
            Err(ReportError::Nothing { .. })
        ));
    }

    #[test]
    fn long_curves_keep_their_peaks() {
        let mut values = vec![0.0; 100_000];
        values[77_777] = 9.0;
        let few = thinned(&points(&values, 0));
        assert!(few.len() <= MOST_POINTS);
        assert!(few.contains(&(77_777.0, 9.0)));
        assert!(few.is_sorted_by(|a, b| a.0 <= b.0));
    }
}
