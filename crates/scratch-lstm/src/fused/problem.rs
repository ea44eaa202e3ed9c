//! Problems for this module's own tests, the same numbers on every backend.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, TensorData};
use rand::Rng;

use super::{LstmCall, LstmCotangents, LstmInputs, LstmMasks, Optional, OptionalLayerNorm, Wanted};
use crate::config::CellConfig;
use crate::random::Key;
use crate::valid::Valid;

/// `B`, `T`, `D`, `H` and `P`.
pub(super) const SIZES: [usize; 5] = [3, 7, 5, 11, 6];

pub(super) const EVERYTHING: Wanted = Wanted {
    x: true,
    weight_ih: true,
    weight_hh: true,
    bias: true,
    h0: true,
    c0: true,
    weight_hr: true,
    peephole: true,
    layer_norm: true,
};

/// What a cell can have besides the plain equations.
pub(super) const VARIANTS: [&str; 9] = [
    "projection",
    "peepholes",
    "coupled",
    "clip_gates",
    "clip_cell",
    "layer_norm",
    "hidden mask",
    "zoneout_hidden",
    "zoneout_cell",
];

/// Random numbers for some of the variants.
pub(super) fn problem<B: Backend>(
    variants: &[&str],
    dtype: DType,
    batch_first: bool,
    device: &B::Device,
) -> (LstmInputs<B>, LstmCotangents<B>, LstmCall) {
    let [b, t, d, h, p] = SIZES;
    let has = |variant: &str| variants.contains(&variant);
    // The narrow one is that of `VARIANTS`.
    let p = match (
        has("projection"),
        has("square projection"),
        has("wide projection"),
    ) {
        (true, ..) => p,
        (_, true, _) => h,
        (.., true) => h + 2,
        _ => h,
    };
    let projects = variants
        .iter()
        .any(|variant| variant.ends_with("projection"));
    let random = |name: &str, shape: &[usize]| tensor::<B>(name, shape, dtype, device);
    let series = |name: &str, width: usize| match batch_first {
        true => random(name, &[b, t, width]),
        false => random(name, &[t, b, width]),
    };
    let optional = |variant: &str, shape: &[usize]| match has(variant) {
        true => Optional::Present(random(variant, shape)),
        false => Optional::Absent,
    };
    let inputs = LstmInputs {
        x: series("x", d),
        weight_ih: random("weight_ih", &[4 * h, d]),
        weight_hh: random("weight_hh", &[4 * h, p]),
        bias: random("bias", &[4 * h]),
        h0: random("h0", &[b, p]),
        c0: random("c0", &[b, h]),
        weight_hr: projects.then(|| random("projection", &[p, h])).into(),
        peephole: optional("peepholes", &[3 * h]),
        layer_norm: match has("layer_norm") {
            true => OptionalLayerNorm::Present {
                input: random("norm_input", &[4 * h]),
                hidden: random("norm_hidden", &[4 * h]),
                cell: random("norm_cell", &[h]),
                cell_bias: random("norm_cell_bias", &[h]),
            },
            false => OptionalLayerNorm::Absent,
        },
        masks: LstmMasks {
            hidden: optional("hidden mask", &[b, p]),
            zoneout_hidden: optional("zoneout_hidden", &[t, b, p]),
            zoneout_cell: optional("zoneout_cell", &[t, b, h]),
        },
    };
    let cotangents = LstmCotangents {
        output: Some(series("d_output", p)),
        hidden: Some(random("d_hidden", &[b, p])),
        cell: Some(random("d_cell", &[b, h])),
    };
    let call = LstmCall {
        batch_first,
        reverse: true,
        valid: Valid::All,
        cell: CellConfig {
            peepholes: has("peepholes"),
            coupled: has("coupled"),
            clip_gates: has("clip_gates").then_some(0.4),
            clip_cell: has("clip_cell").then_some(0.2),
            layer_norm: has("layer_norm"),
            ..CellConfig::default()
        },
        segment: std::num::NonZeroUsize::new(3),
        checkpoint: false,
    };
    (inputs, cotangents, call)
}

/// The gradients of all that is there.
pub(super) fn wanted_of<B: Backend>(inputs: &LstmInputs<B>) -> Wanted {
    Wanted {
        weight_hr: inputs.weight_hr.as_option().is_some(),
        peephole: inputs.peephole.as_option().is_some(),
        layer_norm: matches!(inputs.layer_norm, OptionalLayerNorm::Present { .. }),
        ..EVERYTHING
    }
}

/// Compares numbers by numbers.
pub(super) fn close(what: &str, found: Vec<f64>, expected: Vec<f64>, tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.into_iter().zip(expected) {
        let difference = (found - expected).abs();
        assert!(
            difference <= tolerance,
            "{what}: {found}, expected {expected}"
        );
    }
}

fn tensor<B: Backend>(
    name: &str,
    shape: &[usize],
    dtype: DType,
    device: &B::Device,
) -> FloatTensor<B> {
    let mut rng = Key::new(3).child(name).rng();
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5)
        .collect();
    let data = TensorData::new(values, shape.to_vec()).convert_dtype(dtype);
    B::float_from_data(data, device)
}
