//! The settings of a run: defaults, overlaid by a TOML file, overlaid by flags.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use scratch_train::TrainingConfig;
use scratch_train::data::Columns;
use scratch_train::settings::Settings;
use scratch_train::tasks::classify::{self, ClassifyConfig};
use scratch_train::tasks::forecast::{self, ForecastConfig};
use scratch_train::tasks::text::{self, TextConfig};
use serde::{Deserialize, Serialize};

use crate::args::{ClassifyArgs, ForecastArgs, RunArgs, TextArgs, TrainingArgs};
use crate::failure::Failure;

/// The settings of `train forecast`.
pub fn forecast(args: &ForecastArgs) -> Result<ForecastConfig, Failure> {
    let (file, mut config) = read::<ForecastConfig>(&args.run, forecast::TASK)?;
    let data = &mut config.data;
    if let Some(path) = &args.data {
        data.path = Some(path.clone());
    }
    data.path = data.path.take().map(absolute);
    if args.all_columns {
        data.columns = Columns::All;
    } else if !args.column.is_empty() {
        data.columns = Columns::Named(args.column.clone());
    }
    set(&mut data.windows.window, args.window);
    set(&mut data.windows.horizon, args.horizon);
    set(&mut data.windows.batch_size, args.training.batch_size);
    data.season = args.season.or(data.season);
    set(&mut config.model.d_hidden, args.model.d_hidden);
    set(&mut config.model.num_layers, args.model.num_layers);
    set(&mut config.model.dropout, args.model.dropout);
    set_training(&mut config.training, &args.training, &file);
    Ok(config)
}

/// The settings of `train text`.
pub fn text(args: &TextArgs) -> Result<TextConfig, Failure> {
    let (file, mut config) = read::<TextConfig>(&args.run, text::TASK)?;
    let data = &mut config.data;
    if !args.data.is_empty() {
        data.paths = args.data.clone();
    }
    let paths = std::mem::take(&mut data.paths);
    data.paths = paths.into_iter().map(absolute).collect();
    let names_paths = !args.data.is_empty() || file.get(&["data", "paths"]).is_some();
    if !args.extension.is_empty() {
        let extensions = args.extension.iter();
        data.extensions = extensions
            .map(|extension| extension.trim_start_matches('.').into())
            .collect();
    } else if names_paths && file.get(&["data", "extensions"]).is_none() {
        // Plain text is meant by whoever names a folder; below the current one it could be
        // anything.
        data.extensions.push("txt".into());
    }
    set(&mut data.units, args.units.map(Into::into));
    set(&mut data.window, args.window);
    set(&mut data.batch_size, args.training.batch_size);
    set(&mut config.model.d_embedding, args.embedding.d_embedding);
    set(&mut config.model.d_hidden, args.model.d_hidden);
    set(&mut config.model.num_layers, args.model.num_layers);
    set(&mut config.model.dropout, args.model.dropout);
    set_training(&mut config.training, &args.training, &file);
    Ok(config)
}

/// The settings of `train classify`.
pub fn classify(args: &ClassifyArgs) -> Result<ClassifyConfig, Failure> {
    let (file, mut config) = read::<ClassifyConfig>(&args.run, classify::TASK)?;
    let data = &mut config.data;
    if let Some(path) = &args.data {
        data.path = Some(path.clone());
    }
    data.path = data.path.take().map(absolute);
    set(&mut data.units, args.units.map(Into::into));
    set(&mut data.batches.batch_size, args.training.batch_size);
    set(&mut config.model.d_embedding, args.embedding.d_embedding);
    set(&mut config.model.d_hidden, args.model.d_hidden);
    set(&mut config.model.num_layers, args.model.num_layers);
    set(&mut config.model.dropout, args.model.dropout);
    set_training(&mut config.training, &args.training, &file);
    Ok(config)
}

/// Epochs of a run that is to end by the clock alone.
const UNTIL_TIME_IS_UP: usize = 1_000_000;

