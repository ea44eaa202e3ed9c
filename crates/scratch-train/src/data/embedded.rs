//! The figures that come with this crate, for runs that are given no data. Their sources are named
//! in `data/README.md` beside the figures.

use super::{Columns, DataError, LabelledData, Series};

/// Monthly mean sunspot numbers as a CSV: `Month` (1749-01 to 1983-12), `Sunspots`.
pub const SUNSPOTS_CSV: &str = include_str!("../../data/monthly-sunspots.csv");

/// What [`sunspots`] is called in messages.
pub const SUNSPOTS: &str = "the monthly sunspot numbers";

/// What [`surnames`] is called in messages.
pub const SURNAMES: &str = "the surnames of 18 languages";

/// Monthly mean sunspot numbers, 2,820 of them in one column.
///
/// # Errors
///
/// Never: the figures are part of the program.
pub fn sunspots() -> Result<Series, DataError> {
    Series::parse(SUNSPOTS, SUNSPOTS_CSV, &Columns::Last)
}

/// Surnames labelled with their languages.
///
/// # Errors
///
/// Never: the figures are part of the program.
pub fn surnames() -> Result<LabelledData, DataError> {
    LabelledData::from_lines(SURNAMES, NAMES)
}

const NAMES: [(&str, &str); 18] = [
    ("Arabic", include_str!("../../data/names/Arabic.txt")),
    ("Chinese", include_str!("../../data/names/Chinese.txt")),
    ("Czech", include_str!("../../data/names/Czech.txt")),
    ("Dutch", include_str!("../../data/names/Dutch.txt")),
    ("English", include_str!("../../data/names/English.txt")),
    ("French", include_str!("../../data/names/French.txt")),
    ("German", include_str!("../../data/names/German.txt")),
    ("Greek", include_str!("../../data/names/Greek.txt")),
    ("Irish", include_str!("../../data/names/Irish.txt")),
    ("Italian", include_str!("../../data/names/Italian.txt")),
    ("Japanese", include_str!("../../data/names/Japanese.txt")),
    ("Korean", include_str!("../../data/names/Korean.txt")),
    ("Polish", include_str!("../../data/names/Polish.txt")),
    (
        "Portuguese",
        include_str!("../../data/names/Portuguese.txt"),
    ),
    ("Russian", include_str!("../../data/names/Russian.txt")),
    ("Scottish", include_str!("../../data/names/Scottish.txt")),
    ("Spanish", include_str!("../../data/names/Spanish.txt")),
    (
        "Vietnamese",
        include_str!("../../data/names/Vietnamese.txt"),
    ),
];

/// Monthly airline passengers: a series with a trend and a season of 12.
#[cfg(test)]
pub(crate) fn airline() -> Series {
    let csv = include_str!("../../data/airline-passengers.csv");
    Series::parse("airline", csv, &Columns::Last).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sunspots_are_complete() {
        let series = sunspots().unwrap();
        assert_eq!(series.names, ["Sunspots"]);
        assert_eq!(series.len(), 2820);
        assert_eq!((series.values[0][0], series.values[2819][0]), (58.0, 33.4));
        let times = series.times.unwrap();
        assert_eq!(
            (times[0].as_str(), times[2819].as_str()),
            ("1749-01", "1983-12")
        );
    }

    #[test]
    fn the_surnames_are_complete() {
        let data = surnames().unwrap();
        assert_eq!(data.labels.len(), 18);
        assert_eq!(
            (data.labels[0].as_str(), data.labels[17].as_str()),
            ("Arabic", "Vietnamese")
        );
        // 20,050 lines in all.
        assert_eq!(
            (data.examples.len(), data.duplicates, data.blank),
            (18_012, 2_038, 0)
        );
    }
}
