//! The operation in tensor operations beside the kernels, and what only shows in its own tensors.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, TensorData};

use super::*;
use crate::fused::problem::{EVERYTHING, SIZES, VARIANTS, close, problem, wanted_of};
use crate::fused::{LstmKernels, Optional, OptionalLayerNorm};
use crate::gates::COUNT;
use crate::valid::Valid;

type Tensor = FloatTensor<Flex>;

/// The two rungs of the ladder that no test of a whole module sets side by side: the plain cell,
/// each variant alone, and all of them.
#[test]
fn tensor_operations_and_kernels_agree() {
    let alone = VARIANTS.map(|variant| vec![variant]);
    let sets = [vec![], VARIANTS.to_vec()].into_iter().chain(alone);
    for variants in sets {
        for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F64, 1e-13)] {
            // Division by small deviations enlarges rounding errors.
            let tolerance = match variants.contains(&"layer_norm") {
                true => 10.0 * tolerance,
                false => tolerance,
            };
            for keep in [Keep::Everything, Keep::Boundaries] {
                for (batch_first, reverse) in [(true, false), (false, true)] {
                    let (inputs, cotangents, mut call) =
                        problem(&variants, dtype, batch_first, &Default::default());
                    call.reverse = reverse;
                    call.checkpoint = keep == Keep::Boundaries;
                    if call.checkpoint {
                        call.valid = Valid::Lengths([7, 0, 4].into());
                    }
                    let (outputs, saved) = forward(inputs.clone(), &call, keep);
                    let wanted = wanted_of(&inputs);
                    let gradients =
                        backward(inputs.clone(), saved, cotangents.clone(), &call, wanted);
                    let (expected, saved) = Flex::lstm_forward(inputs.clone(), &call, keep);
                    let shown = expected.output.clone();
                    let kernels =
                        Flex::lstm_backward(inputs, shown, saved, cotangents, &call, wanted);
                    let what = |what: &str| format!("{what} in {dtype:?}, {variants:?}, {call:?}");
                    for (name, found, expected) in [
                        ("output", outputs.output, expected.output),
                        ("hidden", outputs.hidden, expected.hidden),
                        ("cell", outputs.cell, expected.cell),
                    ] {
                        close(&what(name), numbers(found), numbers(expected), tolerance);
                    }
                    let pairs = gradients.into_order().into_iter().zip(kernels.into_order());
                    for (place, pair) in pairs.enumerate() {
                        let what = what(&format!("gradient {place}"));
                        match pair {
                            (Some(found), Some(expected)) => {
                                close(&what, numbers(found), numbers(expected), tolerance);
                            }
                            (None, None) => assert!(place > 5, "{what}"),
                            _ => panic!("{what}: there on one side only"),
                        }
                    }
                }
            }
        }
    }
}

/// All of them at once, in f64, from the last step to the first.
fn every_variant() -> (LstmInputs<Flex>, LstmCotangents<Flex>, LstmCall) {
    problem(&VARIANTS, DType::F64, false, &Default::default())
}

fn numbers(tensor: Tensor) -> Vec<f64> {
    tensor.to_contiguous().into_data().iter::<f64>().collect()
}

/// Results, and the gradients that are wanted, in the order of the inputs.
fn solve(
    (inputs, cotangents, call): (LstmInputs<Flex>, LstmCotangents<Flex>, LstmCall),
    wanted: Wanted,
) -> (Vec<Vec<f64>>, Vec<Option<Vec<f64>>>) {
    let (outputs, saved) = forward(inputs.clone(), &call, Keep::Everything);
    let gradients = backward(inputs, saved, cotangents, &call, wanted);
    let results = [outputs.output, outputs.hidden, outputs.cell].map(numbers);
    let gradients = gradients.into_order().map(|tensor| tensor.map(numbers));
    (results.to_vec(), gradients.to_vec())
}

