//! Runs side by side: what they have reached, and in what they differ.

use super::record::{Best, Record};
use super::table::Numbers;
use crate::terminal::{duration, figures};

/// What runs have reached, column by column.
pub(super) struct Results {
    pub columns: Vec<Column>,
    /// Whether there are runs of different tasks.
    pub of_several_tasks: bool,
}

/// One result of every run.
pub(super) struct Column {
    pub name: String,
    /// Run by run, for people.
    pub cells: Vec<Option<String>>,
    /// Which runs are the best in it; none where that cannot be said.
    pub best: Vec<usize>,
}

/// A setting, or something about the machine, that is not the same in all runs.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    pub name: String,
    /// Run by run.
    pub values: Vec<Option<String>>,
}

/// The results at each run's best validation, and how long it took.
pub(super) fn results(records: &[Record]) -> Results {
    let tasks: Vec<_> = records.iter().map(Record::task).collect();
    let of_several_tasks = tasks.iter().any(|task| *task != tasks[0]);
    let bests: Vec<Option<Best<'_>>> = records.iter().map(Record::best).collect();
    let at_best = |column: &str| -> Vec<f64> {
        let value = |best: &Option<Best<'_>>| best.as_ref().map(|best| best.get(column));
        let values = bests.iter().map(value);
        values.map(|value| value.unwrap_or(f64::NAN)).collect()
    };
    let marked = |name: &str, values: Vec<f64>, better: Option<Better>| {
        let better = better.filter(|_| !of_several_tasks && records.len() > 1);
        Column {
            name: name.into(),
            best: better
                .map(|better| best_of(&values, better))
                .unwrap_or_default(),
            cells: cells(&values, figures),
        }
    };
    let plain = |name: &str, values: Vec<f64>, form: fn(f64) -> String| Column {
        name: name.into(),
        cells: cells(&values, form),
        best: Vec::new(),
    };
    let mut columns = vec![marked(
        "validation loss",
        at_best("valid_loss"),
        Some(Better::Lower),
    )];
    let mut names: Vec<&str> = Vec::new();
    for name in records
        .iter()
        .filter_map(|record| record.metrics.value.as_ref())
        .flat_map(Numbers::columns)
        .filter(|name| name.starts_with("valid_") && *name != "valid_loss")
    {
        if !names.contains(&name) && names.len() < MOST_METRICS {
            names.push(name);
        }
    }
    for column in names {
        let name = column.trim_start_matches("valid_");
        let values = at_best(column);
        columns.push(marked(&name.replace('_', " "), values, direction(name)));
    }
    columns.push(marked("training loss", at_best("train_loss"), None));
    columns.push(plain("best after step", at_best("step"), whole));
    let of_runs = |value: fn(&Record) -> Option<f64>| -> Vec<f64> {
        let values = records.iter().map(value);
        values.map(|value| value.unwrap_or(f64::NAN)).collect()
    };
    columns.push(plain("steps", of_runs(Record::last_step), whole));
    columns.push(plain("time", of_runs(Record::seconds), duration));
    columns.retain(|column| column.cells.iter().any(Option::is_some));
    Results {
        columns,
        of_several_tasks,
    }
}

