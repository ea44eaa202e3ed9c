//! The same weights and data on every backend that is built in: how far are they apart?
//!
//! Weights, inputs and dropout masks are drawn on the host, by key, so that they are equal on
//! every backend to the last bit. What differs is the order in which a backend sums, which shows
//! in the last digits of `f32`.
//!
//! ```text
//! cargo run --release --example switch_backends --features ndarray
//! cargo run --release --example switch_backends --features ndarray,wgpu
//! ```

use std::error::Error;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use scratch_lstm::{ForwardOptions, Key, ScratchLstmConfig};
use scratch_train::backend::{self, Backend};

fn main() -> Result<(), Box<dyn Error>> {
    // To choose a backend by name makes it use a software GPU, too, where there is no real one.
    let mut results = Vec::new();
    for backend in Backend::PREFERENCE {
        if !backend.is_built_in() {
            continue;
        }
        match backend::choose(Some(backend)) {
            Ok(chosen) => results.push((backend, chosen.name, compute(&chosen.device)?)),
            Err(error) => eprintln!("left out: {error}"),
        }
    }
    let Some((first, _, reference)) = results.first() else {
        return Err("expected a backend with a device on this machine, found none".into());
    };

    println!("two layers, both directions, dropout; {ROWS} sequences of {STEPS} steps");
    println!(
        "{:<10} {:>10} {:>10} {:>10}  device",
        "", "outputs", "states", "gradients"
    );
    let row = |label: String, numbers: [f32; 3], device: &str| {
        let [outputs, states, gradients] = numbers;
        println!("{label:<10} {outputs:>10.1e} {states:>10.1e} {gradients:>10.1e}  {device}");
    };
    for (backend, device, result) in &results {
        if backend == first {
            // How large the numbers are that the others are compared with.
            row(format!("{backend}"), reference.largest(), device);
            if results.len() > 1 {
                println!("largest differences from it:");
            }
            continue;
        }
        let apart = result.apart(reference);
        row(format!("{backend}"), apart, device);
        for (apart, scale) in apart.into_iter().zip(reference.largest()) {
            // Far more than rounding, also where a GPU multiplies with fewer digits.
            if apart.is_nan() || apart > 0.01 * scale {
                let message = format!("{backend} and {first} should agree, but are {apart} apart");
                return Err(message.into());
            }
        }
    }
    if results.len() == 1 {
        println!("Only {first} is here. Add another to compare it with, for example:");
        let other = if *first == Backend::NdArray {
            "wgpu"
        } else {
            "ndarray"
        };
        println!("  cargo run --release --example switch_backends --features {other}");
    }
    Ok(())
}

const ROWS: usize = 8;
const STEPS: usize = 50;
const D_INPUT: usize = 12;
const D_HIDDEN: usize = 32;

/// What a backend computes, on the host.
struct Computed {
    outputs: Vec<f32>,
    states: Vec<f32>,
    /// Of every parameter and of the input, one after the other.
    gradients: Vec<f32>,
}

/// One forward and one backward pass, as in training.
fn compute(device: &Device) -> Result<Computed, Box<dyn Error>> {
    // burn's backends are values: the same code runs on any device. Gradients are asked for by
    // the device, too.
    let device = device.clone().autodiff();
    let key = Key::new(0);
    let lstm = ScratchLstmConfig::new(D_INPUT, D_HIDDEN)
        .with_num_layers(2)
        .with_bidirectional(true)
        .with_dropout(0.2)
        .try_init_with(&key.child("lstm"), &device)?;
    let input = draw([ROWS, STEPS, D_INPUT], &key.child("input"), &device).require_grad();

    let masks = key.child("masks");
    let options = ForwardOptions::new().with_key(&masks);
    let (output, state) = lstm.try_forward_with(input.clone(), options)?;

    // A random weight for each output: a plain sum would let errors of opposite sign cancel.
    let weights = draw(output.dims(), &key.child("weights"), &device);
    let mut gradients = (output.clone() * weights).sum().backward();

    let of_input = input.grad(&gradients).ok_or("the input has no gradient")?;
    let mut all = numbers(of_input);
    let of_parameters = GradientsParams::from_module(&mut gradients, &lstm);
    for layer in &lstm.layers {
        for cell in std::iter::once(&layer.forward).chain(&layer.reverse) {
            for id in [cell.weight_ih.id, cell.weight_hh.id] {
                let gradient = of_parameters.get::<2>(id);
                all.extend(numbers(gradient.ok_or("a weight has no gradient")?));
            }
            if let Some(bias) = &cell.bias {
                let gradient = of_parameters.get::<1>(bias.id);
                all.extend(numbers(gradient.ok_or("a bias has no gradient")?));
            }
        }
    }
    let states = [numbers(state.hidden), numbers(state.cell)].concat();
    Ok(Computed {
        outputs: numbers(output),
        states,
        gradients: all,
    })
}

impl Computed {
    fn parts(&self) -> [&[f32]; 3] {
        [&self.outputs, &self.states, &self.gradients]
    }

    /// The largest absolute value of each part.
    fn largest(&self) -> [f32; 3] {
        self.parts().map(|part| largest(part.iter().copied()))
    }

    /// The largest difference in each part.
    fn apart(&self, other: &Self) -> [f32; 3] {
        let [ours, theirs] = [self.parts(), other.parts()];
        std::array::from_fn(|part| {
            let pairs = ours[part].iter().zip(theirs[part]);
            largest(pairs.map(|(a, b)| a - b))
        })
    }
}

/// The largest absolute value; NaN if one is.
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.map(f32::abs).max_by(f32::total_cmp).unwrap_or(0.0)
}

/// Numbers from -1 to 1, the same on every backend.
fn draw(shape: [usize; 3], key: &Key, device: &Device) -> Tensor<3> {
    let mut rng = key.rng();
    let numbers = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0));
    let numbers: Vec<f32> = numbers.collect();
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

fn numbers<const R: usize>(tensor: Tensor<R>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
