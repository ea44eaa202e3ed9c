//! What a run has left in its folder.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use toml::Table;

use super::files::{Part, complete_lines, json, text, whole_text};
use super::samples::{SAMPLES, Samples};
use super::table::Numbers;
use crate::run::RunFolder;

/// What a run has left in its folder.
pub(super) struct Record {
    /// What tells it from the others.
    pub name: String,
    pub root: PathBuf,
    pub config: Part<Config>,
    /// The validations.
    pub metrics: Part<Numbers>,
    pub steps: Part<Numbers>,
    pub timing: Part<Numbers>,
    /// Keys and values in their order.
    pub system: Part<Vec<(String, String)>>,
    pub samples: Part<Samples>,
    /// SVG files by name.
    pub plots: Vec<(String, Part<String>)>,
    /// The step of the best validation, as the run saw it.
    best: Part<u64>,
}

/// The settings of a run.
pub(super) struct Config {
    pub text: String,
    /// Values by their path: `training.epochs`.
    pub flat: Vec<(String, String)>,
}

/// The best validation of a run.
pub(super) struct Best<'a> {
    metrics: &'a Numbers,
    row: usize,
}

impl Record {
    /// Reads what there is.
    pub fn read(run: &RunFolder) -> Self {
        let root = run.root().to_path_buf();
        let file = |name: &str| root.join(name);
        Self {
            name: short_name(&root),
            config: whole_text(&run.config_path(), LITTLE).and_then(Config::parse),
            metrics: Numbers::read(&file("metrics.csv")),
            steps: Numbers::read(&file("steps.csv")),
            timing: Numbers::read(&file("timing.csv")),
            system: json(&file("system.json"), LITTLE).and_then(|pairs| Part::whole(texts(pairs))),
            samples: json(&file(SAMPLES), SOME),
            plots: plots(&run.plots()),
            best: text(&file("log.jsonl"), MUCH).and_then(|text| best_step(&text)),
            root,
        }
    }

    /// The task, if the settings say it.
    pub fn task(&self) -> Option<&str> {
        let flat = &self.config.value.as_ref()?.flat;
        let (_, task) = flat.iter().find(|(key, _)| key == "task")?;
        Some(task.trim_matches('"'))
    }

    /// The best validation: the last one the run called so, or the one of the lowest loss where
    /// the run has not left word.
    pub fn best(&self) -> Option<Best<'_>> {
        let metrics = self.metrics.value.as_ref()?;
        let rows = 0..metrics.len();
        let named = self.best.value.and_then(|step| {
            let mut rows = rows.clone();
            rows.find(|&row| metrics.get(row, "step") == step as f64)
        });
        let loss = |row: &usize| metrics.get(*row, "valid_loss");
        let lowest = rows
            .filter(|row| loss(row).is_finite())
            .min_by(|a, b| loss(a).total_cmp(&loss(b)));
        let row = named.or(lowest)?;
        Some(Best { metrics, row })
    }

    /// The last step that is on record.
    pub fn last_step(&self) -> Option<f64> {
        let last = |part: &Part<Numbers>| {
            let table = part.value.as_ref()?;
            Some(table.get(table.len().checked_sub(1)?, "step"))
        };
        let steps = [last(&self.metrics), last(&self.steps)];
        steps.into_iter().flatten().reduce(f64::max)
    }

    /// Seconds spent.
    pub fn seconds(&self) -> Option<f64> {
        let table = self.timing.value.as_ref()?;
        let seconds = table.get(table.len().checked_sub(1)?, "seconds");
        seconds.is_finite().then_some(seconds)
    }

    /// What is wrong with which file.
    pub fn notes(&self) -> Vec<(String, String)> {
        let own = [
            ("config.toml", &self.config.note),
            ("metrics.csv", &self.metrics.note),
            ("steps.csv", &self.steps.note),
            ("timing.csv", &self.timing.note),
            ("log.jsonl", &self.best.note),
            ("system.json", &self.system.note),
            (SAMPLES, &self.samples.note),
        ];
        let own = own.map(|(name, note)| (name.to_string(), note.as_ref()));
        let plots = self.plots.iter();
        let plots = plots.map(|(name, part)| (format!("plots/{name}"), part.note.as_ref()));
        own.into_iter()
            .chain(plots)
            .filter_map(|(name, note)| Some((name, note?.clone())))
            .collect()
    }

    /// Which files are not there.
    pub fn missing(&self) -> Vec<&'static str> {
        fn absent<T>(part: &Part<T>) -> bool {
            part.value.is_none() && part.note.is_none()
        }
        let files = [
            ("config.toml", absent(&self.config)),
            ("metrics.csv", absent(&self.metrics)),
            ("steps.csv", absent(&self.steps)),
            ("timing.csv", absent(&self.timing)),
            ("system.json", absent(&self.system)),
            (SAMPLES, absent(&self.samples)),
        ];
        let files = files.into_iter().filter(|(_, absent)| *absent);
        files.map(|(name, _)| name).collect()
    }
}

impl Best<'_> {
    /// A number of its row; NaN if there is none.
    pub fn get(&self, column: &str) -> f64 {
        self.metrics.get(self.row, column)
    }
}

impl Config {
    fn parse(text: String) -> Part<Self> {
        match toml::from_str::<Table>(&text) {
            Ok(table) => {
                let mut flat = Vec::new();
                flatten("", &table, &mut flat);
                Part::whole(Self { text, flat })
            }
            Err(error) => Part::damaged(error.message().to_string()),
        }
    }
}

/// Bytes of files that people wrote or would read.
const LITTLE: u64 = 1 << 20;
const SOME: u64 = 8 << 20;
const MUCH: u64 = 64 << 20;
const MOST_PLOTS: usize = 12;
const MOST_PAIRS: usize = 500;
const LONGEST_VALUE: usize = 2000;

