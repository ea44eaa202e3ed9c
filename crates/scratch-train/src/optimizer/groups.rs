//! Learning rates and weight decay by parameter.

use std::collections::{BTreeMap, HashSet};

use burn::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::OptimizerConfig;
use crate::error::TrainError;

/// Settings of some parameters, by their paths. Where several fit, the last one that says
/// something decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// A parameter or a part of the model (`embed`), or a pattern of paths in which `*` stands for
    /// anything and `?` for one character (`lstm.*.weight_*`).
    #[serde(rename = "match")]
    pub pattern: String,
    /// What the learning rate is multiplied with; 0 freezes the parameters.
    #[serde(default)]
    pub learning_rate_factor: Option<f64>,
    /// In place of the optimizer's, for biases too.
    #[serde(default)]
    pub weight_decay: Option<f32>,
}

/// The settings of every parameter of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterGroups {
    /// Weight decays other than the optimizer's, and whose they are.
    decays: Vec<(f32, Vec<ParamId>)>,
    /// Factors other than 1, and whose they are.
    factors: Vec<(f64, Vec<ParamId>)>,
}

impl ParameterGroups {
    /// Those of `model`'s parameters. Parameters of one dimension (biases) do not decay unless
    /// `decay_biases`, or a group says so: a bias moves a gate, and a small one is no simpler
    /// than a large one.
    ///
    /// # Errors
    ///
    /// If a group fits no parameter, or a setting is outside what it accepts.
    pub fn new<M: Module>(
        model: &M,
        optimizer: &OptimizerConfig,
        groups: &[GroupConfig],
        decay_biases: bool,
    ) -> Result<Self, TrainError> {
        for group in groups {
            group.validate()?;
        }
        let mut visitor = Parameters::default();
        model.visit(&mut visitor);
        let parameters = visitor.found;
        if let Some(unused) = groups
            .iter()
            .find(|group| !parameters.iter().any(|found| group.fits(&found.path)))
        {
            let paths: Vec<_> = parameters.iter().map(|found| found.path.as_str()).collect();
            let expected = format!("a pattern of one of {}", paths.join(", "));
            return Err(TrainError::config(
                "groups.match",
                expected,
                &unused.pattern,
            ));
        }
        // By their bits: sorted, and equal if they are the same number.
        let mut decays = BTreeMap::<u32, Vec<ParamId>>::new();
        let mut factors = BTreeMap::<u64, Vec<ParamId>>::new();
        for found in parameters {
            let mine = || groups.iter().rev().filter(|group| group.fits(&found.path));
            let usual = match found.rank {
                0 | 1 if !decay_biases => 0.0,
                _ => optimizer.weight_decay(),
            };
            let decay = mine().find_map(|group| group.weight_decay).unwrap_or(usual);
            if decay != optimizer.weight_decay() {
                decays.entry(decay.to_bits()).or_default().push(found.id);
            }
            let factor = mine().find_map(|group| group.learning_rate_factor);
            if let Some(factor) = factor.filter(|&factor| factor != 1.0) {
                factors.entry(factor.to_bits()).or_default().push(found.id);
            }
        }
        Ok(Self {
            decays: decays
                .into_iter()
                .map(|(bits, ids)| (f32::from_bits(bits), ids))
                .collect(),
            factors: factors
                .into_iter()
                .map(|(bits, ids)| (f64::from_bits(bits), ids))
                .collect(),
        })
    }

    /// No parameter is special.
    pub fn none() -> Self {
        Self {
            decays: Vec::new(),
            factors: Vec::new(),
        }
    }

    /// The learning rate of every parameter when the schedule's is `learning_rate`, for
    /// `ModuleOptimizer::step`.
    pub fn learning_rate(&self, learning_rate: f64) -> ModuleLearningRate {
        if self.factors.is_empty() {
            return learning_rate.into();
        }
        // burn lets nobody but a scheduler make several.
        let base = ModuleLrScheduler::new(learning_rate);
        let all = self.factors.iter().fold(base, |all, (factor, ids)| {
            all.with_group(ParamGroup::from_ids(ids.clone()), learning_rate * factor)
        });
        let mut all = all;
        all.step()
    }

    pub(super) fn decays(&self) -> impl Iterator<Item = (f32, Vec<ParamId>)> {
        self.decays.iter().map(|(decay, ids)| (*decay, ids.clone()))
    }
}

impl GroupConfig {
    /// Parameters of a pattern, with the settings of all others.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            learning_rate_factor: None,
            weight_decay: None,
        }
    }

    /// Sets what the learning rate is multiplied with.
    pub fn with_learning_rate_factor(mut self, factor: f64) -> Self {
        self.learning_rate_factor = Some(factor);
        self
    }

    /// Sets the weight decay.
    pub fn with_weight_decay(mut self, weight_decay: f32) -> Self {
        self.weight_decay = Some(weight_decay);
        self
    }

    /// Whether the settings can be used with some model.
    ///
    /// # Errors
    ///
    /// Names the first one that cannot.
    pub fn validate(&self) -> Result<(), TrainError> {
        let not_negative = |field, value: f64| match value >= 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(TrainError::config(field, "at least 0", value)),
        };
        not_negative(
            "groups.learning_rate_factor",
            self.learning_rate_factor.unwrap_or(1.0),
        )?;
        not_negative(
            "groups.weight_decay",
            self.weight_decay.unwrap_or(0.0).into(),
        )
    }

    fn fits(&self, path: &str) -> bool {
        let inside = path
            .strip_prefix(self.pattern.as_str())
            .is_some_and(|rest| rest.starts_with('.'));
        inside || fits(self.pattern.as_bytes(), path.as_bytes())
    }
}

