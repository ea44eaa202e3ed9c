//! Settings in TOML files: laid over defaults, with errors of one line.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The content of a TOML file.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// For line numbers.
    text: String,
    table: Table,
}

impl Settings {
    /// Reads TOML.
    ///
    /// # Errors
    ///
    /// If it is none: the line and what is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        match toml::from_str(&text) {
            Ok(table) => Ok(Self { text, table }),
            Err(error) => Err(reason(&text, &error)),
        }
    }

    /// Takes out top-level keys.
    pub fn take(&mut self, keys: &[&str]) -> Self {
        let taken = keys.iter().filter_map(|key| self.table.remove_entry(*key));
        Self {
            table: taken.collect(),
            text: String::new(),
        }
    }

    /// Sets a value by its path, over what was there: `training.precision=bf16`. What is no value
    /// in TOML is a string.
    ///
    /// # Errors
    ///
    /// If there is no path before an equals sign.
    pub fn set(&mut self, assignment: &str) -> Result<(), String> {
        let wrong = || format!("expected KEY=VALUE, found `{assignment}`");
        let (key, value) = assignment.split_once('=').ok_or_else(wrong)?;
        let as_string = || format!("{key} = {}", Value::String(value.trim().into()));
        let table = toml::from_str(&format!("{key} = {value}"));
        let table = table.or_else(|_| toml::from_str(&as_string()));
        lay_over(&mut self.table, &table.map_err(|_| wrong())?);
        Ok(())
    }

    /// A value by its path: `["training", "epochs"]`.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter()
            .try_fold(self.table.get(*first)?, |value, key| value.get(*key))
    }

    /// The settings as they stand.
    ///
    /// # Errors
    ///
    /// If a key is unknown or missing, or a value does not fit.
    pub fn read<C: for<'a> Deserialize<'a>>(&self) -> Result<C, String> {
        self.located(self.table.clone())
    }

    /// The settings laid over `C`'s defaults. (serde's own defaults are those of the innermost
    /// struct: `[training]` with one key would lose what a task sets for the others.)
    ///
    /// # Errors
    ///
    /// If a key is unknown or a value does not fit.
    pub fn over_defaults<C>(&self) -> Result<C, String>
    where
        C: for<'a> Deserialize<'a> + Serialize + Default,
    {
        let mut table = Table::try_from(C::default()).map_err(|error| error.to_string())?;
        lay_over(&mut table, &self.table);
        self.located(table)
    }

    /// `table` as `C`; an error gets its line where the text has it.
    fn located<C: for<'a> Deserialize<'a>>(&self, table: Table) -> Result<C, String> {
        table.try_into().map_err(|error: toml::de::Error| {
            match toml::from_str::<C>(&self.text).err() {
                Some(located) if located.message() == error.message() => {
                    reason(&self.text, &located)
                }
                _ => reason(&self.text, &error),
            }
        })
    }
}

/// An error in one line.
fn reason(text: &str, error: &toml::de::Error) -> String {
    let message = match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            format!("line {line}: {}", error.message())
        }
        // Without a place in a text, the message ends in the path of keys on lines of its own.
        None => error.to_string(),
    };
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    message.replacen("unknown field", "unknown key", 1)
}

/// Replaces values of `base`, table by table. A table of another `kind` replaces the whole: the
/// keys of one optimizer are none of another.
fn lay_over(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) if same_kind(base, over) => {
                lay_over(base, over);
            }
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

fn same_kind(base: &Table, over: &Table) -> bool {
    over.get("kind")
        .is_none_or(|kind| base.get("kind") == Some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::OptimizerConfig;
    use crate::tasks::forecast::ForecastConfig;

    fn forecast(text: &str) -> Result<ForecastConfig, String> {
        Settings::parse(text)?.over_defaults()
    }

    #[test]
    fn missing_keys_keep_the_defaults_of_the_task() {
        let config = forecast("[training]\nseed = 3\n[data.windows]\nwindow = 7").unwrap();
        let mut expected = ForecastConfig::default();
        expected.training.seed = 3;
        expected.data.windows.window = 7;
        assert_eq!(config, expected);
        assert_eq!(forecast("").unwrap(), ForecastConfig::default());
    }

    #[test]
    fn another_kind_replaces_the_table() {
        let config = forecast("[training]\noptimizer = { kind = \"sgd\", momentum = 0.5 }");
        let expected = OptimizerConfig::sgd(0.5);
        assert_eq!(config.unwrap().training.optimizer, expected);
        let config = forecast("[training.optimizer]\nweight_decay = 0.5").unwrap();
        let OptimizerConfig::AdamW {
            weight_decay,
            beta_1,
            ..
        } = config.training.optimizer
        else {
            panic!("{:?}", config.training.optimizer)
        };
        assert_eq!((weight_decay, beta_1), (0.5, 0.9));
    }

    #[test]
    fn errors_are_one_line_and_name_key_and_line() {
        for (text, parts) in [
            (
                "[model]\nd_hidden = 3\nhidden = 4\n",
                &["line 3", "unknown key `hidden`", "`d_hidden`"][..],
            ),
            ("a = \n", &["line 1"]),
            ("[model]\nd_hidden = \"x\"\n", &["line 2", "invalid type"]),
            ("nothing = 1\n", &["line 1", "unknown key `nothing`"]),
        ] {
            let error = forecast(text).unwrap_err();
            assert!(!error.contains('\n'));
            for part in parts {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn single_values_are_set_by_their_paths() {
        let mut settings = Settings::parse("[training]\nseed = 3\nepochs = 9\n").unwrap();
        for assignment in [
            "training.seed=7",
            "training.precision = bf16",
            "training.optimizer.kind=sgd",
            "training.average={ kind = \"ema\", decay = 0.5 }",
        ] {
            settings.set(assignment).unwrap();
        }
        let config: ForecastConfig = settings.over_defaults().unwrap();
        let training = config.training;
        assert_eq!((training.seed, training.epochs), (7, 9));
        assert_eq!(training.precision, crate::Precision::Bf16);
        assert_eq!(training.optimizer, OptimizerConfig::sgd(0.0));
        assert!(training.average.is_some());
        for wrong in ["training.seed", "=3", "a b=3"] {
            let error = settings.set(wrong).unwrap_err();
            assert!(error.contains("expected KEY=VALUE"), "{error}");
        }
        settings.set("training.speed=3").unwrap();
        let error = settings.over_defaults::<ForecastConfig>().unwrap_err();
        assert!(error.contains("unknown key `speed`"), "{error}");
    }

    #[test]
    fn header_keys_are_taken_out() {
        let mut settings =
            Settings::parse("task = \"forecast\"\n[training]\nepochs = 2\n").unwrap();
        let header = settings.take(&["task", "format"]);
        assert_eq!(
            header.get(&["task"]).and_then(Value::as_str),
            Some("forecast")
        );
        assert!(settings.get(&["task"]).is_none());
        assert!(settings.get(&["training", "epochs"]).is_some());
        assert!(settings.over_defaults::<ForecastConfig>().is_ok());
    }
}
