//! Finding a learning rate: the range test (Smith 2017; fastai's `lr_find`).
//!
//! A copy of a model is trained for a few hundred steps while the learning rate rises by the same
//! factor at each of them. The loss stays, falls, and explodes; a good learning rate lies where it
//! falls fastest.

use burn::optim::GradientsParams;
use burn::tensor::Device;
use scratch_lstm::Key;
use serde::{Deserialize, Serialize};

use crate::config::TrainingConfig;
use crate::data::SequenceData;
use crate::error::TrainError;
use crate::gradients;
use crate::model::SequenceModel;
use crate::optimizer::{ParameterGroups, with_path_ids};
use crate::step::train_window;

/// Settings of a range test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RangeTestConfig {
    /// The first learning rate.
    pub from: f64,
    /// The last one.
    pub to: f64,
    /// Steps of the optimizer from one to the other.
    pub steps: usize,
    /// Share of the smoothed loss that each step leaves.
    pub smoothing: f64,
    /// The test is over when the smoothed loss is this many times the lowest.
    pub stop_at: f64,
}

impl Default for RangeTestConfig {
    fn default() -> Self {
        Self {
            from: 1e-6,
            to: 10.0,
            steps: 200,
            smoothing: 0.9,
            stop_at: 4.0,
        }
    }
}

impl RangeTestConfig {
    /// Whether a test can be made with these settings.
    ///
    /// # Errors
    ///
    /// Names the first one with which none can.
    pub fn validate(&self) -> Result<(), TrainError> {
        let check = |field, value: f64, accepted: bool, expected: &str| match accepted {
            true => Ok(()),
            false => Err(TrainError::config(field, expected, value)),
        };
        let Self { from, to, .. } = *self;
        check(
            "range_test.from",
            from,
            from > 0.0 && from.is_finite(),
            "a positive number",
        )?;
        let expected = format!("more than `from`, {from}");
        check("range_test.to", to, to > from && to.is_finite(), &expected)?;
        let steps = self.steps as f64;
        check("range_test.steps", steps, self.steps >= 10, "at least 10")?;
        let smoothing = self.smoothing;
        check(
            "range_test.smoothing",
            smoothing,
            (0.0..1.0).contains(&smoothing),
            "at least 0 and less than 1",
        )?;
        let stop_at = self.stop_at;
        check("range_test.stop_at", stop_at, stop_at > 1.0, "more than 1")
    }

    /// The learning rate of a step.
    fn learning_rate(&self, step: usize) -> f64 {
        let done = step as f64 / (self.steps - 1) as f64;
        self.from * (self.to / self.from).powf(done)
    }
}

/// What a range test found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeTest {
    /// Step by step, up to where the test ended.
    pub points: Vec<RangePoint>,
    /// Whether the loss exploded before the last step.
    pub exploded: bool,
    /// Where the smoothed loss falls fastest, by the logarithm of the learning rate, before it is
    /// lowest; moved back by the steps that smoothing lags behind. `None` if it does not fall.
    pub suggestion: Option<f64>,
}

/// One step of a range test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangePoint {
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Mean training loss before it.
    pub loss: f64,
    /// Exponential moving average of the losses, corrected for its beginning at 0 as Adam's.
    pub smoothed: f64,
}

/// Trains a copy of `model` with a rising learning rate. Optimizer, clipping, accumulation and seed
/// are those of `config`; learning rate and schedule of it do not matter.
///
/// Every loss is read back from the device, which a training run does not do.
///
/// # Errors
///
/// If a setting is outside what it accepts, there are no data, or the first loss is no number.
pub fn range_test<M: SequenceModel>(
    model: &M,
    config: &TrainingConfig,
    data: &impl SequenceData<Batch = M::Batch>,
    device: &Device,
    range: &RangeTestConfig,
) -> Result<RangeTest, TrainError> {
    config.validate()?;
    range.validate()?;
    if data.windows() == 0 {
        return Err(TrainError::NoData { what: "training" });
    }
    let device = device.clone().without_autodiff();
    let mut model = with_path_ids(model.clone().to_device(&device).valid().train());
    let groups = ParameterGroups::new(
        &model,
        &config.optimizer,
        &config.groups,
        config.decay_biases,
    )?;
    let mut optimizer = config.optimizer.init(&groups);
    let mut walk = Walk {
        data,
        device: device.autodiff(),
        key: Key::new(config.seed).child("range_test"),
        epoch: 0,
        window: 0,
        carried: None,
    };
    let mut curve = Curve::new(range);
    for step in 0..range.steps {
        let learning_rate = range.learning_rate(step);
        let (loss, grads) = walk.step(&model, config.accumulate);
        if !curve.push(learning_rate, loss) {
            break;
        }
        let (grads, _) = gradients::clip(grads, &model, config.clip_value, config.clip_norm);
        model = optimizer.step(groups.learning_rate(learning_rate), model, grads);
    }
    if curve.points.is_empty() {
        return Err(TrainError::Diverged {
            step: 0,
            what: "loss",
            value: curve.last,
            last_good: None,
        });
    }
    Ok(curve.finish())
}

