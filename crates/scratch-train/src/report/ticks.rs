//! Where an axis has marks, and what is written there.

/// Marks at round values from `low` to `high`, `most` at most, with their labels.
pub(super) fn linear(low: f64, high: f64, most: usize) -> Vec<(f64, String)> {
    let step = round_step((high - low) / most.max(1) as f64);
    if !(step > 0.0 && step.is_finite()) {
        return Vec::new();
    }
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let (first, last) = ((low / step).ceil(), (high / step).floor());
    let count = (last - first).max(-1.0) as usize + usize::from(last >= first);
    (0..count.min(most + 1))
        .map(|mark| {
            // The product is rounded once; adding 0 makes -0 plain 0.
            let value = (first + mark as f64) * step + 0.0;
            (value, number(value, step, decimals))
        })
        .collect()
}

/// Marks for the base-10 logarithms from `low` to `high`: at powers of ten, and at twice and five
/// times these if they are few. Labels are of the values themselves.
pub(super) fn logarithmic(low: f64, high: f64) -> Vec<(f64, String)> {
    let (first, last) = (low.floor() as i32, high.ceil() as i32);
    let marks = |factors: &[f64], every: usize| -> Vec<(f64, String)> {
        (first..=last)
            .step_by(every)
            .flat_map(|power| factors.iter().map(move |&factor| (factor, power)))
            .map(|(factor, power)| (factor.log10() + f64::from(power), decimal(factor, power)))
            .filter(|&(value, _)| (low..=high).contains(&value))
            .collect()
    };
    if high - low < 0.7 {
        let all: Vec<_> = (10..100)
            .step_by(5)
            .map(|tenths| f64::from(tenths) / 10.0)
            .collect();
        return marks(&all, 1);
    }
    if high - low < 3.0 {
        return marks(&[1.0, 2.0, 5.0], 1);
    }
    marks(&[1.0], 1 + (last - first) as usize / 8)
}

/// Marks for rows by what they are called: at round years where the names are dates that begin
/// with one, else at round distances. Rows are counted from 0; `names` may be shorter.
pub(super) fn rows(count: usize, names: Option<&[String]>, first_row: usize) -> Vec<(f64, String)> {
    let by_year = names.and_then(years);
    if let Some(marks) = by_year.filter(|marks| marks.len() >= 3) {
        return marks;
    }
    let most = if names.is_some() { 7 } else { 10 };
    let step = round_step(count as f64 / most as f64).max(1.0) as usize;
    let label = |row: usize| match names {
        Some(names) => names.get(row).map(|name| name.chars().take(16).collect()),
        None => Some((first_row + row).to_string()),
    };
    // Without names the marks are at round row numbers.
    let first = match names {
        Some(_) => 0,
        None => first_row.next_multiple_of(step) - first_row,
    };
    (first..count)
        .step_by(step)
        .filter_map(|row| Some((row as f64, label(row)?)))
        .collect()
}

fn years(names: &[String]) -> Option<Vec<(f64, String)>> {
    let years: Vec<i32> = names.iter().map(|name| year(name)).collect::<Option<_>>()?;
    let (first, last) = (*years.first()?, *years.last()?);
    if !years.is_sorted() {
        return None;
    }
    let steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
    let step = steps.into_iter().find(|step| (last - first) / step <= 12)?;
    let mut marks = Vec::new();
    for row in 0..years.len() {
        let begins = match row.checked_sub(1) {
            Some(before) => years[before] < years[row],
            // The first row may lie anywhere in its year.
            None => names[0].len() == 4 || names[0][5..].starts_with("01"),
        };
        if begins && years[row] % step == 0 {
            marks.push((row as f64, years[row].to_string()));
        }
    }
    Some(marks)
}

/// The year of `1984`, `1984-12`, `1984-12-31`, ... (ISO 8601).
fn year(name: &str) -> Option<i32> {
    let digits = name.get(..4)?;
    let is_year = digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_year && (name.len() == 4 || name[4..].starts_with('-'))).then(|| digits.parse().ok())?
}

/// The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors
        .into_iter()
        .find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

fn number(value: f64, step: f64, decimals: usize) -> String {
    if value != 0.0 && (value.abs() >= 1e6 || step < 1e-4) {
        return format!("{value:.1e}");
    }
    format!("{value:.decimals$}")
}

fn decimal(factor: f64, power: i32) -> String {
    if !(-4..6).contains(&power) {
        return format!("{factor}e{power}");
    }
    let digits = usize::from(factor.fract() != 0.0);
    let decimals = (digits as i32 - power).max(0) as usize;
    format!("{:.decimals$}", factor * 10f64.powi(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(marks: Vec<(f64, String)>) -> Vec<String> {
        marks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn linear_marks_are_round() {
        assert_eq!(
            labels(linear(-3.0, 253.0, 6)),
            ["0", "50", "100", "150", "200", "250"]
        );
        assert_eq!(
            labels(linear(-0.21, 0.2, 5)),
            ["-0.2", "-0.1", "0.0", "0.1", "0.2"]
        );
        assert_eq!(labels(linear(0.0, 4e6, 2)), ["0", "2.0e6", "4.0e6"]);
        assert!(linear(1.0, 1.0, 5).is_empty());
    }

    #[test]
    fn logarithmic_marks_are_values() {
        assert_eq!(
            labels(logarithmic(-1.5, 0.4)),
            ["0.05", "0.1", "0.2", "0.5", "1", "2"]
        );
        assert_eq!(
            labels(logarithmic(-6.0, 1.0))[..3],
            ["1e-6", "1e-5", "0.0001"]
        );
        assert_eq!(labels(logarithmic(0.1, 0.4)), ["1.5", "2", "2.5"]);
    }

    #[test]
    fn dates_are_marked_by_years() {
        let months: Vec<_> = (0..120)
            .map(|month| format!("{}-{:02}", 1937 + month / 12, 1 + month % 12))
            .collect();
        let marks = rows(120, Some(&months), 0);
        assert_eq!(marks[0], (0.0, "1937".into()));
        assert_eq!(marks[9], (108.0, "1946".into()));
        // The first of these months is not its year's first.
        assert_eq!(rows(119, Some(&months[1..]), 1)[0], (11.0, "1938".into()));
    }

    #[test]
    fn other_rows_are_marked_at_round_distances() {
        assert_eq!(
            labels(rows(50, None, 103)),
            [
                "105", "110", "115", "120", "125", "130", "135", "140", "145", "150"
            ]
        );
        let names: Vec<_> = (0..20).map(|k| format!("day {k}")).collect();
        assert_eq!(
            labels(rows(20, Some(&names), 0)),
            ["day 0", "day 5", "day 10", "day 15"]
        );
        // Names may end before the rows do.
        assert_eq!(labels(rows(20, Some(&names[..6]), 0)), ["day 0", "day 5"]);
        assert_eq!(labels(rows(1, None, 0)), ["0"]);
    }
}