/// Settings and facts about the machine that are not the same in all runs.
pub(super) fn differences(records: &[Record]) -> Vec<Difference> {
    let facts: Vec<Vec<(String, &str)>> = records.iter().map(facts).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in facts.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let difference = |name: &str| {
        let values: Vec<Option<String>> = facts
            .iter()
            .map(|facts| {
                let fact = facts.iter().find(|(other, _)| other == name);
                fact.map(|(_, value)| (*value).to_string())
            })
            .collect();
        // A machine that is not on record is not another machine.
        let known = values.iter().flatten();
        let differ = match name.starts_with(SYSTEM) {
            true => known
                .clone()
                .any(|value| Some(value) != known.clone().next()),
            false => values.iter().any(|value| *value != values[0]),
        };
        differ.then(|| Difference {
            name: name.into(),
            values,
        })
    };
    names.into_iter().filter_map(difference).collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Better {
    Lower,
    Higher,
}

const SYSTEM: &str = "system: ";
const MOST_METRICS: usize = 24;

/// Which way a metric is better, if its name says so.
fn direction(name: &str) -> Option<Better> {
    const HIGHER: [&str; 4] = ["accuracy", "f1", "precision", "recall"];
    const LOWER: [&str; 7] = ["loss", "error", "rmse", "mae", "mase", "bits", "perplexity"];
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match (has(&HIGHER), has(&LOWER)) {
        (true, false) => Some(Better::Higher),
        (false, true) => Some(Better::Lower),
        _ => None,
    }
}

fn best_of(values: &[f64], better: Better) -> Vec<usize> {
    let finite = values.iter().copied().filter(|value| value.is_finite());
    let best = match better {
        Better::Lower => finite.reduce(f64::min),
        Better::Higher => finite.reduce(f64::max),
    };
    let equal = |(_, value): &(usize, &f64)| Some(**value) == best;
    let positions = values.iter().enumerate().filter(equal);
    positions.map(|(position, _)| position).collect()
}

fn cells(values: &[f64], form: fn(f64) -> String) -> Vec<Option<String>> {
    let cell = |value: &f64| value.is_finite().then(|| form(*value));
    values.iter().map(cell).collect()
}

fn whole(number: f64) -> String {
    format!("{number:.0}")
}

fn facts(record: &Record) -> Vec<(String, &str)> {
    let settings = record.config.value.iter().flat_map(|config| &config.flat);
    let settings = settings.map(|(name, value)| (name.clone(), value.as_str()));
    let system = record.system.value.iter().flatten();
    let system = system.map(|(name, value)| (format!("{SYSTEM}{name}"), value.as_str()));
    settings.chain(system).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::files::Part;
    use crate::run::RunFolder;

    fn record(config: &str, metrics: &str) -> Record {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.toml"), config).unwrap();
        fs::write(folder.path().join("metrics.csv"), metrics).unwrap();
        Record::read(&RunFolder::open(folder.path()).unwrap())
    }

    fn two() -> [Record; 2] {
        let header = "step,epoch,train_loss,valid_loss,valid_accuracy\n";
        [
            record(
                "task = \"classify\"\nseed = 1\n[a]\nb = 1\nc = 3\n",
                &format!("{header}10,1,1,0.5,0.7\n20,2,1,0.25,0.6\n"),
            ),
            record(
                "task = \"classify\"\nseed = 1\n[a]\nb = 2\n",
                &format!("{header}10,1,1,0.125,0.5\n"),
            ),
        ]
    }

    fn column<'a>(results: &'a Results, name: &str) -> &'a Column {
        let found = results.columns.iter().find(|column| column.name == name);
        found.unwrap()
    }

    #[test]
    fn the_best_of_each_result_is_known() {
        let results = results(&two());
        let loss = column(&results, "validation loss");
        assert_eq!(loss.cells, [Some("0.2500".into()), Some("0.1250".into())]);
        assert_eq!(loss.best, [1]);
        let accuracy = column(&results, "accuracy");
        assert_eq!(accuracy.cells[0].as_deref(), Some("0.6000"));
        assert_eq!(accuracy.best, [0]);
        assert!(column(&results, "training loss").best.is_empty());
        assert_eq!(column(&results, "steps").cells[0].as_deref(), Some("20"));
        // Nothing is known of the time.
        assert!(!results.columns.iter().any(|column| column.name == "time"));
    }

    #[test]
    fn runs_of_several_tasks_have_no_best() {
        let [one, _] = two();
        let other = record("task = \"text\"\n", "step,valid_loss\n1,0.1\n");
        let results = results(&[one, other]);
        assert!(results.of_several_tasks);
        assert!(results.columns.iter().all(|column| column.best.is_empty()));
    }

    #[test]
    fn only_what_differs_is_listed() {
        let different = |name: &str, values: [Option<&str>; 2]| Difference {
            name: name.into(),
            values: values.map(|value| value.map(String::from)).into(),
        };
        assert_eq!(
            differences(&two()),
            [
                different("a.b", [Some("1"), Some("2")]),
                different("a.c", [Some("3"), None]),
            ]
        );
        let [mut one, mut other] = two();
        let system = |cpu: &str| Part::whole(vec![("cpu".into(), cpu.into())]);
        one.config = Part::missing();
        other.config = Part::missing();
        one.system = system("x");
        assert_eq!(differences(&[one, other]), []);
        let [mut one, mut other] = two();
        one.config = Part::missing();
        other.config = Part::missing();
        (one.system, other.system) = (system("x"), system("y"));
        assert_eq!(
            differences(&[one, other]),
            [different("system: cpu", [Some("x"), Some("y")])]
        );
    }

    #[test]
    fn the_better_way_is_known_of_names_that_say_it() {
        assert_eq!(direction("macro_f1"), Some(Better::Higher));
        assert_eq!(direction("rmse"), Some(Better::Lower));
        assert_eq!(direction("temperature"), None);
        assert_eq!(direction("error_accuracy"), None);
    }
}