/// A way through the data, epoch after epoch.
struct Walk<'a, D, S> {
    data: &'a D,
    device: Device,
    key: Key,
    epoch: usize,
    window: usize,
    carried: Option<S>,
}

impl<D: SequenceData, S> Walk<'_, D, S> {
    /// Mean loss and mean gradient over the targets of the next windows.
    fn step<M>(&mut self, model: &M, windows: usize) -> (f64, GradientsParams)
    where
        M: SequenceModel<Batch = D::Batch, State = S>,
    {
        let (mut loss, mut targets) = (0.0, 0.0);
        let mut sum = GradientsParams::new();
        for _ in 0..windows {
            let window = self.data.window(self.epoch, self.window, &self.device);
            let key = self.key.child(self.epoch).child(self.window);
            let trained = train_window(model, &window, self.carried.take(), &key);
            self.carried = Some(trained.state);
            let weight = trained.targets as f64;
            loss += weight * trained.loss.into_scalar::<f64>();
            targets += weight;
            let grads = gradients::scale_by(trained.grads, model, weight);
            sum = gradients::add(sum, grads, model);
            self.window += 1;
            if self.window == self.data.windows() {
                (self.epoch, self.window) = (self.epoch + 1, 0);
            }
        }
        let mean = gradients::scale_by(sum, model, 1.0 / targets);
        (loss / targets, mean)
    }
}

/// The curve of a test as it grows.
struct Curve<'a> {
    range: &'a RangeTestConfig,
    average: f64,
    last: f64,
    lowest: f64,
    exploded: bool,
    points: Vec<RangePoint>,
}

impl<'a> Curve<'a> {
    fn new(range: &'a RangeTestConfig) -> Self {
        Self {
            range,
            average: 0.0,
            last: 0.0,
            lowest: f64::INFINITY,
            exploded: false,
            points: Vec::new(),
        }
    }

    /// Whether the test goes on.
    fn push(&mut self, learning_rate: f64, loss: f64) -> bool {
        self.last = loss;
        if !loss.is_finite() {
            self.exploded = true;
            return false;
        }
        let left = self.range.smoothing;
        self.average = left * self.average + (1.0 - left) * loss;
        let count = self.points.len() as i32 + 1;
        let smoothed = self.average / (1.0 - left.powi(count));
        self.points.push(RangePoint {
            learning_rate,
            loss,
            smoothed,
        });
        self.lowest = self.lowest.min(smoothed);
        let most = self.lowest + (self.range.stop_at - 1.0) * self.lowest.abs();
        self.exploded = smoothed > most;
        !self.exploded
    }

    fn finish(self) -> RangeTest {
        let suggestion = self.steepest().map(|index| {
            let index = index.saturating_sub(self.lag());
            self.points[index].learning_rate
        });
        RangeTest {
            points: self.points,
            exploded: self.exploded,
            suggestion,
        }
    }

    /// Where the smoothed loss falls fastest before it is lowest. Slopes are those of lines through
    /// the points as far as smoothing reaches (least squares): losses differ from window to window
    /// by more than a step changes them. The first points are means of few.
    fn steepest(&self) -> Option<usize> {
        let smoothed = |index: usize| self.points[index].smoothed;
        let lowest = (0..self.points.len()).min_by(|&a, &b| smoothed(a).total_cmp(&smoothed(b)))?;
        let reach = self.lag().max(1);
        // In units of its own: learning rates lie at equal distances.
        let slope = |index: usize| -> f64 {
            let pair = |by: usize| by as f64 * (smoothed(index + by) - smoothed(index - by));
            (1..=reach).map(pair).sum()
        };
        let first = reach + 2 * self.lag();
        let last = lowest.min(self.points.len().checked_sub(reach + 1)?);
        (first..=last)
            .min_by(|&a, &b| slope(a).total_cmp(&slope(b)))
            .filter(|&index| slope(index) < 0.0)
    }