/// Whoever calls the operation itself has four blocks of weights, whatever the cell.
#[test]
fn the_forget_gate_of_coupled_gates_has_neither_influence_nor_gradient() {
    let [_, _, d, h, p] = SIZES;
    let (expected, gradients) = solve(every_variant(), EVERYTHING);
    let (mut inputs, cotangents, call) = every_variant();
    // Other numbers in the second of the blocks.
    let change = |tensor: &mut Tensor, blocks: usize| {
        let shape = tensor.shape();
        let mut values = numbers(tensor.clone());
        let block = values.len() / blocks;
        for value in &mut values[block..2 * block] {
            *value = 3.0 - *value;
        }
        let data = TensorData::new(values, shape);
        *tensor = Flex::float_from_data(data, &Default::default());
    };
    change(&mut inputs.weight_ih, COUNT);
    change(&mut inputs.weight_hh, COUNT);
    change(&mut inputs.bias, COUNT);
    if let Optional::Present(peephole) = &mut inputs.peephole {
        change(peephole, COUNT - 1);
    }
    if let OptionalLayerNorm::Present { input, hidden, .. } = &mut inputs.layer_norm {
        change(input, COUNT);
        change(hidden, COUNT);
    }
    let changed = solve((inputs, cotangents, call), EVERYTHING);
    assert_eq!(changed, (expected, gradients.clone()));
    // Their places in the order of inputs, and the width of a gate's block.
    for (what, place, block) in [
        ("weight_ih", 1, h * d),
        ("weight_hh", 2, h * p),
        ("bias", 3, h),
        ("peephole", 7, h),
        ("layer_norm.input", 8, h),
        ("layer_norm.hidden", 9, h),
    ] {
        let gradient = gradients[place].as_ref().unwrap();
        let [before, none, after] = [0, 1, 2].map(|gate| &gradient[gate * block..][..block]);
        assert!(none.iter().all(|&value| value == 0.0), "{what}");
        for part in [before, after] {
            assert!(part.iter().any(|&value| value != 0.0), "{what}");
        }
    }
}

#[test]
fn nothing_of_steps_that_are_not_valid_reaches_anything() {
    let [b, t, ..] = SIZES;
    let valid: Vec<bool> = (0..b * t).map(|place| place * 5 % 7 > 2).collect();
    let run = |filling: f64| {
        let (mut inputs, mut cotangents, mut call) = every_variant();
        call.valid = Valid::Mask(valid.clone().into());
        let fill = |tensor: &mut Tensor| {
            let shape = tensor.shape();
            let mut values = numbers(tensor.clone());
            let width = values.len() / valid.len();
            for (place, &valid) in valid.iter().enumerate() {
                if !valid {
                    values[place * width..][..width].fill(filling);
                }
            }
            let data = TensorData::new(values, shape);
            *tensor = Flex::float_from_data(data, &Default::default());
        };
        fill(&mut inputs.x);
        cotangents.output.iter_mut().for_each(fill);
        solve((inputs, cotangents, call), EVERYTHING)
    };
    let (results, gradients) = run(0.0);
    let all = gradients.iter().map(|gradient| gradient.as_ref().unwrap());
    for numbers in results.iter().chain(all) {
        assert!(numbers.iter().all(|number| number.is_finite()));
    }
    assert_eq!(run(f64::NAN), (results, gradients));
}

#[test]
fn what_is_wanted_does_not_depend_on_what_else_is() {
    let nothing = Wanted {
        x: false,
        weight_ih: false,
        weight_hh: false,
        bias: false,
        h0: false,
        c0: false,
        weight_hr: false,
        peephole: false,
        layer_norm: false,
    };
    type Want = fn(&mut Wanted) -> &mut bool;
    // With the places of the gradients in the order of inputs.
    let all: [(std::ops::Range<usize>, Want); 9] = [
        (0..1, |wanted| &mut wanted.x),
        (1..2, |wanted| &mut wanted.weight_ih),
        (2..3, |wanted| &mut wanted.weight_hh),
        (3..4, |wanted| &mut wanted.bias),
        (4..5, |wanted| &mut wanted.h0),
        (5..6, |wanted| &mut wanted.c0),
        (6..7, |wanted| &mut wanted.weight_hr),
        (7..8, |wanted| &mut wanted.peephole),
        (8..12, |wanted| &mut wanted.layer_norm),
    ];
    let (_, expected) = solve(every_variant(), EVERYTHING);
    for (places, want) in all {
        let mut wanted = nothing;
        *want(&mut wanted) = true;
        let (_, found) = solve(every_variant(), wanted);
        for (place, found) in found.iter().enumerate() {
            let expected = expected[place].as_ref();
            let expected = expected.filter(|_| places.contains(&place));
            assert_eq!(found.as_ref(), expected, "{place} of {wanted:?}");
        }
    }
}
