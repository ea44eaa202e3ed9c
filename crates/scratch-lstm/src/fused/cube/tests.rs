//! Both rungs beside the kernels for processors: the plain cell, each variant alone, and all of
//! them. On whatever GPU there is, a software adapter among them.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex};
use burn::tensor::TensorData;

use super::*;
use crate::fused::LstmKernels;
use crate::fused::problem::{SIZES, VARIANTS, close, problem, wanted_of};
use crate::valid::Valid;

/// How a sequence is walked over.
#[derive(Debug, Clone, Copy)]
struct Case {
    keep: Keep,
    batch_first: bool,
    reverse: bool,
    valid: fn() -> Valid,
}

const CASES: [Case; 4] = [
    Case {
        keep: Keep::Everything,
        batch_first: true,
        reverse: false,
        valid: || Valid::All,
    },
    Case {
        keep: Keep::Everything,
        batch_first: true,
        reverse: false,
        valid: || Valid::Lengths([4, 7, 1].into()),
    },
    Case {
        keep: Keep::Boundaries,
        batch_first: false,
        reverse: true,
        valid: || Valid::Lengths([7, 0, 4].into()),
    },
    Case {
        keep: Keep::Everything,
        batch_first: false,
        reverse: true,
        valid: || {
            let [b, t, ..] = SIZES;
            Valid::Mask((0..b * t).map(|place| place * 5 % 7 > 2).collect())
        },
    },
];

#[test]
fn both_rungs_agree_with_the_kernels_for_processors() {
    let stepwise = ["projection", "layer_norm"];
    let on_both = |variant: &&str| !stepwise.contains(variant);
    let on_both: Vec<&str> = VARIANTS.into_iter().filter(on_both).collect();
    let all = VARIANTS.to_vec();
    let alone = VARIANTS.into_iter().map(|variant| vec![variant]);
    for variants in [vec![], on_both, all].into_iter().chain(alone) {
        for case in CASES {
            check(&variants, DType::F32, case, Rung::Stepwise);
            if !variants.iter().any(|variant| stepwise.contains(variant)) {
                check(&variants, DType::F32, case, Rung::Persistent);
            }
        }
    }
}

/// What is rounded between kernels, and only that, is of the narrow type.
#[test]
fn half_precision_agrees_with_that_of_processors() {
    let device = CubeDevice::default();
    for dtype in [DType::F16, DType::BF16] {
        if !has_type(&device, dtype) {
            eprintln!("skipped: {dtype:?}, {device:?} has none");
            continue;
        }
        for case in CASES {
            check(&VARIANTS, dtype, case, Rung::Stepwise);
            check(&["peepholes"], dtype, case, Rung::Persistent);
        }
    }
}

fn check(variants: &[&str], dtype: DType, case: Case, rung: Rung) {
    let what = |what: &str| format!("{what} of {variants:?}, {dtype:?}, {case:?}, {rung}");
    let change = |mut call: LstmCall| {
        call.reverse = case.reverse;
        call.valid = (case.valid)();
        call.checkpoint = case.keep == Keep::Boundaries;
        call
    };
    let (inputs, cotangents, call) =
        problem::<Flex>(variants, dtype, case.batch_first, &Default::default());
    let call = change(call);
    let wanted = wanted_of(&inputs);
    let (expected, saved) = Flex::lstm_forward(inputs.clone(), &call, case.keep);
    let shown = expected.output.clone();
    let gradients = Flex::lstm_backward(inputs, shown, saved, cotangents, &call, wanted);

    let device = CubeDevice::default();
    let (inputs, cotangents, _) =
        problem::<CubeBackend>(variants, dtype, case.batch_first, &device);
    let (outputs, saved) = forward(inputs.clone(), &call, case.keep, rung);
    let shown = outputs.output.clone();
    let found = backward(
        inputs.clone(),
        shown,
        saved,
        cotangents,
        &call,
        wanted,
        rung,
    );

    let tolerance = match dtype {
        DType::F32 => 2e-5,
        DType::F16 => 4e-3,
        _ => 3.2e-2,
    };
    for (name, found, expected) in [
        ("output", outputs.output, expected.output),
        ("hidden", outputs.hidden, expected.hidden),
        ("cell", outputs.cell, expected.cell),
    ] {
        close(&what(name), numbers(found), of_flex(expected), tolerance);
    }
    let pairs = found.into_order().into_iter().zip(gradients.into_order());
    for (place, pair) in pairs.enumerate() {
        let what = what(&format!("gradient {place}"));
        match pair {
            (Some(found), Some(expected)) => {
                close(&what, numbers(found), of_flex(expected), tolerance);
            }
            (None, None) => assert!(place > 5, "{what}"),
            _ => panic!("{what}: there on one side only"),
        }
    }
}

fn numbers(tensor: CubeTensor) -> Vec<f64> {
    let data = burn_cubecl::ops::into_data_sync(tensor);
    data.iter::<f64>().collect()
}

fn of_flex(tensor: FloatTensor<Flex>) -> Vec<f64> {
    tensor.to_contiguous().into_data().iter::<f64>().collect()
}

/// A network that has diverged must show it, whatever is clipped: a bound in the place of NaN would
/// hide it from the loss.
#[test]
fn nan_is_not_clipped_away() {
    fn broken<B: Backend>(device: &B::Device) -> (LstmInputs<B>, LstmCall) {
        let variants = ["clip_gates", "clip_cell"];
        let (mut inputs, _, call) = problem::<B>(&variants, DType::F32, true, device);
        let [_, _, d_input, d_hidden, _] = SIZES;
        let shape = [4 * d_hidden, d_input];
        let mut weights = vec![0.1f32; 4 * d_hidden * d_input];
        weights[0] = f32::NAN;
        inputs.weight_ih = B::float_from_data(TensorData::new(weights, shape), device);
        (inputs, call)
    }
    let (inputs, call) = broken::<Flex>(&Default::default());
    let (expected, _) = Flex::lstm_forward(inputs, &call, Keep::Nothing);
    let is_nan =
        |numbers: Vec<f64>| -> Vec<bool> { numbers.into_iter().map(f64::is_nan).collect() };
    let expected = is_nan(of_flex(expected.output));
    assert!(expected.contains(&true));
    for rung in [Rung::Stepwise, Rung::Persistent] {
        let (inputs, call) = broken::<CubeBackend>(&CubeDevice::default());
        let (found, _) = forward(inputs, &call, Keep::Nothing, rung);
        assert_eq!(is_nan(numbers(found.output)), expected, "{rung}");
    }
}
