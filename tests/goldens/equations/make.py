"""Writes the golden files of the LSTM's variants that lie beside this script.

    pip install torch numpy safetensors
    python tests/goldens/equations/make.py

No framework has all of these variants, and some only one that cannot be installed everywhere
(haste's layer normalization and zoneout). So each is written here from the equations of its
paper, one step after the other, in float64, and differentiated by PyTorch. The committed files
were made with torch 2.15.0 on the CPU.

Sizes: B=3 sequences, T=7 steps, D=5 inputs, H=11 units, P=6 where the hidden state is projected.
README.md says what each file holds.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
B, T, D, H, P = 3, 7, 5, 11, 6
EPSILON = 1e-5

CASES = {
    # Sak, Senior & Beaufays 2014: the hidden state is projected.
    "projection": {"d_proj": P},
    # Gers, Schraudolph & Schmidhuber 2002: i and f see c before the step, o the one after it.
    "peepholes": {"peepholes": True},
    # Greff et al. 2017: f = 1 - i.
    "coupled": {"coupled": True},
    # The numbers under the gates' activations are bounded (ONNX), or the cell state (TensorFlow 1).
    "clip_gates": {"clip_gates": 0.7},
    "clip_cell": {"clip_cell": 0.4},
    # Ba, Kiros & Hinton 2016; haste.
    "layer_norm": {"layer_norm": True},
    "layer_norm_coupled": {"layer_norm": True, "coupled": True},
    # Krueger et al. 2017; haste has that of the hidden state. Outside of training.
    "zoneout": {"zoneout_hidden": 0.3, "zoneout_cell": 0.2},
    "layer_norm_zoneout": {"layer_norm": True, "zoneout_hidden": 0.3},
    "all": {
        "d_proj": P,
        "peepholes": True,
        "clip_gates": 1.5,
        "clip_cell": 0.9,
        "layer_norm": True,
        "zoneout_hidden": 0.3,
        "zoneout_cell": 0.2,
    },
}


def weights(case, draw):
    """The weights of a case, by the names that the parameters of a cell have."""
    state = case.get("d_proj", H)
    found = {
        "weight_ih": draw(4 * H, D),
        "weight_hh": draw(4 * H, state),
        "bias": draw(4 * H),
    }
    if "d_proj" in case:
        found["weight_hr"] = draw(state, H)
    if case.get("peepholes"):
        found["peephole"] = draw(3 * H)
    if case.get("layer_norm"):
        found["layer_norm.input"] = 1 + 0.3 * draw(4 * H)
        found["layer_norm.hidden"] = 1 + 0.3 * draw(4 * H)
        found["layer_norm.cell"] = 1 + 0.3 * draw(H)
        found["layer_norm.cell_bias"] = 0.3 * draw(H)
    return found


def standardize(rows):
    mean = rows.mean(dim=1, keepdim=True)
    variance = ((rows - mean) ** 2).mean(dim=1, keepdim=True)
    return (rows - mean) / (variance + EPSILON).sqrt()


def norm_gates(sums, gain, coupled):
    """Over all gates together: those three that there are where two are coupled."""
    if not coupled:
        return standardize(sums) * gain
    i, _, g, o = sums.chunk(4, dim=1)
    i, g, o = standardize(torch.cat([i, g, o], dim=1)).chunk(3, dim=1)
    return torch.cat([i, torch.zeros_like(i), g, o], dim=1) * gain


def step(case, w, x, h, c):
    on_input, on_hidden = x @ w["weight_ih"].T, h @ w["weight_hh"].T
    if case.get("layer_norm"):
        coupled = case.get("coupled", False)
        on_input = norm_gates(on_input, w["layer_norm.input"], coupled)
        on_hidden = norm_gates(on_hidden, w["layer_norm.hidden"], coupled)
    z_i, z_f, z_g, z_o = (on_input + on_hidden + w["bias"]).chunk(4, dim=1)
    p_i, p_f, p_o = w["peephole"].chunk(3) if "peephole" in w else (0.0, 0.0, 0.0)

    def bounded(numbers, name):
        bound = case.get(name)
        return numbers if bound is None else numbers.clamp(-bound, bound)

    i = torch.sigmoid(bounded(z_i + p_i * c, "clip_gates"))
    f = 1 - i if case.get("coupled") else torch.sigmoid(bounded(z_f + p_f * c, "clip_gates"))
    g = torch.tanh(bounded(z_g, "clip_gates"))
    new_c = bounded(f * c + i * g, "clip_cell")
    o = torch.sigmoid(bounded(z_o + p_o * new_c, "clip_gates"))
    shown = new_c
    if case.get("layer_norm"):
        shown = standardize(new_c) * w["layer_norm.cell"] + w["layer_norm.cell_bias"]
    new_h = o * torch.tanh(shown)
    if "weight_hr" in w:
        new_h = new_h @ w["weight_hr"].T
    kept_h, kept_c = case.get("zoneout_hidden", 0.0), case.get("zoneout_cell", 0.0)
    return kept_h * h + (1 - kept_h) * new_h, kept_c * c + (1 - kept_c) * new_c


def write(number, name, case):
    generator = torch.Generator().manual_seed(100 + number)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64) * 0.4

    state = case.get("d_proj", H)
    leaves = weights(case, draw)
    leaves |= {"input": 2 * draw(B, T, D), "h_0": draw(1, B, state), "c_0": draw(1, B, H)}
    # Numbers that float32 has, so that both precisions begin with the same.
    leaves = {k: v.float().double().requires_grad_() for k, v in leaves.items()}
    h, c, shown = leaves["h_0"][0], leaves["c_0"][0], []
    for t in range(T):
        h, c = step(case, leaves, leaves["input"][:, t], h, c)
        shown.append(h)
    results = {"output": torch.stack(shown, dim=1), "h_n": h[None], "c_n": c[None]}
    cotangents = {f"d_{k}": draw(*v.shape).float().double() for k, v in results.items()}
    sum((v * cotangents[f"d_{k}"]).sum() for k, v in results.items()).backward()
    gradients = {
        f"grad.{k}": torch.zeros_like(v) if v.grad is None else v.grad for k, v in leaves.items()
    }
    tensors = leaves | results | cotangents | gradients
    tensors = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    save_file(tensors, HERE / f"{name}.safetensors", metadata={"config": json.dumps(case)})


if __name__ == "__main__":
    for number, (name, case) in enumerate(CASES.items()):
        write(number, name, case)