/// The folder's own name, also where the path does not end in it (`.`).
fn short_name(root: &Path) -> String {
    let full = root.canonicalize();
    let full = full.as_deref().unwrap_or(root);
    let name = full.file_name().unwrap_or(full.as_os_str());
    name.to_string_lossy().into_owned()
}

fn flatten(above: &str, table: &Table, flat: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let path = match above {
            "" => key.clone(),
            above => format!("{above}.{key}"),
        };
        match value {
            toml::Value::Table(table) => flatten(&path, table, flat),
            value => flat.push((path, value.to_string())),
        }
    }
}

/// The entries of a JSON object in the order of the file.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

fn texts(Pairs(pairs): Pairs) -> Vec<(String, String)> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Null => "–".into(),
        value => value.to_string(),
    };
    let cut = |text: String| match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    let pairs = pairs.into_iter().take(MOST_PAIRS);
    pairs
        .map(|(key, value)| (cut(key), cut(text(value))))
        .collect()
}

/// The step of the last validation that was called the best.
fn best_step(text: &str) -> Part<u64> {
    #[derive(Deserialize)]
    struct Line {
        kind: String,
        step: u64,
        #[serde(default)]
        best: bool,
    }
    let (lines, cut) = complete_lines(text);
    let mut found = None;
    let mut bad = None;
    for (position, line) in lines.lines().enumerate() {
        match serde_json::from_str::<Line>(line) {
            Ok(line) if line.kind == "validation" && line.best => found = Some(line.step),
            Ok(_) => {}
            Err(error) => {
                bad.get_or_insert_with(|| format!("line {}: {error}", position + 1));
            }
        }
    }
    let cut = cut.then(|| "its last line is cut off and left out".to_string());
    let notes: Vec<String> = bad.into_iter().chain(cut).collect();
    Part {
        value: found,
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }
}

/// The plots the run has drawn; the curves of the loss are drawn anew.
fn plots(folder: &Path) -> Vec<(String, Part<String>)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".svg") && name != "loss.svg")
        .collect();
    names.sort();
    names.truncate(MOST_PLOTS);
    names
        .into_iter()
        .map(|name| {
            let svg = whole_text(&folder.join(&name), SOME).and_then(|text| {
                match text.contains("<svg") && text.trim_end().ends_with("</svg>") {
                    true => Part::whole(text),
                    false => Part::damaged("expected an SVG file, found something else"),
                }
            });
            (name, svg)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(files: &[(&str, &str)]) -> (tempfile::TempDir, Record) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("plots")).unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let record = Record::read(&RunFolder::open(folder.path()).unwrap());
        (folder, record)
    }

    const CONFIG: (&str, &str) = ("config.toml", "format = 1\ntask = \"text\"\n[a]\nb = 2\n");
    const METRICS: (&str, &str) = (
        "metrics.csv",
        "step,epoch,train_loss,valid_loss\n10,1,1.0,0.5\n20,2,0.5,0.25\n30,3,0.4,0.75\n",
    );

    #[test]
    fn a_run_that_has_only_begun_is_read() {
        let (_folder, record) = run(&[CONFIG]);
        assert_eq!(record.task(), Some("text"));
        let flat = &record.config.value.as_ref().unwrap().flat;
        assert!(flat.contains(&("a.b".into(), "2".into())));
        assert!(record.best().is_none() && record.last_step().is_none());
        assert_eq!(record.notes(), []);
        assert!(record.missing().contains(&"steps.csv"));
    }

    #[test]
    fn the_best_is_what_the_run_called_so() {
        let log = concat!(
            "{\"kind\":\"step\",\"step\":5,\"loss\":1}\n",
            "{\"kind\":\"validation\",\"step\":10,\"best\":true}\n",
            "{\"kind\":\"validation\",\"step\":20,\"best\":false}\n",
        );
        let (_folder, record) = run(&[CONFIG, METRICS, ("log.jsonl", log)]);
        assert_eq!(record.best().unwrap().get("step"), 10.0);
        assert_eq!(record.last_step(), Some(30.0));
        let (_folder, record) = run(&[CONFIG, METRICS]);
        assert_eq!(record.best().unwrap().get("step"), 20.0);
        let (_folder, record) = run(&[CONFIG, METRICS, ("log.jsonl", &log[..60])]);
        assert_eq!(record.best().unwrap().get("step"), 20.0);
        assert!(record.notes()[0].1.contains("cut off"));
    }

    #[test]
    fn what_is_known_of_the_machine_keeps_its_order() {
        let system = r#"{"z":"x86","a":2,"m":null,"n":{"k":[1]}}"#;
        let (_folder, record) = run(&[CONFIG, ("system.json", system)]);
        let pairs = record.system.value.unwrap();
        let keys: Vec<_> = pairs.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["z", "a", "m", "n"]);
        assert_eq!(pairs[3].1, r#"{"k":[1]}"#);
    }

    #[test]
    fn damage_is_noted_by_file() {
        let (_folder, record) = run(&[
            ("config.toml", "task = \n"),
            ("metrics.csv", "\0\0\0"),
            ("system.json", "[1]"),
            ("samples.json", "{\"kind\":\"te"),
            ("log.jsonl", "nothing\n"),
            ("plots/loss.svg", "ignored"),
            ("plots/forecast.svg", "<svg>cut off"),
        ]);
        let notes = record.notes();
        let names: Vec<_> = notes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "config.toml",
                "metrics.csv",
                "log.jsonl",
                "system.json",
                "samples.json",
                "plots/forecast.svg"
            ]
        );
        assert!(notes[3].1.contains("expected an object"), "{}", notes[3].1);
    }
}
