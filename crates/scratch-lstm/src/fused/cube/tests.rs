//! Both rungs beside the kernels for processors: the plain cell, each variant alone, every two, and
//! all of them. On whatever GPU there is, a software adapter among them.

use std::num::NonZeroUsize;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex, get_device_settings};
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
    /// Steps of a segment.
    segment: Option<NonZeroUsize>,
    /// Whether the final hidden state and the final cell state have gradients.
    state: [bool; 2],
    /// Whether some gradients are not wanted.
    frozen: bool,
}

const CASES: [Case; 4] = [
    Case {
        keep: Keep::Everything,
        batch_first: true,
        reverse: false,
        valid: || Valid::All,
        segment: None,
        state: [true, true],
        frozen: false,
    },
    Case {
        keep: Keep::Everything,
        batch_first: true,
        reverse: false,
        valid: || Valid::Lengths([4, 7, 1].into()),
        segment: NonZeroUsize::new(3),
        state: [false, false],
        frozen: true,
    },
    Case {
        keep: Keep::Boundaries,
        batch_first: false,
        reverse: true,
        valid: || Valid::Lengths([7, 0, 4].into()),
        segment: NonZeroUsize::new(3),
        state: [true, false],
        frozen: false,
    },
    Case {
        keep: Keep::Everything,
        batch_first: false,
        reverse: true,
        valid: || {
            let [b, t, ..] = SIZES;
            Valid::Mask((0..b * t).map(|place| place * 5 % 7 > 2).collect())
        },
        segment: NonZeroUsize::new(3),
        state: [false, true],
        frozen: false,
    },
];

/// What only the stepwise rung has.
const STEPWISE: [&str; 4] = [
    "projection",
    "square projection",
    "wide projection",
    "layer_norm",
];

#[test]
fn both_rungs_agree_with_the_kernels_for_processors() {
    let on_both = VARIANTS.into_iter().filter(|it| !STEPWISE.contains(it));
    let several = [
        vec![],
        on_both.collect(),
        VARIANTS.to_vec(),
        vec!["square projection", "zoneout_hidden"],
        vec!["wide projection", "layer_norm"],
    ];
    let alone = VARIANTS.into_iter().map(|variant| vec![variant]);
    for variants in several.into_iter().chain(alone) {
        for case in CASES {
            check(&variants, DType::F32, case);
        }
    }
}

#[test]
fn every_two_variants_agree_with_the_kernels_for_processors() {
    for (place, first) in VARIANTS.into_iter().enumerate() {
        for second in VARIANTS.into_iter().skip(place + 1) {
            check(&[first, second], DType::F32, CASES[3]);
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
            check(&VARIANTS, dtype, case);
            check(&["peepholes"], dtype, case);
        }
    }
}

/// On both rungs, if both have it.
fn check(variants: &[&str], dtype: DType, case: Case) {
    let expected = results::<Flex>(
        variants,
        dtype,
        case,
        &Default::default(),
        Flex::lstm_forward,
        Flex::lstm_backward,
        of_flex,
    );
    let mut rungs = vec![Rung::Stepwise];
    if !variants.iter().any(|variant| STEPWISE.contains(variant)) {
        rungs.push(Rung::Persistent);
    }
    let tolerance = match dtype {
        DType::F32 => 2e-5,
        DType::F16 => 4e-3,
        _ => 3.2e-2,
    };
    for rung in rungs {
        let found = results::<CubeBackend>(
            variants,
            dtype,
            case,
            &CubeDevice::default(),
            |inputs, call, keep| forward(inputs, call, keep, rung),
            |inputs, output, saved, cotangents, call, wanted| {
                backward(inputs, output, saved, cotangents, call, wanted, rung)
            },
            numbers,
        );
        assert_eq!(found.len(), expected.len());
        for ((name, found), (_, expected)) in found.into_iter().zip(&expected) {
            let what = format!("{name} of {variants:?}, {dtype:?}, {case:?}, {rung}");
            match (found, expected) {
                (Some(found), Some(expected)) => close(&what, found, expected.clone(), tolerance),
                (None, None) => {}
                _ => panic!("{what}: there on one side only"),
            }
        }
    }
}

/// What was returned, with everything that is asked for kept and with nothing, and all gradients.
fn results<B: Backend>(
    variants: &[&str],
    dtype: DType,
    case: Case,
    device: &B::Device,
    forward: impl Fn(LstmInputs<B>, &LstmCall, Keep) -> (LstmOutputs<B>, Saved),
    backward: impl FnOnce(
        LstmInputs<B>,
        FloatTensor<B>,
        Saved,
        LstmCotangents<B>,
        &LstmCall,
        Wanted,
    ) -> LstmGradients<B>,
    numbers: impl Fn(FloatTensor<B>) -> Vec<f64>,
) -> Vec<(String, Option<Vec<f64>>)> {
    let (mut inputs, mut cotangents, mut call) =
        problem::<B>(variants, dtype, case.batch_first, device);
    call.reverse = case.reverse;
    call.valid = (case.valid)();
    call.checkpoint = case.keep == Keep::Boundaries;
    call.segment = case.segment;
    // What lies where rows lack steps must reach nothing.
    inputs.x = poisoned::<B>(inputs.x, &call, device);
    cotangents.output = cotangents
        .output
        .map(|gradient| poisoned::<B>(gradient, &call, device));
    let [hidden, cell] = case.state;
    cotangents.hidden = cotangents.hidden.filter(|_| hidden);
    cotangents.cell = cotangents.cell.filter(|_| cell);
    let all = wanted_of(&inputs);
    let wanted = match case.frozen {
        false => all,
        true => Wanted {
            x: false,
            weight_ih: false,
            h0: false,
            weight_hr: false,
            peephole: false,
            layer_norm: false,
            ..all
        },
    };
    let (unkept, _) = forward(inputs.clone(), &call, Keep::Nothing);
    let (outputs, saved) = forward(inputs.clone(), &call, case.keep);
    let shown = outputs.output.clone();
    let gradients = backward(inputs, shown, saved, cotangents, &call, wanted);
    let returned = [("unkept", unkept), ("kept", outputs)].map(|(what, outputs)| {
        [
            (format!("{what} output"), outputs.output),
            (format!("{what} hidden"), outputs.hidden),
            (format!("{what} cell"), outputs.cell),
        ]
    });
    let returned = returned.into_iter().flatten();
    let returned = returned.map(|(name, tensor)| (name, Some(tensor)));
    let gradients = gradients.into_order().into_iter().enumerate();
    let gradients = gradients.map(|(place, tensor)| (format!("gradient {place}"), tensor));
    let all = returned.chain(gradients);
    all.map(|(name, tensor)| (name, tensor.map(&numbers)))
        .collect()
}

/// NaN where rows lack steps.
fn poisoned<B: Backend>(
    series: FloatTensor<B>,
    call: &LstmCall,
    device: &B::Device,
) -> FloatTensor<B> {
    let [b, t, ..] = SIZES;
    let [first, second, _] = series.shape().dims();
    let missing = (0..first * second).map(|place| {
        let (time, row) = match call.batch_first {
            true => (place % t, place / t),
            false => (place / b, place % b),
        };
        !call.valid.is_valid(time, row, b)
    });
    let missing = TensorData::new(missing.collect(), [first, second, 1]);
    let dtype = get_device_settings::<B>(device).bool_dtype;
    let missing = B::bool_from_data(missing.convert_dtype(dtype.into()), device);
    let missing = B::bool_expand(missing, series.shape());
    B::float_mask_fill(series, missing, f64::NAN.into())
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