    /// Steps by which the smoothed loss lags behind.
    fn lag(&self) -> usize {
        (self.range.smoothing / (1.0 - self.range.smoothing)).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(range: &RangeTestConfig, loss: impl Fn(f64) -> f64) -> RangeTest {
        let mut curve = Curve::new(range);
        for step in 0..range.steps {
            let rate = range.learning_rate(step);
            if !curve.push(rate, loss(rate)) {
                break;
            }
        }
        curve.finish()
    }

    /// Falls fastest at 1e-3, is lowest at about 1e-2, explodes behind.
    fn usual(rate: f64) -> f64 {
        let fall = 1.0 / (1.0 + (-4.0 * (rate.log10() + 3.0)).exp());
        2.0 - 1.5 * fall + (rate / 0.1).powi(2)
    }

    #[test]
    fn learning_rates_rise_by_one_factor() {
        let range = RangeTestConfig::default();
        assert!((range.learning_rate(0) - 1e-6).abs() < 1e-18);
        assert!((range.learning_rate(199) - 10.0).abs() < 1e-9);
        let factor = range.learning_rate(1) / range.learning_rate(0);
        let later = range.learning_rate(100) / range.learning_rate(99);
        assert!((factor - later).abs() < 1e-9 && factor > 1.0);
    }

    #[test]
    fn the_suggestion_is_where_the_loss_falls_fastest() {
        for (smoothing, steps) in [(0.0, 211), (0.9, 211), (0.8, 97)] {
            let range = RangeTestConfig {
                smoothing,
                steps,
                ..RangeTestConfig::default()
            };
            let found = curve(&range, usual);
            assert!(found.exploded && found.points.len() < steps);
            let suggestion = found.suggestion.unwrap();
            // A third of a decade.
            let distance = (suggestion.log10() + 3.0).abs();
            assert!(distance < 0.34, "{suggestion} at {smoothing}");
        }
    }

    /// By hand: 0.5 * 4, then 0.25 * 4 + 0.5 * 2 over 0.75.
    #[test]
    fn smoothing_is_corrected_for_its_beginning() {
        let range = RangeTestConfig {
            smoothing: 0.5,
            ..RangeTestConfig::default()
        };
        let mut curve = Curve::new(&range);
        assert!(curve.push(0.1, 4.0) && curve.push(0.2, 2.0));
        let smoothed: Vec<f64> = curve.points.iter().map(|point| point.smoothed).collect();
        assert!((smoothed[0] - 4.0).abs() < 1e-12);
        assert!((smoothed[1] - 2.0 / 0.75).abs() < 1e-12);
    }

    #[test]
    fn what_never_falls_has_no_suggestion() {
        let range = RangeTestConfig::default();
        let rising = curve(&range, |rate| 1.0 + rate);
        assert_eq!(rising.suggestion, None);
        let constant = curve(&range, |_| 0.7);
        assert!(constant.points.len() == range.steps && !constant.exploded);
        let nothing = curve(&range, |_| f64::NAN);
        assert!(nothing.points.is_empty() && nothing.exploded);
        // Losses below 0 explode, too.
        let negative = curve(&range, |rate| -1.0 + 100.0 * rate);
        assert!(negative.exploded);
    }

    #[test]
    fn invalid_settings_name_the_field() {
        let parse = |text: &str| toml::from_str::<RangeTestConfig>(text).unwrap();
        for (text, field) in [
            ("from = 0.0", "range_test.from"),
            ("from = 2.0\nto = 1.0", "range_test.to"),
            ("steps = 9", "range_test.steps"),
            ("smoothing = 1.0", "range_test.smoothing"),
            ("stop_at = 1.0", "range_test.stop_at"),
        ] {
            let error = parse(text).validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
        assert!(parse("").validate().is_ok());
    }
}
