//! Proves that each variant of the cell is the equations of its paper: outputs, states and every
//! gradient, by goldens beside the script that computes them one step after the other.

use burn::module::Param;
use burn::tensor::{DType, Device};
use scratch_lstm::{
    CellWeights, ForwardOptions, Key, LayerNormWeights, LstmState, ScratchLstm, ScratchLstmCell,
    ScratchLstmConfig,
};
use scratch_tests::golden::Golden;
use scratch_tests::probe::{Cotangents, Sequence, probe};
use scratch_tests::{Named, PATHS, Tolerance, Values, assert_all_close, device, dtypes};

const CASES: [&str; 10] = [
    "projection",
    "peepholes",
    "coupled",
    "clip_gates",
    "clip_cell",
    "layer_norm",
    "layer_norm_coupled",
    "zoneout",
    "layer_norm_zoneout",
    "all",
];

const D_HIDDEN: usize = 11;

#[test]
fn outputs_states_and_gradients() {
    for name in CASES {
        let golden = Golden::equations(name);
        for dtype in dtypes() {
            let device = device().autodiff();
            let lstm = lstm_of(&golden, &device, dtype);
            let constant = |name: &str| golden.tensor::<3>(name, &device, dtype);
            let sequence = Sequence {
                input: constant("input").require_grad(),
                state: Some(LstmState {
                    hidden: constant("h_0").require_grad(),
                    cell: constant("c_0").require_grad(),
                }),
            };
            let cotangents = Cotangents {
                output: constant("d_output"),
                state: LstmState {
                    hidden: constant("d_h_n"),
                    cell: constant("d_c_n"),
                },
            };
            let expected = expected(&golden, lstm.config().cell.coupled);
            for path in PATHS {
                let options = ForwardOptions::new().with_path(path);
                let found = probe(&lstm, &sequence.fresh(), &cotangents, options);
                let what = format!("{name} in {dtype:?}, {path:?}");
                // Sums over units that are divided by a deviation below 1.
                let tolerance = Tolerance::of(dtype).times(4.0);
                assert_all_close(&what, &found, &expected, tolerance);
            }
        }
    }
}

/// The settings of a golden file as this project's.
fn config_of(golden: &Golden) -> ScratchLstmConfig {
    let number = |name: &str| golden.settings[name].as_f64();
    let is_set = |name: &str| golden.settings[name].as_bool().unwrap_or(false);
    let d_proj = number("d_proj").map(|width| width as usize);
    let mut config = ScratchLstmConfig::new(5, D_HIDDEN).with_projection(d_proj);
    config.cell.peepholes = is_set("peepholes");
    config.cell.coupled = is_set("coupled");
    config.cell.layer_norm = is_set("layer_norm");
    config.cell.clip_gates = number("clip_gates");
    config.cell.clip_cell = number("clip_cell");
    config.regularization.zoneout_hidden = number("zoneout_hidden").unwrap_or(0.0);
    config.regularization.zoneout_cell = number("zoneout_cell").unwrap_or(0.0);
    config
}

/// The LSTM of a golden file, outside of training: its zoneout has no masks.
fn lstm_of(golden: &Golden, device: &Device, dtype: DType) -> ScratchLstm {
    let config = config_of(golden);
    let matrix = |name: &str| golden.tensor::<2>(name, device, dtype);
    let vector = |name: &str| golden.tensor::<1>(name, device, dtype);
    let weights = CellWeights {
        weight_ih: matrix("weight_ih"),
        weight_hh: matrix("weight_hh"),
        bias: Some(vector("bias")),
        weight_hr: golden.has("weight_hr").then(|| matrix("weight_hr")),
        peephole: golden.has("peephole").then(|| vector("peephole")),
        layer_norm: config.cell.layer_norm.then(|| LayerNormWeights {
            input: vector("layer_norm.input"),
            hidden: vector("layer_norm.hidden"),
            cell: vector("layer_norm.cell"),
            cell_bias: vector("layer_norm.cell_bias"),
        }),
    };
    let key = Key::new(0).child("lstm");
    let mut lstm = config.init_with(&key, device);
    lstm.layers[0].forward = ScratchLstmCell::with_config(weights, &config.cell, &key);
    lstm.training = Param::from_bool(false);
    lstm
}

/// Results and gradients under the names that a probe gives them.
fn expected(golden: &Golden, coupled: bool) -> Named {
    let results = ["output", "h_n", "c_n", "grad.input", "grad.h_0", "grad.c_0"];
    let mut named: Named = results
        .map(|name| (name.to_string(), golden.values(name)))
        .into();
    for name in golden.names() {
        let Some(parameter) = name.strip_prefix("grad.") else {
            continue;
        };
        if ["input", "h_0", "c_0"].contains(&parameter) {
            continue;
        }
        let mut values = golden.values(name);
        if coupled && values.shape[0] == 4 * D_HIDDEN {
            values = without_forget(values);
        }
        named.insert(format!("grad.layers.0.forward.{parameter}"), values);
    }
    named
}

/// The blocks of three gates: that of the forget gate has no influence.
fn without_forget(values: Values) -> Values {
    let Values {
        mut shape,
        mut values,
    } = values;
    let block = values.len() / 4;
    let forget: Vec<f64> = values.drain(block..2 * block).collect();
    assert!(forget.iter().all(|&gradient| gradient == 0.0));
    shape[0] -= D_HIDDEN;
    Values::new(shape, values)
}
