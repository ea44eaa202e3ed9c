//! Proves that learning rates are those of burn's and PyTorch's schedulers, which count calls,
//! wherever in a run they are asked for.

use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::exponential::ExponentialLrSchedulerConfig;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::lr_scheduler::noam::NoamLrSchedulerConfig;
use burn::lr_scheduler::sequential::SequentialLrSchedulerConfig;
use burn::lr_scheduler::step::StepLrSchedulerConfig;
use scratch_train::Goal;
use scratch_train::schedule::{Place, Schedule, ScheduleConfig, Warmup};
use serde_json::{Value, json};

/// What burn accepts, too.
const RATE: f64 = 0.7;
const STEPS: usize = 97;
const WARMUP: usize = 13;

fn by_share(step: usize, of: usize) -> Place {
    Place {
        step: step as u64,
        share: step as f64 / of as f64,
        ..Place::default()
    }
}

fn by_epoch(epoch: f64) -> Place {
    Place {
        epoch,
        ..Place::default()
    }
}

/// Settings of a kind as JSON has them.
fn config(kind: &str, settings: &Value) -> ScheduleConfig {
    let mut settings = settings.clone();
    settings["kind"] = json!(kind);
    if !matches!(kind, "noam" | "one_cycle") {
        settings["warmup"] = json!(0.0);
    }
    serde_json::from_value(settings).unwrap()
}

