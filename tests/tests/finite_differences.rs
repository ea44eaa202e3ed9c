//! Proves in f64 that the gradients are the slopes of the function: central differences in every
//! entry of every parameter, of the input and of both initial states, and at larger sizes along
//! random directions; stacked and bidirectional, both joins, with lengths in any order (0 among
//! them) and rows that start anew. And that gradient checkpointing changes no gradient.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use scratch_lstm::config::DirectionJoin;
use scratch_lstm::{ForwardOptions, Key, LstmState, ScratchLstm, ScratchLstmConfig};
use scratch_tests::backend::has_f64;
use scratch_tests::probe::{Cotangents, parameters, probe};
use scratch_tests::random::uniform;
use scratch_tests::{Case, Named, Tolerance, Values, assert_all_close, dtypes};

/// The step of the differences. The error of a central difference is about `STEP²` times the third
/// derivative, and rounding costs about `1e-16 / STEP`.
const STEP: f64 = 1e-5;

/// Of differences and gradients, beside `|expected|`.
const ABSOLUTE: f64 = 1e-8;
const RELATIVE: f64 = 1e-7;

/// One call of an LSTM as a function of all its numbers.
struct Function<'a> {
    case: &'a Case,
    lstm: ScratchLstm,
    cotangents: Cotangents,
    lengths: Option<&'a [usize]>,
    resets: Option<&'a [bool]>,
    device: Device,
}

impl<'a> Function<'a> {
    fn new(case: &'a Case, lengths: Option<&'a [usize]>, resets: Option<&'a [bool]>) -> Self {
        let Cotangents { output, state } = case.cotangents();
        Self {
            case,
            lstm: case.lstm().valid(),
            cotangents: Cotangents {
                output: output.inner(),
                state: state.map(Tensor::inner),
            },
            lengths,
            resets,
            device: case.device().without_autodiff(),
        }
    }

    /// Where the slopes are taken: every number that goes in.
    fn point(&self) -> Named {
        let sequence = self.case.sequence();
        let state = sequence.state.unwrap();
        let mut point = parameters(&self.lstm);
        point.insert("input".into(), sequence.input.into());
        point.insert("h_0".into(), state.hidden.into());
        point.insert("c_0".into(), state.cell.into());
        point
    }

    fn at(&self, point: &Named) -> f64 {
        let tensor = |name: &str| -> Tensor<3> {
            let Values { shape, values } = point[name].clone();
            let data = TensorData::new(values, shape);
            Tensor::from_data(data, (&self.device, DType::F64))
        };
        let lstm = self.lstm.clone().map(&mut Replace {
            path: Vec::new(),
            by: point,
        });
        let state = LstmState {
            hidden: tensor("h_0"),
            cell: tensor("c_0"),
        };
        let (output, state) = lstm.forward_with(tensor("input"), self.options().with_state(state));
        self.cotangents.loss(&output, &state).into_scalar()
    }

    fn gradients(&self) -> Named {
        let (sequence, cotangents) = (self.case.sequence(), self.case.cotangents());
        let named = probe(&self.case.lstm(), &sequence, &cotangents, self.options());
        let gradients = named.into_iter().filter_map(|(name, values)| {
            let name = name.strip_prefix("grad.")?;
            Some((name.to_string(), values))
        });
        gradients.collect()
    }

    fn options(&self) -> ForwardOptions<'_> {
        ForwardOptions::new()
            .with_lengths(self.lengths)
            .with_resets(self.resets)
    }

    /// The slope between a little before and a little after `point`.
    fn slope(&self, point: &mut Named, mut shift: impl FnMut(&mut Named, f64)) -> f64 {
        shift(point, STEP);
        let after = self.at(point);
        shift(point, -2.0 * STEP);
        let before = self.at(point);
        shift(point, STEP);
        (after - before) / (2.0 * STEP)
    }
}

struct Replace<'a> {
    path: Vec<String>,
    by: &'a Named,
}

impl ModuleMapper for Replace<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Values { shape, values } = self.by[&self.path.join(".")].clone();
        param.map(|old| {
            let data = TensorData::new(values, shape);
            Tensor::from_data(data, (&old.device(), old.dtype()))
        })
    }
}

fn check(what: &str, slope: f64, gradient: f64) {
    assert!(
        (slope - gradient).abs() <= ABSOLUTE + RELATIVE * gradient.abs(),
        "{what}: slope {slope:e}, gradient {gradient:e}"
    );
}

