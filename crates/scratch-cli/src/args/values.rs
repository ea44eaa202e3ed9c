//! Values of flags.

/// The most that a TOML file can hold.
const MOST: u64 = i64::MAX as u64;

/// A whole number, of a size or a count.
pub fn size(text: &str) -> Result<usize, String> {
    number(text)?
        .try_into()
        .map_err(|_| format!("expected at most {}", usize::MAX))
}

/// The seed of a run.
pub fn seed(text: &str) -> Result<u64, String> {
    number(text)
}

/// Seconds: `90s`, `3m`, `1h30m`, `0.5h`, or a bare number.
pub fn seconds(text: &str) -> Result<f64, String> {
    let wrong = || format!("expected a time such as 90s, 3m or 1h30m, found `{text}`");
    if let Ok(seconds) = text.parse::<f64>() {
        return positive(seconds).ok_or_else(wrong);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(end);
        let seconds = match unit.chars().next() {
            Some('h') => 3600.0,
            Some('m') => 60.0,
            Some('s') => 1.0,
            _ => return Err(wrong()),
        };
        total += seconds * number.parse::<f64>().map_err(|_| wrong())?;
        rest = &unit[1..];
    }
    positive(total).ok_or_else(wrong)
}

fn number(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(number) if number <= MOST => Ok(number),
        _ => Err(format!("expected a whole number from 0 to {MOST}")),
    }
}

fn positive(seconds: f64) -> Option<f64> {
    (seconds > 0.0 && seconds.is_finite()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expected) in [
            ("90s", 90.0),
            ("3m", 180.0),
            ("1h30m", 5400.0),
            ("0.5h", 1800.0),
            ("1m1.5s", 61.5),
            ("45", 45.0),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in [
            "", "m", "3x", "3m4", "-3m", "0s", "1e999", "nan", "inf", "3 m", "3µ",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_whole_numbers_that_a_file_can_hold() {
        assert_eq!(size("12"), Ok(12));
        for text in ["-1", "1.5", "x", "", "9223372036854775808"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