/// What file and `--set` say, and the defaults overlaid by it.
fn read<C>(args: &RunArgs, task: &str) -> Result<(Settings, C), Failure>
where
    C: for<'a> Deserialize<'a> + Serialize + Default,
{
    let all_keys = format!("all keys: scratch train {task} --print-config");
    let mut settings = match &args.config {
        Some(path) => read_file::<C>(path, task)?,
        None => Settings::default(),
    };
    for assignment in &args.set {
        let set = settings.set(assignment);
        set.map_err(|reason| Failure::input(format!("--set: {reason}"), all_keys.clone()))?;
    }
    let config = settings.over_defaults();
    let config = config.map_err(|reason| Failure::input(format!("--set: {reason}"), all_keys))?;
    Ok((settings, config))
}

/// The settings in a file, which fit by themselves.
fn read_file<C>(path: &Path, task: &str) -> Result<Settings, Failure>
where
    C: for<'a> Deserialize<'a> + Serialize + Default,
{
    let name = path.display();
    let text = fs::read(path).map_err(|error| {
        let found = match error.kind() {
            ErrorKind::NotFound => "nothing of that name".into(),
            ErrorKind::IsADirectory => "a folder".into(),
            _ => error.to_string(),
        };
        Failure::input(
            format!("{name}: expected a TOML file with settings, found {found}"),
            format!("give --config a file; a template: scratch train {task} --print-config"),
        )
    })?;
    let text = String::from_utf8(text).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        Failure::input(
            format!("{name}: expected UTF-8 text, found an invalid sequence at byte {offset}"),
            "give --config a TOML file",
        )
    })?;
    let invalid = |reason: String| {
        Failure::input(
            format!("{name}: {reason}"),
            format!("correct the file; all keys: scratch train {task} --print-config"),
        )
    };
    let mut settings = Settings::parse(text).map_err(invalid)?;
    // The first lines of a run's own config.toml.
    let header = settings.take(&["format", "task"]);
    if let Some(found) = header.get(&["task"])
        && found.as_str() != Some(task)
    {
        return Err(Failure::input(
            format!("{name}: expected settings of the task `{task}`, found task = {found}"),
            "give --config the settings of this task, or train the other",
        ));
    }
    settings.over_defaults::<C>().map_err(invalid)?;
    Ok(settings)
}

fn set_training(training: &mut TrainingConfig, args: &TrainingArgs, file: &Settings) {
    set(&mut training.epochs, args.epochs);
    set(&mut training.learning_rate, args.learning_rate);
    set(&mut training.seed, args.seed);
    training.max_time = args.max_time.or(training.max_time);
    training.patience = args.patience.or(training.patience);
    let says_epochs = args.epochs.is_some() || file.get(&["training", "epochs"]).is_some();
    if training.max_time.is_some() && !says_epochs {
        training.epochs = UNTIL_TIME_IS_UP;
    }
}

fn set<T>(setting: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *setting = value;
    }
}

/// So that a run finds its data from any folder. The file system is not asked.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command, TrainTask};

    fn forecast_of(line: &str) -> Result<ForecastConfig, Failure> {
        let words = ["scratch", "train", "forecast"].into_iter();
        match Cli::try_parse_from(words.chain(line.split_whitespace()))
            .unwrap()
            .command
        {
            Command::Train(train) => match train.task {
                TrainTask::Forecast(args) => forecast(&args),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        let text = "[model]\nd_hidden = 7\nnum_layers = 2\n[training]\nseed = 5\n";
        fs::write(&file, text).unwrap();
        let config = forecast_of(&format!("--config {} --d-hidden 9", file.display())).unwrap();
        let mut expected = ForecastConfig::default();
        expected.model.d_hidden = 9;
        expected.model.num_layers = 2;
        expected.training.seed = 5;
        assert_eq!(config, expected);
    }

    #[test]
    fn a_time_limit_stands_alone_unless_epochs_are_named() {
        let config = forecast_of("--max-time 2m").unwrap();
        assert_eq!(config.training.max_time, Some(120.0));
        assert_eq!(config.training.epochs, UNTIL_TIME_IS_UP);
        let config = forecast_of("--max-time 2m --epochs 3").unwrap();
        assert_eq!(config.training.epochs, 3);
    }

    #[test]
    fn paths_become_absolute() {
        let config = forecast_of("--data some/series.csv").unwrap();
        assert!(config.data.path.unwrap().is_absolute());
    }
}
