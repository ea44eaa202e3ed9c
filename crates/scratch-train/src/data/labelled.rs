//! Labelled sequences of different lengths.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use rand::seq::SliceRandom;
use scratch_lstm::Key;

use super::file::{check_size, io_error, read_text};
use super::table::{Header, Table};
use super::{DataError, SplitConfig};

/// Texts that each have one of several labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledData {
    /// The labels' names, sorted.
    pub labels: Vec<String>,
    /// The sequences.
    pub examples: Vec<Example>,
    /// Sequences left out because the same one with the same label is there already. The same
    /// sequence under several labels stays.
    pub duplicates: usize,
    /// Sequences left out because they hold nothing but white space.
    pub blank: usize,
}

/// One labelled sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Example {
    /// The sequence.
    pub text: String,
    /// The position of its label among the labels.
    pub label: usize,
}

/// Which examples are for what, by their positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledSplit {
    /// The examples to learn from.
    pub train: Vec<usize>,
    /// The examples by which the model is chosen.
    pub valid: Vec<usize>,
    /// The examples that are looked at once, at the end.
    pub test: Vec<usize>,
}

impl LabelledData {
    /// Reads a folder of `LABEL.txt` files, one sequence a line, or a CSV file with a header and
    /// the columns `text` and `label`; see [`from_folder`](Self::from_folder) and
    /// [`from_csv`](Self::from_csv).
    ///
    /// # Errors
    ///
    /// As these.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let metadata = fs::metadata(path).map_err(|source| io_error(path, source))?;
        if metadata.is_dir() {
            Self::from_folder(path)
        } else {
            Self::from_csv(path, "text", "label")
        }
    }

    /// Reads the files `LABEL.txt` of a folder: one sequence a line. Other files and folders in it
    /// are not looked at.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read or has no such file, if a file is empty or no UTF-8, if all of
    /// them are more than 256 MiB, or if there are less than two labels.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, DataError> {
        let folder = folder.as_ref();
        let origin = folder.display().to_string();
        let mut texts = BTreeMap::new();
        let mut size = 0;
        for entry in fs::read_dir(folder).map_err(|source| io_error(folder, source))? {
            let entry = entry.map_err(|source| io_error(folder, source))?;
            let path = entry.path();
            let (Some(label), Some(ending)) = (path.file_stem(), path.extension()) else {
                continue;
            };
            let label = label.to_string_lossy();
            if ending != "txt" || label.starts_with('.') || path.is_dir() {
                continue;
            }
            size += fs::metadata(&path)
                .map_err(|source| io_error(&path, source))?
                .len();
            check_size(&origin, size)?;
            texts.insert(label.into_owned(), read_text(&path, "one sequence a line")?);
        }
        if texts.is_empty() {
            return Err(DataError::NoFiles {
                origin,
                expected: ".txt, one for each label".into(),
            });
        }
        let texts = texts
            .iter()
            .map(|(label, text)| (label.as_str(), text.as_str()));
        Self::from_lines(&origin, texts)
    }

    /// Takes one sequence a line from each label's text; `origin` names them in errors.
    ///
    /// # Errors
    ///
    /// If there are less than two labels.
    pub fn from_lines<'a>(
        origin: &str,
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, DataError> {
        let pairs = texts
            .into_iter()
            .flat_map(|(label, text)| text.lines().map(move |line| (line, label)));
        Self::collect(origin, &pairs.collect::<Vec<_>>())
    }

    /// Reads a CSV file with a header; `text` and `label` are its columns, by name or by position
    /// counted from 1.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is empty, no UTF-8 or no such CSV, if a column is missing, a
    /// label is empty, or there are less than two labels.
    pub fn from_csv(path: impl AsRef<Path>, text: &str, label: &str) -> Result<Self, DataError> {
        let path = path.as_ref();
        let content = read_text(path, "a CSV with texts and labels")?;
        let table = Table::parse(&path.display().to_string(), &content, Header::Present)?;
        let (text, label) = (table.column(text)?, table.column(label)?);
        let rows = table.rows.iter();
        if let Some(row) = rows.clone().find(|row| row.field(label).is_empty()) {
            return Err(DataError::NoLabel {
                origin: table.origin,
                line: row.line,
            });
        }
        let pairs: Vec<_> = rows
            .map(|row| (row.field(text), row.field(label)))
            .collect();
        Self::collect(&table.origin, &pairs)
    }

    /// Divides the examples at random, each label by itself, so that every part holds the labels
    /// in the same shares. Of a label with few examples more are for training: its shares of
    /// validation and test are rounded to the nearest number.
    ///
    /// # Errors
    ///
    /// If the shares are not valid or a label has no example to learn from.
    pub fn split(&self, config: &SplitConfig, key: &Key) -> Result<LabelledSplit, DataError> {
        config.validate()?;
        let mut of_label = vec![Vec::new(); self.labels.len()];
        for (position, example) in self.examples.iter().enumerate() {
            of_label[example.label].push(position);
        }
        let mut split = LabelledSplit {
            train: Vec::new(),
            valid: Vec::new(),
            test: Vec::new(),
        };
        for (label, mut examples) in self.labels.iter().zip(of_label) {
            let count = examples.len();
            let rounded = |share: f64| (share * count as f64).round() as usize;
            let valid = rounded(config.valid);
            let test = rounded(1.0 - config.train - config.valid);
            if valid + test >= count {
                return Err(DataError::NoTrainingExample {
                    label: label.clone(),
                    found: count,
                });
            }
            examples.shuffle(&mut key.child("split").child(label).rng());
            split.train.extend(examples.drain(valid + test..));
            split.valid.extend(examples.drain(test..));
            split.test.append(&mut examples);
        }
        for part in [&mut split.train, &mut split.valid, &mut split.test] {
            part.sort_unstable();
        }
        Ok(split)
    }

    /// The texts of the examples at these positions.
    ///
    /// # Panics
    ///
    /// If there is no example at one of them.
    pub fn texts<'a>(&'a self, positions: &'a [usize]) -> impl Iterator<Item = &'a str> {
        let examples = positions.iter().map(|&position| &self.examples[position]);
        examples.map(|example| example.text.as_str())
    }

    /// The labels of the examples at these positions.
    ///
    /// # Panics
    ///
    /// If there is no example at one of them.
    pub fn labels_of(&self, positions: &[usize]) -> Vec<usize> {
        let examples = positions.iter().map(|&position| &self.examples[position]);
        examples.map(|example| example.label).collect()
    }

    /// From pairs of a text and its label's name.
    fn collect(origin: &str, pairs: &[(&str, &str)]) -> Result<Self, DataError> {
        let names: BTreeSet<&str> = pairs.iter().map(|&(_, label)| label).collect();
        let labels: Vec<String> = names.iter().map(|&name| name.to_string()).collect();
        if labels.len() < 2 {
            return Err(DataError::TooFewLabels {
                origin: origin.into(),
                found: labels,
            });
        }
        let index: BTreeMap<_, _> = names.into_iter().zip(0..).collect();
        let mut seen = HashSet::new();
        let mut data = Self {
            labels,
            examples: Vec::new(),
            duplicates: 0,
            blank: 0,
        };
        for &(text, label) in pairs {
            let text = text.trim();
            if text.is_empty() {
                data.blank += 1;
            } else if seen.insert((text, label)) {
                data.examples.push(Example {
                    text: text.into(),
                    label: index[label],
                });
            } else {
                data.duplicates += 1;
            }
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> LabelledData {
        LabelledData::from_lines("t", [("b", "x\n y \nx\n\nz"), ("a", "x\r\nw\r\n")]).unwrap()
    }

    #[test]
    fn duplicates_go_unless_their_labels_differ() {
        let data = two();
        assert_eq!(data.labels, ["a", "b"]);
        assert_eq!((data.duplicates, data.blank), (1, 1));
        let all: Vec<_> = (0..data.examples.len()).collect();
        assert_eq!(
            data.texts(&all).collect::<Vec<_>>(),
            ["x", "y", "z", "x", "w"]
        );
        assert_eq!(data.labels_of(&all), [1, 1, 1, 0, 0]);
    }

    #[test]
    fn a_folder_and_a_csv_give_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("a.txt", "x\nw\n");
        write("b.txt", "x\ny\nx\n\nz");
        write("notes.md", "no");
        fs::create_dir(folder.path().join("c.txt")).unwrap();
        let from_folder = LabelledData::read(folder.path()).unwrap();
        assert_eq!(from_folder.labels, two().labels);
        assert_eq!(from_folder.duplicates, 1);

        write(
            "data.csv",
            "label,text\nb,x\nb,y\nb,x\nb,\"\"\nb,z\na,x\na,w\n",
        );
        assert_eq!(
            LabelledData::read(folder.path().join("data.csv")).unwrap(),
            two()
        );
    }

    #[test]
    fn each_label_is_split_by_itself() {
        let numbers = |count: usize| (0..count).map(|k| format!("{k}\n")).collect::<String>();
        let (many, few) = (numbers(100), numbers(4));
        let texts = [("few", few.as_str()), ("many", many.as_str())];
        let data = LabelledData::from_lines("t", texts).unwrap();
        let split = data.split(&SplitConfig::LABELLED, &Key::new(1)).unwrap();
        let of = |part: &[usize], label| {
            let labels = data.labels_of(part);
            labels.iter().filter(|&&found| found == label).count()
        };
        assert_eq!(
            (of(&split.train, 1), of(&split.valid, 1), of(&split.test, 1)),
            (80, 10, 10)
        );
        assert_eq!((of(&split.train, 0), of(&split.valid, 0)), (4, 0));
        let mut all = [split.train.clone(), split.valid.clone(), split.test.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..104).collect::<Vec<_>>());
        assert_eq!(
            data.split(&SplitConfig::LABELLED, &Key::new(1)).unwrap(),
            split
        );
        assert_ne!(
            data.split(&SplitConfig::LABELLED, &Key::new(2)).unwrap(),
            split
        );
    }

    #[test]
    fn what_cannot_be_learned_is_an_error() {
        let one = LabelledData::from_lines("t", [("a", "x\ny")]).unwrap_err();
        assert_eq!(one.to_string(), "t: expected at least 2 labels, found `a`");
        let halves = SplitConfig {
            train: 0.1,
            valid: 0.45,
        };
        let error = two().split(&halves, &Key::new(1)).unwrap_err().to_string();
        assert!(
            error.contains("label `a`") && error.contains("2 in all"),
            "{error}"
        );

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        let csv = |text: &str| {
            fs::write(&path, text).unwrap();
            LabelledData::read(&path).unwrap_err().to_string()
        };
        assert!(csv("name,label\nx,a\n").contains("column `text`"));
        assert!(csv("text,label\nx,a\n\ny,\n").contains("line 4: expected a label"));
        assert!(
            LabelledData::read(folder.path())
                .unwrap_err()
                .to_string()
                .contains(".txt")
        );
        assert!(LabelledData::read(folder.path().join("no")).is_err());
    }
}
