//! Curves over the steps of a run, small enough to stand side by side in a page.

use plotters::prelude::*;

use super::canvas::{Axis, chart, px, sheet, stroke};
use super::points::{averaged, padded};
use super::{ReportError, ticks};

/// A curve over the optimizer's steps.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    /// Steps and values, all finite.
    pub points: Vec<(f64, f64)>,
    pub color: RGBColor,
    /// In tenths of a pixel.
    pub width: u32,
    /// 1 hides what is behind it.
    pub opacity: f64,
    pub dashed: bool,
    /// Whether points sit on it, if they are few.
    pub dots: bool,
}

/// A drawing, and how to read it.
#[derive(Debug)]
pub(super) struct Drawn {
    pub svg: String,
    pub logarithmic: bool,
}

/// Draws curves on one plane; nothing if they have no points. With `logarithmic` the axis is so if
/// all values are positive and the highest is more than ten times the lowest. No text of a file
/// gets into the drawing.
pub(super) fn draw(curves: &[Curve], logarithmic: bool) -> Result<Option<Drawn>, ReportError> {
    let values = || curves.iter().flat_map(|curve| &curve.points);
    let low = values().fold(f64::INFINITY, |low, point| low.min(point.1));
    let high = values().fold(f64::NEG_INFINITY, |high, point| high.max(point.1));
    if low > high {
        return Ok(None);
    }
    let logarithmic = logarithmic && low > 0.0 && high > 10.0 * low;
    let scaled = |value: f64| if logarithmic { value.log10() } else { value };
    let (low, high) = padded(scaled(low), scaled(high));
    let y = Axis {
        name: String::new(),
        low,
        high,
        marks: match logarithmic {
            true => ticks::logarithmic(low, high),
            false => ticks::linear(low, high, 6),
        },
    };
    let last = values().fold(1.0, |last: f64, point| last.max(point.0));
    let x = Axis {
        name: "optimizer step".into(),
        low: 0.0,
        high: last,
        marks: ticks::linear(0.0, last, 5),
    };
    let svg = sheet(SIZE, |root| {
        let mut plane = chart(root, x, y)?;
        for curve in curves {
            let style = stroke(curve.color.mix(curve.opacity), curve.width);
            let points: Vec<_> = averaged(&curve.points, MOST_POINTS)
                .into_iter()
                .map(|(step, value)| (step, scaled(value)))
                .collect();
            if curve.dashed {
                let line = DashedLineSeries::new(points.clone(), px(6) as u32, px(4) as u32, style);
                plane.draw_series(line)?;
            } else {
                plane.draw_series(LineSeries::new(points.clone(), style))?;
            }
            // One point has no line; many points would hide it.
            if points.len() == 1 || (curve.dots && points.len() <= 40) {
                let dot = |at| Circle::new(at, px(3), curve.color.filled());
                plane.draw_series(points.into_iter().map(dot))?;
            }
        }
        Ok(())
    })?;
    Ok(Some(Drawn { svg, logarithmic }))
}

/// Each point replaced by the mean of those around it: a fortieth of all.
pub(super) fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = points.len() / 80;
    let mut sums = vec![0.0];
    for (_, value) in points {
        sums.push(sums[sums.len() - 1] + value);
    }
    let mean = |(position, &(step, _)): (usize, &(f64, f64))| {
        // Fewer towards the ends, as many on each side.
        let reach = reach.min(position).min(points.len() - 1 - position);
        let (from, to) = (position - reach, position + reach + 1);
        (step, (sums[to] - sums[from]) / (to - from) as f64)
    };
    points.iter().enumerate().map(mean).collect()
}

const SIZE: (i32, i32) = (560, 300);
/// More points cannot be seen.
const MOST_POINTS: usize = 700;

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(f64, f64)]) -> Curve {
        Curve {
            points: points.to_vec(),
            color: BLUE,
            width: 14,
            opacity: 1.0,
            dashed: false,
            dots: true,
        }
    }

    #[test]
    fn wide_positive_values_are_drawn_logarithmically_where_that_is_wanted() {
        let wide = [curve(&[(1.0, 1.0), (2.0, 100.0)])];
        assert!(draw(&wide, true).unwrap().unwrap().logarithmic);
        assert!(!draw(&wide, false).unwrap().unwrap().logarithmic);
        let negative = [curve(&[(1.0, -1.0), (2.0, 100.0)])];
        assert!(!draw(&negative, true).unwrap().unwrap().logarithmic);
    }

    #[test]
    fn nothing_is_not_drawn_and_little_is() {
        assert!(draw(&[], true).unwrap().is_none());
        assert!(draw(&[curve(&[])], true).unwrap().is_none());
        let one = draw(&[curve(&[(0.0, 0.0)])], true).unwrap().unwrap();
        assert!(one.svg.contains("<circle"));
        let huge = curve(&[(0.0, f64::MAX), (1.0, f64::MIN)]);
        assert!(draw(&[huge], true).is_ok());
        let mut dashed = curve(&[(0.0, 0.0), (100.0, 1.0)]);
        dashed.dashed = true;
        let lines = |svg: String| svg.matches("<polyline").count();
        let whole = lines(draw(&[curve(&dashed.points)], true).unwrap().unwrap().svg);
        assert!(lines(draw(&[dashed], true).unwrap().unwrap().svg) > whole + 5);
    }

    /// Of 160 points each mean is over two on each side; the second has only one.
    #[test]
    fn means_are_of_as_many_on_each_side() {
        let points: Vec<_> = (0..160).map(|k| (f64::from(k), f64::from(k * k))).collect();
        let smooth = smoothed(&points);
        assert_eq!(smooth.len(), 160);
        assert_eq!(smooth[0], (0.0, 0.0));
        assert_eq!(smooth[1], (1.0, 5.0 / 3.0));
        assert_eq!(smooth[10], (10.0, 102.0));
        assert_eq!(smoothed(&[]), []);
    }
}
