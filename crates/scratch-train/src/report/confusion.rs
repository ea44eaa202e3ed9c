//! Which labels were taken for which.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ReportError;
use super::canvas::{
    Area, HEADINGS, INK, MUTED, SMALL, TEXT, TITLE, font, headings, px, sheet, stroke, width_of,
    write,
};
use crate::metrics::Confusion;

/// A confusion matrix as a heat map: rows are true labels, columns predicted ones, the darkness
/// is the share of the row.
#[derive(Debug, Clone, Copy)]
pub struct ConfusionPlot<'a> {
    /// What was classified.
    pub title: &'a str,
    /// The results.
    pub confusion: &'a Confusion,
}

impl ConfusionPlot<'_> {
    /// The plot as an SVG file.
    ///
    /// # Errors
    ///
    /// If there are no labels, or the drawing fails.
    pub fn to_svg(&self) -> Result<String, ReportError> {
        let count = self.confusion.labels().len();
        if count == 0 {
            return Err(ReportError::Nothing {
                plot: "confusion matrix",
                expected: "labels",
            });
        }
        let layout = Layout::new(self.confusion.labels(), width_of(self.title, TITLE));
        let results = format!(
            "accuracy {:.1} %, macro F1 {:.3}, {} sequences",
            100.0 * self.confusion.accuracy(),
            self.confusion.macro_f1(),
            self.confusion.total()
        );
        sheet(layout.size(), |root| {
            headings(root, self.title, &results)?;
            self.draw_cells(root, &layout)?;
            self.draw_labels(root, &layout)?;
            draw_scale(root, &layout)
        })
    }

    fn draw_cells(&self, root: &Area<'_>, layout: &Layout) -> Result<(), ReportError> {
        let count = self.confusion.labels().len();
        for truth in 0..count {
            let row = (0..count).map(|predicted| self.confusion.count(truth, predicted));
            let total = row.clone().sum::<u64>().max(1) as f64;
            // Empty cells are the paper: of a thousand labels, few of the million cells are not.
            for (predicted, counted) in row.enumerate().filter(|&(_, counted)| counted > 0) {
                let share = counted as f64 / total;
                let (left, top) = layout.corner(truth, predicted);
                let cell = [
                    (px(left), px(top)),
                    (px(left + layout.cell), px(top + layout.cell)),
                ];
                root.draw(&Rectangle::new(cell, shade(share).filled()))?;
                let text = counted.to_string();
                if layout.cell >= 20 && width_of(&text, layout.number) <= layout.cell {
                    let ink = if share > 0.6 { WHITE } else { INK };
                    let middle = (left + layout.cell / 2, top + layout.cell / 2);
                    let style = font(layout.number).color(&ink);
                    write(root, &text, style, middle, HPos::Center)?;
                }
            }
        }
        let (left, top) = layout.corner(0, 0);
        let (right, bottom) = layout.corner(count, count);
        if layout.cell >= LEAST_LABELLED {
            for line in 0..=count as i32 {
                let (x, y) = (left + line * layout.cell, top + line * layout.cell);
                let across = vec![(px(left), px(y)), (px(right), px(y))];
                let down = vec![(px(x), px(top)), (px(x), px(bottom))];
                root.draw(&PathElement::new(across, stroke(LINES, 5)))?;
                root.draw(&PathElement::new(down, stroke(LINES, 5)))?;
            }
        }
        let frame = [(px(left), px(top)), (px(right), px(bottom))];
        root.draw(&Rectangle::new(frame, stroke(MUTED, 10)))?;
        Ok(())
    }

    fn draw_labels(&self, root: &Area<'_>, layout: &Layout) -> Result<(), ReportError> {
        let count = self.confusion.labels().len();
        let half = layout.cell / 2;
        let (left, _) = layout.corner(0, 0);
        let (right, bottom) = layout.corner(count, count);
        if layout.cell >= LEAST_LABELLED {
            let size = SMALL.min(f64::from(layout.cell));
            let upwards = font(size)
                .transform(FontTransform::Rotate270)
                .pos(Pos::new(HPos::Right, VPos::Center));
            for (position, label) in self.confusion.labels().iter().enumerate() {
                let label = shortened(label);
                let (x, y) = layout.corner(position, position);
                write(root, &label, font(size), (left - 8, y + half), HPos::Right)?;
                let foot = (px(x + half), px(bottom + 8));
                root.draw(&Text::new(label, foot, upwards.clone()))?;
            }
        }
        let middle = (left + right) / 2;
        let (_, height) = layout.size();
        write(
            root,
            "predicted label",
            font(TEXT),
            (middle, height - 14),
            HPos::Center,
        )?;
        let aside = font(TEXT)
            .transform(FontTransform::Rotate270)
            .pos(Pos::new(HPos::Center, VPos::Center));
        let middle = (px(16), px((HEADINGS + bottom) / 2));
        root.draw(&Text::new("true label", middle, aside))?;
        Ok(())
    }
}

