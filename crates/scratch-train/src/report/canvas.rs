//! What the plots have in common: colours, text and the sheet they are drawn on.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ReportError;

/// A part of the sheet.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(super) const MUTED: RGBColor = RGBColor(0x5c, 0x5c, 0x5c);
pub(super) const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
/// Blue and vermilion of Okabe & Ito's palette: told apart with every kind of colour vision, and
/// of different lightness.
pub(super) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
pub(super) const VERMILION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);

pub(super) const TITLE: f64 = 19.0;
pub(super) const TEXT: f64 = 13.0;
pub(super) const SMALL: f64 = 12.0;

/// The drawing library rounds coordinates to whole numbers: drawn this many times as large and
/// shown at the size meant, curves are smooth.
const SCALE: i32 = 4;

/// A length in pixels as the drawing library takes it.
pub(super) fn px(length: i32) -> i32 {
    length * SCALE
}

/// A line's style; `width` in tenths of a pixel.
pub(super) fn stroke(color: impl Color, width: u32) -> ShapeStyle {
    color.stroke_width(width * SCALE as u32 / 10)
}

/// Draws a sheet of `size` (width, height in pixels) and returns it as an SVG file.
pub(super) fn sheet(
    (width, height): (i32, i32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), ReportError>,
) -> Result<String, ReportError> {
    let (drawn_width, drawn_height) = (px(width), px(height));
    let mut svg = String::new();
    {
        let size = (drawn_width as u32, drawn_height as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        draw(&root)?;
        root.present()?;
    }
    let drawn = format!("width=\"{drawn_width}\" height=\"{drawn_height}\" viewBox");
    let shown = format!("width=\"{width}\" height=\"{height}\" viewBox");
    Ok(svg.replacen(&drawn, &shown, 1))
}

/// Writing of `size` pixels.
pub(super) fn font<'a>(size: f64) -> TextStyle<'a> {
    // The SVG backend divides by 1.24.
    TextStyle::from(("sans-serif", size * 1.24 * f64::from(SCALE))).color(&INK)
}

/// Writing that `at` is the middle of the left side of, or whatever `horizontal` says.
pub(super) fn write(
    area: &Area<'_>,
    text: &str,
    style: TextStyle<'_>,
    at: (i32, i32),
    horizontal: HPos,
) -> Result<(), ReportError> {
    let style = style.pos(Pos::new(horizontal, VPos::Center));
    area.draw(&Text::new(text.to_string(), (px(at.0), px(at.1)), style))?;
    Ok(())
}

/// About how wide a text is, in pixels: no font is at hand to measure with.
pub(super) fn width_of(text: &str, size: f64) -> i32 {
    (text.chars().count() as f64 * size * 0.6).ceil() as i32
}

/// The text, or as much of its beginning as is about `width` pixels wide.
pub(super) fn fitted(text: &str, size: f64, width: i32) -> String {
    if width_of(text, size) <= width {
        return text.into();
    }
    let most = text.chars().count();
    let beginning = |count: usize| text.chars().take(count).chain(['…']).collect::<String>();
    let fits = |count: &usize| width_of(&beginning(*count), size) <= width;
    beginning((0..most).rev().find(fits).unwrap_or(0))
}

/// Title, and a line about the results below it, at the top left.
pub(super) fn headings(area: &Area<'_>, title: &str, results: &str) -> Result<(), ReportError> {
    let width = area.dim_in_pixel().0 as i32 / SCALE - 32;
    let (title, results) = (&fitted(title, TITLE, width), &fitted(results, TEXT, width));
    let plain = font(TITLE);
    let bold = TextStyle {
        font: plain.font.style(FontStyle::Bold),
        ..plain
    };
    write(area, title, bold, (16, 24), HPos::Left)?;
    write(
        area,
        results,
        font(TEXT).color(&MUTED),
        (16, 48),
        HPos::Left,
    )
}

/// How high [`headings`] are, in pixels.
pub(super) const HEADINGS: i32 = 64;

/// One entry of a legend: its name, the style of its line, and whether points sit on it.
pub(super) struct Entry {
    pub name: String,
    pub style: ShapeStyle,
    pub points: bool,
}

/// A legend in one line from `at` on.
pub(super) fn legend(
    area: &Area<'_>,
    entries: &[Entry],
    at: (i32, i32),
) -> Result<(), ReportError> {
    const SAMPLE: i32 = 28;
    let (mut x, y) = at;
    let width = area.dim_in_pixel().0 as i32 / SCALE / entries.len().max(1) as i32;
    for entry in entries {
        let name = fitted(&entry.name, TEXT, width - SAMPLE - 64);
        let line = vec![(px(x), px(y)), (px(x + SAMPLE), px(y))];
        area.draw(&PathElement::new(line, entry.style))?;
        if entry.points {
            let middle = (px(x + SAMPLE / 2), px(y));
            area.draw(&Circle::new(middle, px(3), entry.style.filled()))?;
        }
        write(area, &name, font(TEXT), (x + SAMPLE + 8, y), HPos::Left)?;
        x += SAMPLE + 8 + width_of(&name, TEXT) + 24;
    }
    Ok(())
}

/// One axis of a chart.
#[derive(Clone)]
pub(super) struct Axis {
    /// What it is of; nothing is written at an axis without a name.
    pub name: String,
    /// Its ends.
    pub low: f64,
    pub high: f64,
    /// Where it has marks, and what is written there.
    pub marks: Vec<(f64, String)>,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        // Halved, so that the widest ranges do not overflow.
        let share = (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.marks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let mark = self.marks.iter().find(|(at, _)| at == value);
        mark.map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

/// A chart's plane.
pub(super) type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// Draws the axes of a chart that fills `area`, and returns its plane. With no name for `x` it
/// shares the axis of the chart below.
pub(super) fn chart<'a, 'b>(
    area: &'a Area<'b>,
    x: Axis,
    y: Axis,
) -> Result<Plane<'a, 'b>, ReportError> {
    let (width, height) = area.dim_in_pixel();
    let x_name = fitted(&x.name, TEXT, width as i32 / SCALE - 120);
    let y_name = fitted(&y.name, TEXT, height as i32 / SCALE - 40);
    let has_x = !x_name.is_empty();
    let mut plane = ChartBuilder::on(area)
        .margin_left(px(10))
        .margin_right(px(24))
        .margin_top(px(8))
        .margin_bottom(px(if has_x { 8 } else { 2 }))
        .x_label_area_size(px(if has_x { 46 } else { 0 }))
        .y_label_area_size(px(72))
        .build_cartesian_2d(x, y)?;
    plane
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(stroke(GRID, 10))
        .axis_style(stroke(MUTED, 10))
        .set_all_tick_mark_size(px(4))
        .label_style(font(SMALL))
        .axis_desc_style(font(TEXT))
        .x_desc(x_name)
        .y_desc(y_name)
        .draw()?;
    Ok(plane)
}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for ReportError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self::Drawing {
            reason: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(fitted("short", 10.0, 100), "short");
        // Six pixels a character: ten of them.
        assert_eq!(fitted("longer than that", 10.0, 60), "longer th…");
        assert_eq!(fitted("narrow", 10.0, 0), "…");
    }
}
