"""Writes the PyTorch golden files that lie beside this script.

    pip install torch numpy safetensors
    python tests/goldens/pytorch/make.py

The committed files were made with torch 2.15.0 on the CPU. The same version
on the same kind of machine writes identical bytes; another one may differ in
the last bits of the results (the random inputs stay the same).

Sizes: B=3 sequences, T=7 steps, D=5 inputs, H=11 hidden units, P projected ones, L layers,
K directions.
README.md says what each file holds.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = Path(__file__).resolve().parent
B, T, D, H = 3, 7, 5, 11
VOCABULARY, CLASSES = 13, 3
WEIGHT_STD = 0.4  # wider than PyTorch's default, so that the gates leave 0.5

# name: (num_layers, bidirectional, bias, batch_first, lengths, with a given state)
LSTM_CASES = {
    "single": (1, False, True, True, None, True),
    "no_bias": (1, False, False, True, None, True),
    "stacked": (2, False, True, True, None, True),
    "bidirectional": (1, True, True, True, None, True),
    "deep_bidirectional": (2, True, True, True, None, True),
    "time_first": (2, True, True, False, None, True),
    "packed": (2, True, True, True, [5, 7, 1], True),
    "no_state": (1, False, True, True, None, False),
}
# The same with the width of the projected hidden state.
PROJECTED_CASES = {
    "projected": (2, True, True, True, None, True, 4),
    "projected_packed": (1, False, False, True, [5, 7, 1], True, 6),
}


def save(name, tensors, config=None):
    """Writes one safetensors file, `config` as JSON in its metadata."""
    tensors = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    metadata = {"config": json.dumps(config)} if config else None
    save_file(tensors, HERE / f"{name}.safetensors", metadata=metadata)


def widen(module):
    """Redraws every parameter of `module` from N(0, WEIGHT_STD²)."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=WEIGHT_STD)
    return module


def config_of(lstm):
    projection = {"d_proj": lstm.proj_size} if lstm.proj_size else {}
    return projection | {
        "d_input": lstm.input_size,
        "d_hidden": lstm.hidden_size,
        "num_layers": lstm.num_layers,
        "bidirectional": lstm.bidirectional,
        "bias": lstm.bias,
        "batch_first": lstm.batch_first,
    }


def lstm_case(name, layers, bidirectional, bias, batch_first, lengths, with_state, projected=0):
    """nn.LSTM forward and backward: lstm_{name}.safetensors."""
    directions = 2 if bidirectional else 1
    lstm = widen(nn.LSTM(D, H, layers, bias=bias, batch_first=batch_first,
                         bidirectional=bidirectional, proj_size=projected))
    inputs = {"input": torch.randn((B, T, D) if batch_first else (T, B, D))}
    if lengths:
        for row, length in enumerate(lengths):
            inputs["input"][row, length:] = 100.0
    if with_state:
        inputs["h_0"] = torch.randn(layers * directions, B, projected or H)
        inputs["c_0"] = torch.randn(layers * directions, B, H)
    for tensor in inputs.values():
        tensor.requires_grad_()

    sequence = inputs["input"]
    if lengths:
        sequence = pack_padded_sequence(sequence, lengths, batch_first=True, enforce_sorted=False)
    output, (h_n, c_n) = lstm(sequence, (inputs["h_0"], inputs["c_0"]) if with_state else None)
    if lengths:
        output, _ = pad_packed_sequence(output, batch_first=True, padding_value=0.0)

    results = {"output": output, "h_n": h_n, "c_n": c_n}
    cotangents = {f"d_{k}": torch.randn_like(v) for k, v in results.items()}
    sum((v * cotangents[f"d_{k}"]).sum() for k, v in results.items()).backward()

    parameters = dict(lstm.named_parameters())
    tensors = {**parameters, **inputs, **results, **cotangents}
    tensors |= {f"grad.{k}": v.grad for k, v in {**parameters, **inputs}.items()}
    if lengths:
        tensors["lengths"] = torch.tensor(lengths, dtype=torch.int64)
    save(f"lstm_{name}", tensors, config_of(lstm))


def functional():
    """One time-first layer, weights named as the arguments of a function."""
    lstm = widen(nn.LSTM(D, H))
    x, h_0, c_0 = torch.randn(T, B, D), torch.randn(1, B, H), torch.randn(1, B, H)
    output, (h_n, c_n) = lstm(x, (h_0, c_0))
    save("functional", {
        "input": x, "h_0": h_0, "c_0": c_0,
        "w_ih": lstm.weight_ih_l0, "w_hh": lstm.weight_hh_l0,
        "b_ih": lstm.bias_ih_l0, "b_hh": lstm.bias_hh_l0,
        "output": output, "h_n": h_n, "c_n": c_n,
    })  # fmt: skip