/// Where things are, in pixels.
struct Layout {
    labels: i32,
    cell: i32,
    number: f64,
    count: i32,
    heading: i32,
}

impl Layout {
    fn new(labels: &[String], title: i32) -> Self {
        let count = labels.len() as i32;
        let longest = labels
            .iter()
            .map(|label| width_of(&shortened(label), SMALL));
        let cell = (640 / count).clamp(2, 64);
        let longest = longest.max().filter(|_| cell >= LEAST_LABELLED);
        Self {
            labels: longest.unwrap_or(0) + 16,
            cell,
            number: (f64::from(cell) * 0.36).clamp(8.0, SMALL),
            count,
            // A long title makes the sheet wider, but not beyond measure.
            heading: title.clamp(380, 900) + 32,
        }
    }

    /// The upper left corner of a cell.
    fn corner(&self, row: usize, column: usize) -> (i32, i32) {
        let along = |position: usize| position as i32 * self.cell;
        (28 + self.labels + along(column), HEADINGS + 8 + along(row))
    }

    fn size(&self) -> (i32, i32) {
        let (right, bottom) = self.corner(self.count as usize, self.count as usize);
        ((right + 112).max(self.heading), bottom + self.labels + 36)
    }
}

/// Smaller cells have neither lines nor labels.
const LEAST_LABELLED: i32 = 9;
const LINES: RGBColor = RGBColor(0xd8, 0xd8, 0xd8);
const LONGEST_LABEL: usize = 24;

fn shortened(label: &str) -> String {
    if label.chars().count() <= LONGEST_LABEL {
        return label.into();
    }
    let start: String = label.chars().take(LONGEST_LABEL - 1).collect();
    format!("{start}…")
}

/// White to dark blue; lightness falls all the way.
fn shade(share: f64) -> RGBColor {
    const STOPS: [[u8; 3]; 5] = [
        [0xf7, 0xfb, 0xff],
        [0xc6, 0xdb, 0xef],
        [0x6b, 0xae, 0xd6],
        [0x21, 0x71, 0xb5],
        [0x08, 0x30, 0x6b],
    ];
    let position = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let below = (position as usize).min(STOPS.len() - 2);
    let part = position - below as f64;
    let mix = |channel: usize| {
        let (from, to) = (STOPS[below][channel], STOPS[below + 1][channel]);
        (f64::from(from) + part * (f64::from(to) - f64::from(from))).round() as u8
    };
    RGBColor(mix(0), mix(1), mix(2))
}

fn draw_scale(root: &Area<'_>, layout: &Layout) -> Result<(), ReportError> {
    const PARTS: i32 = 50;
    let (right, bottom) = layout.corner(layout.count as usize, layout.count as usize);
    let (_, top) = layout.corner(0, 0);
    let (left, top) = (right + 24, top + 30);
    let height = (bottom - top).clamp(60, 240);
    write(
        root,
        "share of row",
        font(SMALL),
        (left, top - 20),
        HPos::Left,
    )?;
    let edge = |part: i32| px(top) + px(height) * part / PARTS;
    for part in 0..PARTS {
        // Each part reaches to the end, under those that follow: no seams.
        let bar = [(px(left), edge(part)), (px(left + 14), edge(PARTS))];
        let share = 1.0 - (f64::from(part) + 0.5) / f64::from(PARTS);
        root.draw(&Rectangle::new(bar, shade(share).filled()))?;
    }
    for (label, quarter) in [("100 %", 0), ("50 %", 2), ("0 %", 4)] {
        let at = (left + 20, top + height * quarter / 4);
        write(root, label, font(SMALL), at, HPos::Left)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_labels_are_drawn() {
        let mut confusion = Confusion::new(vec!["cat".into(), "dog".into()]);
        (0..37).for_each(|_| confusion.add(0, 0));
        confusion.add(1, 0);
        let plot = ConfusionPlot {
            title: "Pets",
            confusion: &confusion,
        };
        let svg = plot.to_svg().unwrap();
        for text in [
            "Pets",
            "cat",
            "dog",
            "37",
            "accuracy 97.4 %",
            "predicted label",
        ] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn no_labels_are_an_error_and_many_are_not() {
        let draw = |count: usize| {
            let confusion = Confusion::new((0..count).map(|k| format!("label {k}")).collect());
            let plot = ConfusionPlot {
                title: "",
                confusion: &confusion,
            };
            plot.to_svg()
        };
        assert!(matches!(draw(0), Err(ReportError::Nothing { .. })));
        assert!(draw(1).is_ok() && draw(500).is_ok());
    }
}
