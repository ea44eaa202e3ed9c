"""Writes precision.json: how far PyTorch's f32 LSTM is from f64, seed by seed.

    pip install torch numpy
    python tests/goldens/pytorch/precision.py

Weights, inputs and cotangents come from SplitMix64, so that the test draws the
same numbers. Each entry is the sum of squared differences between nn.LSTM in f32
and in f64 on the CPU. Made with torch 2.15.0.
"""

import json
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
B, T, D, H = 16, 40, 24, 48
SEEDS = range(20)


def numbers(seed, stream, shape, bound):
    """Numbers in ±bound that f32 has: SplitMix64 from a state of its own for each stream."""
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        start = np.uint64(seed * 1000 + stream) * np.uint64(0xD1342543DE82EF95)
        steps = np.arange(1, count + 1, dtype=np.uint64)
        z = start + steps * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    unit = (z >> np.uint64(40)).astype(np.float64) / 2**24
    return torch.from_numpy(((2 * unit - 1) * bound).astype(np.float32)).reshape(shape)


def run(seed, dtype):
    lstm = torch.nn.LSTM(D, H, batch_first=True).to(dtype)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(numbers(seed, 0, (4 * H, D), 0.5))
        lstm.weight_hh_l0.copy_(numbers(seed, 1, (4 * H, H), 0.5))
        lstm.bias_ih_l0.copy_(numbers(seed, 2, (4 * H,), 0.5))
        lstm.bias_hh_l0.zero_()
    x = numbers(seed, 3, (B, T, D), 1.0).to(dtype).requires_grad_()
    output, _ = lstm(x)
    output.backward(numbers(seed, 4, (B, T, H), 1.0).to(dtype))
    return {
        "output": output,
        "input": x.grad,
        "weight_ih": lstm.weight_ih_l0.grad,
        "weight_hh": lstm.weight_hh_l0.grad,
        "bias": lstm.bias_ih_l0.grad,
    }


def main():
    torch.set_num_threads(2)
    rows = []
    for seed in SEEDS:
        narrow, wide = run(seed, torch.float32), run(seed, torch.float64)
        rows.append({
            name: float((narrow[name].detach().double() - wide[name].detach()).square().sum())
            for name in narrow
        })
    result = {"torch": torch.__version__, "sizes": [B, T, D, H], "seeds": rows}
    (HERE / "precision.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