def cell():
    """One step of nn.LSTMCell, batched and unbatched."""
    lstm_cell = widen(nn.LSTMCell(D, H))
    tensors = dict(lstm_cell.named_parameters())
    for suffix, batch in (("", (B,)), ("_unbatched", ())):
        x, h_0, c_0 = torch.randn(*batch, D), torch.randn(*batch, H), torch.randn(*batch, H)
        h_1, c_1 = lstm_cell(x, (h_0, c_0))
        named = {"input": x, "h_0": h_0, "c_0": c_0, "h_1": h_1, "c_1": c_1}
        tensors |= {k + suffix: v for k, v in named.items()}
    save("cell", tensors, {"d_input": D, "d_hidden": H, "bias": True})


def inside_model():
    """An LSTM as a part of a bigger model, in the ways checkpoints are saved."""
    model = nn.Module()
    model.encoder = nn.Module()
    model.encoder.lstm = nn.LSTM(D, H, num_layers=2, bidirectional=True, batch_first=True)
    model.embed = nn.Embedding(VOCABULARY, D)
    model.head = nn.Linear(2 * H, CLASSES)
    widen(model)
    state = model.state_dict()
    torch.save(state, HERE / "inside_model.pt")
    torch.save({"epoch": 3, "state_dict": state}, HERE / "inside_model_nested.pt")
    config = config_of(model.encoder.lstm)
    save("inside_model", state, config)
    x = torch.randn(B, T, D)
    output, (h_n, c_n) = model.encoder.lstm(x)
    save("inside_model_io", {"input": x, "output": output, "h_n": h_n, "c_n": c_n}, config)


def clip_grad_norm():
    """torch.nn.utils.clip_grad_norm_ at bounds below and above the norm."""
    gradients = [torch.randn(4, 3), torch.randn(7), torch.randn(2, 3, 5)]
    tensors = {f"grad.{i}": g for i, g in enumerate(gradients)}
    for max_norm in (0.5, 1.0, 100.0):
        parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient.clone()
        tensors["norm"] = nn.utils.clip_grad_norm_(parameters, max_norm)
        tensors |= {f"clipped_{max_norm}.{i}": p.grad for i, p in enumerate(parameters)}
    save("clip_grad_norm", tensors)


def loss_curve():
    """Ten steps of plain SGD; `losses` holds the loss before each step."""
    lstm = widen(nn.LSTM(D, H, bias=False, batch_first=True))
    x, target = torch.randn(B, T, D), torch.randn(B, T, H)
    tensors = {k: v.detach().clone() for k, v in lstm.named_parameters()}
    optimizer = torch.optim.SGD(lstm.parameters(), lr=0.1)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = ((lstm(x)[0] - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    tensors |= {f"final.{k}": v for k, v in lstm.named_parameters()}
    tensors |= {"input": x, "target": target, "losses": torch.stack(losses)}
    save("loss_curve", tensors, config_of(lstm) | {"lr": 0.1, "steps": 10})


def losses():
    """Cross entropy, mean over the targets that are not -100."""
    logits = torch.randn(B, T, VOCABULARY, requires_grad=True)
    targets = torch.randint(VOCABULARY, (B, T))
    targets[torch.rand(B, T) < 0.25] = -100
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    loss.backward()
    tensors = {"logits": logits, "targets": targets, "loss": loss, "grad.logits": logits.grad}
    save("losses", tensors, {"ignore_index": -100, "reduction": "mean"})


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    jobs = [lambda n=n, c=c: lstm_case(n, *c) for n, c in LSTM_CASES.items()]
    jobs += [functional, cell, inside_model, clip_grad_norm, loss_curve, losses]
    jobs += [lambda n=n, c=c: lstm_case(n, *c) for n, c in PROJECTED_CASES.items()]
    for seed, job in enumerate(jobs):  # a seed each: a new case at the end changes no other
        torch.manual_seed(seed)
        job()
    print(f"torch {torch.__version__}: wrote {len(list(HERE.glob('*.safetensors')))} .safetensors, "
          f"{len(list(HERE.glob('*.pt')))} .pt")


if __name__ == "__main__":
    main()
