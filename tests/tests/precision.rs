//! Proves that the fused operation rounds no worse than others do: over 20 seeds its root mean
//! square error against f64 is at most 1.25 times that of raw operations, and no larger than that
//! of PyTorch's `nn.LSTM` in f32 (`goldens/pytorch/precision.py`), for the output and every
//! gradient.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use scratch_lstm::fused::InstructionSet;
use scratch_lstm::weights::TwoBiasWeights;
use scratch_lstm::{ForwardOptions, Key, PathChoice, ScratchLstm, ScratchLstmConfig};
use scratch_tests::backend::has_f64;
use scratch_tests::{Golden, Named, Values, device, is_gpu};

/// `B`, `T`, `D`, `H`.
type Sizes = [usize; 4];

/// Numbers in ±`bound` that f32 has, as the script draws them: SplitMix64.
fn numbers(seed: u64, stream: u64, count: usize, bound: f64) -> Vec<f64> {
    let mut state = (seed * 1000 + stream).wrapping_mul(0xD134_2543_DE82_EF95);
    let mut draw = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let unit = ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 24);
        f64::from(((2.0 * unit - 1.0) * bound) as f32)
    };
    (0..count).map(|_| draw()).collect()
}

fn run(seed: u64, [b, t, d, h]: Sizes, dtype: DType, path: PathChoice) -> Named {
    let device = device().autodiff();
    let lstm = lstm(seed, d, h, &device, dtype);
    let input = tensor(numbers(seed, 3, b * t * d, 1.0), [b, t, d], &device, dtype).require_grad();
    let cotangent = tensor(numbers(seed, 4, b * t * h, 1.0), [b, t, h], &device, dtype);
    let options = ForwardOptions::new().with_path(path);
    let (output, _) = lstm.forward_with(input.clone(), options);
    let gradients = (output.clone() * cotangent).sum().backward();
    let cell = &lstm.layers[0].forward;
    let bias = cell.bias.as_ref().expect("it has one");
    Named::from([
        ("output".into(), output.into()),
        ("input".into(), input.grad(&gradients).unwrap().into()),
        (
            "weight_ih".into(),
            cell.weight_ih.grad(&gradients).unwrap().into(),
        ),
        (
            "weight_hh".into(),
            cell.weight_hh.grad(&gradients).unwrap().into(),
        ),
        ("bias".into(), bias.grad(&gradients).unwrap().into()),
    ])
}

fn lstm(seed: u64, d: usize, h: usize, device: &Device, dtype: DType) -> ScratchLstm {
    let weights = TwoBiasWeights {
        weight_ih: tensor(numbers(seed, 0, 4 * h * d, 0.5), [4 * h, d], device, dtype),
        weight_hh: tensor(numbers(seed, 1, 4 * h * h, 0.5), [4 * h, h], device, dtype),
        bias_ih: Some(tensor(numbers(seed, 2, 4 * h, 0.5), [4 * h], device, dtype)),
        bias_hh: None,
        weight_hr: None,
    };
    let cell = weights.try_into_cell().unwrap();
    let key = Key::new(0);
    let mut lstm = ScratchLstmConfig::new(d, h).init_with(&key, device);
    lstm.layers[0].forward = scratch_lstm::ScratchLstmCell::from_weights(cell, &key);
    lstm
}

fn tensor<const R: usize>(
    numbers: Vec<f64>,
    shape: [usize; R],
    device: &Device,
    dtype: DType,
) -> Tensor<R> {
    Tensor::from_data(TensorData::new(numbers, shape), (device, dtype))
}

fn squares(found: &Values, exact: &Values) -> f64 {
    let pairs = found.values.iter().zip(&exact.values);
    pairs.map(|(found, exact)| (found - exact).powi(2)).sum()
}

#[test]
fn rounding_is_no_worse_than_raw_operations_or_pytorch() {
    if is_gpu() || !has_f64("rounding_is_no_worse_than_raw_operations_or_pytorch") {
        return;
    }
    let path = Golden::path("precision").with_extension("json");
    let text = std::fs::read_to_string(path).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let sizes: Sizes = serde_json::from_value(golden["sizes"].clone()).unwrap();
    let seeds: Vec<BTreeMap<String, f64>> =
        serde_json::from_value(golden["seeds"].clone()).unwrap();
    assert_eq!(seeds.len(), 20);

    // By name: fused, raw, PyTorch.
    let mut sums: BTreeMap<String, [f64; 3]> = BTreeMap::new();
    for (seed, pytorch) in (0..).zip(&seeds) {
        let exact = run(seed, sizes, DType::F64, PathChoice::Raw);
        let fused = run(seed, sizes, DType::F32, PathChoice::Fused);
        let raw = run(seed, sizes, DType::F32, PathChoice::Raw);
        for (name, exact) in &exact {
            let sums = sums.entry(name.clone()).or_default();
            sums[0] += squares(&fused[name], exact);
            sums[1] += squares(&raw[name], exact);
            sums[2] += pytorch[name];
        }
    }
    assert_eq!(sums.len(), 5);
    // PyTorch's kernels round a product and its sum once; the portable ones round twice.
    let fuses = InstructionSet::chosen() != Ok(InstructionSet::Portable);
    let mut worse = Vec::new();
    for (name, [fused, raw, pytorch]) in sums {
        let (raw, pytorch) = ((fused / raw).sqrt(), (fused / pytorch).sqrt());
        let line = format!("{name}: {raw:.3} of raw operations' error, {pytorch:.3} of PyTorch's");
        println!("{line}");
        if raw > 1.25 || (fuses && pytorch > 1.0) {
            worse.push(line);
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}