fn golden() -> Value {
    serde_json::from_str(include_str!("../goldens/pytorch/training.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let all = value.as_array().expect("an array");
    all.iter()
        .map(|number| number.as_f64().expect("a number"))
        .collect()
}

#[track_caller]
fn assert_near(what: &str, found: f64, expected: f64) {
    // Powers by products against powers by logarithms.
    let near = (found - expected).abs() <= 1e-12 * expected.abs();
    assert!(near, "{what}: expected {expected:e}, found {found:e}");
}

/// That each of our places has the rate of burn's next call, and that rates differ at all.
#[track_caller]
fn assert_is_burns(ours: &ScheduleConfig, mut burns: ModuleLrScheduler, place: fn(usize) -> Place) {
    let schedule = Schedule::new(ours, RATE).unwrap();
    let mut rates = Vec::new();
    for step in 0..STEPS {
        let expected = burns.step().base();
        assert_near(
            &format!("{ours:?} {step}"),
            schedule.at(&place(step)),
            expected,
        );
        rates.push(expected);
    }
    assert!(rates.iter().any(|&rate| rate != rates[0]));
}

#[test]
fn linear_and_cosine_are_burns() {
    let floor = 0.2;
    let warmup = Warmup::Share(WARMUP as f64 / STEPS as f64);
    let place = |step| by_share(step, STEPS);
    let linear = |steps| LinearLrSchedulerConfig::new(RATE, floor * RATE, steps);
    let cosine =
        |steps| CosineAnnealingLrSchedulerConfig::new(RATE, steps).with_min_lr(floor * RATE);
    let cold = Warmup::NONE;
    let ours = ScheduleConfig::Linear {
        warmup: cold,
        floor,
    };
    assert_is_burns(&ours, linear(STEPS).init().unwrap(), place);
    let ours = ScheduleConfig::Cosine {
        warmup: cold,
        floor,
    };
    assert_is_burns(&ours, cosine(STEPS).init().unwrap(), place);

    let rise = || LinearLrSchedulerConfig::new(0.01 * RATE, RATE, WARMUP).into();
    let behind = |main| {
        SequentialLrSchedulerConfig::new(vec![rise(), main], vec![WARMUP])
            .init()
            .unwrap()
    };
    let ours = ScheduleConfig::Linear { warmup, floor };
    assert_is_burns(&ours, behind(linear(STEPS - WARMUP).into()), place);
    let ours = ScheduleConfig::Cosine { warmup, floor };
    assert_is_burns(&ours, behind(cosine(STEPS - WARMUP).into()), place);
}

#[test]
fn step_exponential_and_noam_are_burns() {
    let ours = config("step", &json!({ "every": 7, "factor": 0.6 }));
    let burns = StepLrSchedulerConfig::new(RATE, 7).with_gamma(0.6);
    let epoch = |step| by_epoch(step as f64);
    assert_is_burns(&ours, burns.init().unwrap(), epoch);

    let ours = config("exponential", &json!({ "factor": 0.97 }));
    let burns = ExponentialLrSchedulerConfig::new(RATE, 0.97);
    assert_is_burns(&ours, burns.init().unwrap(), epoch);

    let ours = config("noam", &json!({ "warmup_steps": WARMUP }));
    let factor = RATE * (WARMUP as f64 * 64.0).sqrt();
    let burns = NoamLrSchedulerConfig::new(factor)
        .with_warmup_steps(WARMUP)
        .with_model_size(64);
    assert_is_burns(&ours, burns.init().unwrap(), |step| by_share(step, STEPS));
    let peak = Schedule::new(&ours, RATE).unwrap();
    assert_near("peak", peak.at(&by_share(WARMUP - 1, STEPS)), RATE);
}

/// PyTorch's phases end at steps `pct_start * total - 1` and `total - 1`, ours at shares
/// `pct_start` and 1.
#[test]
fn one_cycle_is_pytorchs() {
    let golden = golden();
    let cases = golden["one_cycle"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let mut settings = case["settings"].clone();
        let total = case["total"].as_u64().unwrap() as usize;
        let last = (total - 1) as f64;
        let pct_start = settings["pct_start"].as_f64().unwrap_or(0.3);
        settings["pct_start"] = json!((pct_start * total as f64 - 1.0) / last);
        let schedule = Schedule::new(&config("one_cycle", &settings), RATE).unwrap();
        let rates = numbers(&case["rates"]);
        assert_eq!(rates.len(), total);
        for (step, &expected) in rates.iter().enumerate() {
            let found = schedule.at(&by_share(step, total - 1));
            // The last rates are a millionth of the peak, as differences of larger numbers.
            let near = (found - expected).abs() <= 1e-15 + 1e-12 * expected;
            assert!(near, "{step}: expected {expected:e}, found {found:e}");
        }
    }
}

#[test]
fn warm_restarts_are_pytorchs() {
    let golden = golden();
    let cases = golden["cosine_restarts"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let config = config("cosine_restarts", &case["settings"]);
        let schedule = Schedule::new(&config, RATE).unwrap();
        let (epochs, rates) = (numbers(&case["epochs"]), numbers(&case["rates"]));
        let restarts = rates.iter().filter(|&&rate| rate == RATE).count();
        assert!(restarts >= 3, "{restarts}");
        for (&epoch, expected) in epochs.iter().zip(rates) {
            let found = schedule.at(&by_epoch(epoch));
            let near = (found - expected).abs() <= 1e-12 * RATE;
            assert!(near, "{epoch}: expected {expected:e}, found {found:e}");
        }
    }
}

#[test]
fn step_and_exponential_are_pytorchs() {
    let golden = golden();
    for kind in ["step", "exponential"] {
        let case = &golden[kind];
        let schedule = Schedule::new(&config(kind, &case["settings"]), RATE).unwrap();
        let rates = numbers(&case["rates"]);
        assert_eq!(rates.len(), 20);
        for (epoch, expected) in rates.into_iter().enumerate() {
            assert_near(kind, schedule.at(&by_epoch(epoch as f64)), expected);
        }
    }
}

/// In the middle the schedule is taken down to its state, through JSON, and built again.
#[test]
fn plateau_is_pytorchs_wherever_the_run_was_cut_off() {
    let golden = golden();
    let cases = golden["plateau"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let goal = match case["mode"].as_str() {
            Some("max") => Goal::Maximize,
            _ => Goal::Minimize,
        };
        let config = config("plateau", &case["settings"]);
        let (metrics, rates) = (numbers(&case["metrics"]), numbers(&case["rates"]));
        assert!(rates.last() < Some(&(0.05 * RATE)) && rates[3] == RATE);
        for cut in [0, 1, 17, 40, metrics.len()] {
            let mut schedule = Schedule::new(&config, RATE).unwrap();
            for (index, (&metric, &expected)) in metrics.iter().zip(&rates).enumerate() {
                if index == cut {
                    let state = serde_json::to_string(schedule.state()).unwrap();
                    schedule = Schedule::new(&config, RATE).unwrap();
                    schedule.restore(serde_json::from_str(&state).unwrap());
                }
                schedule.observe(metric, goal);
                let found = schedule.at(&Place::default());
                assert_near(&format!("validation {index}"), found, expected);
            }
        }
    }
}

/// A metric that is no number is no gain.
#[test]
fn plateau_bears_what_is_no_number() {
    let settings = json!({ "factor": 0.5, "patience": 1, "threshold": 0.0 });
    let mut schedule = Schedule::new(&config("plateau", &settings), 1.0).unwrap();
    let rates: Vec<f64> = [f64::NAN, 2.0, f64::NAN, f64::NEG_INFINITY, 1.0]
        .into_iter()
        .map(|metric| {
            schedule.observe(metric, Goal::Minimize);
            schedule.at(&Place::default())
        })
        .collect();
    assert_eq!(rates, [1.0, 1.0, 1.0, 0.5, 0.5]);
    // Other schedules do not look at validations.
    let mut constant = Schedule::new(&ScheduleConfig::constant(), 1.0).unwrap();
    (0..9).for_each(|_| constant.observe(1.0, Goal::Minimize));
    assert_eq!(constant.at(&Place::default()), 1.0);
    assert_eq!(constant.state(), &Default::default());
}
