//! Text as numbers.

use serde::{Deserialize, Serialize};

/// What one step of a text is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Units {
    /// A byte of its UTF-8 form: any text can be read and written.
    Bytes,
    /// A Unicode scalar value seen in the training part.
    #[default]
    Chars,
}

/// The numbers of a text's units.
///
/// Bytes are their own numbers. Characters are numbered from 1 in the order of their code points;
/// 0 stands for every character that the training part does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub struct Vocabulary {
    /// Sorted, without duplicates; `None` for bytes.
    chars: Option<Vec<char>>,
}

impl Vocabulary {
    /// All 256 bytes.
    pub fn bytes() -> Self {
        Self { chars: None }
    }

    /// The characters of `texts`, which should be the training part only.
    pub fn chars<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut seen = std::collections::BTreeSet::new();
        for text in texts {
            seen.extend(text.chars());
        }
        Self {
            chars: Some(seen.into_iter().collect()),
        }
    }

    /// The vocabulary of `texts` in these units.
    pub fn new<'a>(units: Units, texts: impl IntoIterator<Item = &'a str>) -> Self {
        match units {
            Units::Bytes => Self::bytes(),
            Units::Chars => Self::chars(texts),
        }
    }

    /// What is counted.
    pub fn units(&self) -> Units {
        match self.chars {
            None => Units::Bytes,
            Some(_) => Units::Chars,
        }
    }

    /// How many numbers there are, the unknown character's included.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.chars.as_ref().map_or(256, |chars| chars.len() + 1)
    }

    /// The number of characters that are not in the vocabulary; `None` for bytes. Nobody wants it
    /// sampled.
    pub fn unknown(&self) -> Option<usize> {
        self.chars.as_ref().map(|_| UNKNOWN as usize)
    }

    /// The numbers of a text, one for each unit.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match &self.chars {
            None => text.bytes().map(u32::from).collect(),
            Some(chars) => text.chars().map(|char| number(chars, char)).collect(),
        }
    }

    /// The text of numbers. What has none, the unknown character and broken UTF-8 sequences among
    /// it, becomes the replacement character `U+FFFD`.
    pub fn decode(&self, numbers: &[u32]) -> String {
        match &self.chars {
            None => {
                let bytes: Vec<_> = numbers
                    .iter()
                    // No byte above 0xF7 occurs in UTF-8.
                    .map(|&number| u8::try_from(number).unwrap_or(u8::MAX))
                    .collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Some(chars) => numbers
                .iter()
                .map(|&number| {
                    let position = (number as usize).checked_sub(1);
                    let known = position.and_then(|position| chars.get(position));
                    known.copied().unwrap_or(char::REPLACEMENT_CHARACTER)
                })
                .collect(),
        }
    }
}

const UNKNOWN: u32 = 0;

fn number(chars: &[char], char: char) -> u32 {
    // At most 0x110000 characters exist.
    chars
        .binary_search(&char)
        .map_or(UNKNOWN, |position| position as u32 + 1)
}

/// The form in files.
#[derive(Serialize, Deserialize)]
#[serde(tag = "units", rename_all = "snake_case", deny_unknown_fields)]
enum Record {
    Bytes {},
    Chars { chars: String },
}

impl From<Vocabulary> for Record {
    fn from(vocabulary: Vocabulary) -> Self {
        match vocabulary.chars {
            None => Self::Bytes {},
            Some(chars) => Self::Chars {
                chars: chars.into_iter().collect(),
            },
        }
    }
}

impl TryFrom<Record> for Vocabulary {
    type Error = String;

    fn try_from(record: Record) -> Result<Self, String> {
        let chars = match record {
            Record::Bytes {} => None,
            Record::Chars { chars } => Some(chars.chars().collect::<Vec<_>>()),
        };
        if let Some(pair) = chars
            .iter()
            .flat_map(|chars| chars.windows(2))
            .find(|pair| pair[0] >= pair[1])
        {
            return Err(format!(
                "expected a vocabulary's characters in order, found {:?} before {:?}",
                pair[0], pair[1]
            ));
        }
        Ok(Self { chars })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_numbered_in_order_and_unknown_ones_are_0() {
        let vocabulary = Vocabulary::chars(["bée", "a"]);
        assert_eq!(vocabulary.len(), 5);
        assert_eq!(vocabulary.encode("abcdeé"), [1, 2, 0, 0, 3, 4]);
        assert_eq!(vocabulary.decode(&[4, 0, 1, 9]), "é\u{fffd}a\u{fffd}");
        assert_eq!(vocabulary.unknown(), Some(0));
    }

    #[test]
    fn bytes_cover_any_text() {
        let vocabulary = Vocabulary::bytes();
        assert_eq!(vocabulary.len(), 256);
        let numbers = vocabulary.encode("aé");
        assert_eq!(numbers, [97, 0xc3, 0xa9]);
        assert_eq!(vocabulary.decode(&numbers), "aé");
        assert_eq!(vocabulary.decode(&numbers[..2]), "a\u{fffd}");
        assert_eq!(vocabulary.decode(&[1000]), "\u{fffd}");
    }

    #[test]
    fn saves_and_loads() {
        for vocabulary in [Vocabulary::bytes(), Vocabulary::chars(["\n\"'a"])] {
            let json = serde_json::to_string(&vocabulary).unwrap();
            assert_eq!(
                serde_json::from_str::<Vocabulary>(&json).unwrap(),
                vocabulary
            );
            let toml = toml::to_string(&vocabulary).unwrap();
            assert_eq!(toml::from_str::<Vocabulary>(&toml).unwrap(), vocabulary);
        }
        for broken in [
            r#"{"units":"chars","chars":"ba"}"#,
            r#"{"units":"chars","chars":"aa"}"#,
            r#"{"units":"chars","chars":"a","more":1}"#,
            r#"{"units":"bytes","chars":"a"}"#,
            r#"{"units":"words"}"#,
        ] {
            assert!(
                serde_json::from_str::<Vocabulary>(broken).is_err(),
                "{broken}"
            );
        }
    }
}