/// Every entry of everything that goes in.
fn check_every_entry(case: &Case, lengths: Option<&[usize]>, resets: Option<&[bool]>) {
    let function = Function::new(case, lengths, resets);
    let gradients = function.gradients();
    let mut point = function.point();
    assert!(gradients.keys().eq(point.keys()), "{:?}", gradients.keys());
    for (name, gradient) in &gradients {
        for (index, &gradient) in gradient.values.iter().enumerate() {
            let slope = function.slope(&mut point, |point, by| {
                point.get_mut(name).unwrap().values[index] += by;
            });
            check(&format!("{case}: {name}, entry {index}"), slope, gradient);
        }
    }
}

/// Some directions in the space of all that goes in.
fn check_directions(case: &Case, lengths: Option<&[usize]>, resets: Option<&[bool]>) {
    let function = Function::new(case, lengths, resets);
    let gradients = function.gradients();
    let mut point = function.point();
    for (name, gradient) in &gradients {
        for number in 0..3 {
            let key = Key::new(case.seed)
                .child("direction")
                .child(name)
                .child(number);
            let direction = uniform(gradient.values.len(), &key);
            let along: f64 = direction
                .iter()
                .zip(&gradient.values)
                .map(|(d, g)| d * g)
                .sum();
            let slope = function.slope(&mut point, |point, by| {
                let values = &mut point.get_mut(name).unwrap().values;
                values
                    .iter_mut()
                    .zip(&direction)
                    .for_each(|(value, d)| *value += by * d);
            });
            check(&format!("{case}: {name}, direction {number}"), slope, along);
        }
    }
}

fn small() -> ScratchLstmConfig {
    ScratchLstmConfig::new(2, 3)
        .with_num_layers(2)
        .with_bidirectional(true)
}

fn case(config: ScratchLstmConfig) -> Case {
    Case::new(config).with_dtype(DType::F64)
}

#[test]
fn every_entry_with_lengths_and_resets() {
    if !has_f64("every_entry_with_lengths_and_resets") {
        return;
    }
    for join in [DirectionJoin::EachLayer, DirectionJoin::AtEnd] {
        let case = case(small().with_join(join)).with_sizes(4, 5);
        let (lengths, resets) = ([3, 5, 0, 1], [false, true, false, false]);
        check_every_entry(&case, Some(&lengths), Some(&resets));
    }
}

#[test]
fn every_entry_of_the_plain_call() {
    if !has_f64("every_entry_of_the_plain_call") {
        return;
    }
    check_every_entry(&case(small()).with_sizes(2, 4), None, None);
    let one = ScratchLstmConfig::new(3, 4)
        .with_bias(false)
        .with_batch_first(false);
    check_every_entry(&case(one).with_sizes(3, 9), None, None);
}

#[test]
fn random_directions_at_larger_sizes() {
    if !has_f64("random_directions_at_larger_sizes") {
        return;
    }
    for (join, batch_first) in [
        (DirectionJoin::EachLayer, true),
        (DirectionJoin::AtEnd, false),
    ] {
        let config = ScratchLstmConfig::new(5, 11)
            .with_num_layers(3)
            .with_bidirectional(true)
            .with_join(join)
            .with_batch_first(batch_first);
        let case = case(config).with_sizes(5, 19);
        check_directions(&case, None, None);
        let lengths = [19, 0, 7, 18, 8];
        check_directions(
            &case,
            Some(&lengths),
            Some(&[true, false, false, true, false]),
        );
    }
}

#[test]
fn gradient_checkpointing_changes_no_gradient() {
    for dtype in dtypes() {
        for join in [DirectionJoin::EachLayer, DirectionJoin::AtEnd] {
            let config = ScratchLstmConfig::new(5, 11)
                .with_num_layers(2)
                .with_bidirectional(true)
                .with_join(join)
                .with_dropout(0.3);
            let case = Case::new(config).with_sizes(4, 19).with_dtype(dtype);
            let run = |case: &Case| {
                let (lengths, key) = ([19, 0, 7, 18], Key::new(5));
                let options = ForwardOptions::new()
                    .with_lengths(&lengths[..])
                    .with_resets(&[false, false, true, false][..])
                    .with_key(&key);
                probe(&case.lstm(), &case.sequence(), &case.cotangents(), options)
            };
            let expected = run(&case);
            let found = run(&case.clone().with_checkpointing());
            let tolerance = Tolerance::of(dtype);
            assert_all_close(&case.to_string(), &found, &expected, tolerance);
        }
    }
}