/// Whether `text` is what `pattern` describes, in time at most the product of their lengths.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where to go back to: behind the last `*`, one byte further in the text each time.
    let mut back: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                back = Some((at + 1, read));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[read] => {
                at += 1;
                read += 1;
            }
            _ => match back {
                Some((after, from)) => {
                    back = Some((after, from + 1));
                    (at, read) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

struct Parameter {
    path: String,
    id: ParamId,
    rank: usize,
}

#[derive(Default)]
struct Parameters {
    path: Vec<String>,
    seen: HashSet<ParamId>,
    found: Vec<Parameter>,
}

impl ModuleVisitor for Parameters {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.seen.insert(param.id) {
            self.found.push(Parameter {
                path: self.path.join("."),
                id: param.id,
                rank: D,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::CharLmConfig;
    use burn::tensor::Device;
    use scratch_lstm::Key;

    #[test]
    fn patterns() {
        for (pattern, path, fit) in [
            ("embed", "embed.weight", true),
            ("embed", "embedding.weight", false),
            ("embed.weight", "embed.weight", true),
            ("embed.*", "embed.weight", true),
            ("*.bias", "lstm.layers.0.forward.bias", true),
            ("*.bias", "lstm.bias.weight", false),
            ("lstm.*.weight_*", "lstm.layers.0.forward.weight_ih", true),
            ("lstm.*.weight_?h", "lstm.layers.0.forward.weight_hh", true),
            ("*a*ab", "aaab", true),
            ("*a*ab", "aaba", false),
            ("?", "", false),
            ("*", "", true),
            ("", "x", false),
        ] {
            assert_eq!(
                GroupConfig::new(pattern).fits(path),
                fit,
                "{pattern} {path}"
            );
        }
    }

    /// Everything but biases has the optimizer's decay; the last group that says something decides.
    #[test]
    fn every_parameter_has_its_settings() {
        let device = Device::default();
        let model = CharLmConfig::default()
            .try_init(7, &Key::new(1), &device)
            .unwrap();
        let optimizer = OptimizerConfig::adam_w(0.5);
        let decay_of = |groups: &ParameterGroups, id: ParamId| {
            let mut found = groups.decays().filter(|(_, ids)| ids.contains(&id));
            let decay = found.next().map(|(decay, _)| decay);
            assert!(found.next().is_none());
            decay
        };
        let groups = ParameterGroups::new(&model, &optimizer, &[], false).unwrap();
        let bias = model.head.bias.as_ref().unwrap().id;
        let weight = model.head.weight.id;
        let embedding = model.embed.weight.id;
        assert_eq!(decay_of(&groups, bias), Some(0.0));
        assert_eq!(decay_of(&groups, weight), None);
        let everything = ParameterGroups::new(&model, &optimizer, &[], true).unwrap();
        assert_eq!(everything, ParameterGroups::none());

        let configs = [
            GroupConfig::new("head").with_weight_decay(0.1),
            GroupConfig::new("*").with_learning_rate_factor(2.0),
            GroupConfig::new("embed")
                .with_learning_rate_factor(0.25)
                .with_weight_decay(0.0),
            GroupConfig::new("head.weight").with_learning_rate_factor(1.0),
        ];
        let groups = ParameterGroups::new(&model, &optimizer, &configs, false).unwrap();
        assert_eq!(decay_of(&groups, bias), Some(0.1));
        assert_eq!(decay_of(&groups, weight), Some(0.1));
        assert_eq!(decay_of(&groups, embedding), Some(0.0));
        let rates = groups.learning_rate(0.5);
        let rate = |id: ParamId| rates.lr_from_param(id, None);
        assert_eq!(
            (rate(bias), rate(embedding), rate(weight)),
            (1.0, 0.125, 0.5)
        );
    }

    #[test]
    fn groups_are_tables_of_the_training_settings() {
        let text = "decay_biases = true\n[[groups]]\nmatch = \"embed\"\nweight_decay = 0.0\n\
                    [[groups]]\nmatch = \"*.bias\"\nlearning_rate_factor = 2";
        let config: crate::TrainingConfig = toml::from_str(text).unwrap();
        let expected = [
            GroupConfig::new("embed").with_weight_decay(0.0),
            GroupConfig::new("*.bias").with_learning_rate_factor(2.0),
        ];
        assert_eq!(config.groups, expected);
        let again = toml::to_string(&config).unwrap();
        assert_eq!(
            toml::from_str::<crate::TrainingConfig>(&again).unwrap(),
            config
        );
    }

    #[test]
    fn a_group_of_nothing_is_an_error() {
        let device = Device::default();
        let model = CharLmConfig::default()
            .try_init(7, &Key::new(1), &device)
            .unwrap();
        let optimizer = OptimizerConfig::default();
        let error = |group: GroupConfig| {
            let error = ParameterGroups::new(&model, &optimizer, &[group], false).unwrap_err();
            error.to_string()
        };
        let typo = error(GroupConfig::new("emed.*"));
        assert!(typo.contains("found emed.*") && typo.contains("embed.weight"));
        let negative = GroupConfig::new("embed").with_weight_decay(-1.0);
        assert!(error(negative).contains("groups.weight_decay"));
        let infinite = GroupConfig::new("embed").with_learning_rate_factor(f64::INFINITY);
        assert!(error(infinite).contains("groups.learning_rate_factor"));
    }
}
