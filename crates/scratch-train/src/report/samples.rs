//! What a model can do, by example.

use serde::{Deserialize, Serialize};

/// The file of a run folder that [`Samples`] are kept in.
pub const SAMPLES: &str = "samples.json";

/// Examples of what the best model of a run does, for a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Samples {
    /// Texts the model wrote.
    Text {
        /// What they are.
        title: String,
        /// The texts.
        items: Vec<TextSample>,
    },
    /// Cases, a row each.
    Table {
        /// What they are.
        title: String,
        /// What is in each column.
        columns: Vec<String>,
        /// As many cells as there are columns.
        rows: Vec<Vec<String>>,
    },
}

/// A text a model wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSample {
    /// What it was given.
    pub prompt: String,
    /// How it went on.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_named_and_unknown_keys_are_errors() {
        let text = r#"{"kind":"text","title":"t","items":[{"prompt":"a","text":"b"}]}"#;
        let samples: Samples = serde_json::from_str(text).unwrap();
        assert_eq!(
            samples,
            Samples::Text {
                title: "t".into(),
                items: vec![TextSample {
                    prompt: "a".into(),
                    text: "b".into(),
                }],
            }
        );
        let table = r#"{"kind":"table","title":"t","columns":["a"],"rows":[["1"]]}"#;
        assert!(serde_json::from_str::<Samples>(table).is_ok());
        for wrong in [
            table.replace("\"title\"", "\"more\":1,\"title\""),
            table.replace("table", "chart"),
            table.replace("\"title\":\"t\",", ""),
        ] {
            assert!(serde_json::from_str::<Samples>(&wrong).is_err(), "{wrong}");
        }
    }
}
