"""Writes training.json: learning rates, optimizer steps and smoothed losses of PyTorch, and
steps of optimizers that it lacks by their papers.

    pip install torch
    python tests/goldens/pytorch/training.py

Everything is in float64, so that the numbers are those of the definitions. Made with
torch 2.15.0 on the CPU.
"""

import json
import math
import warnings
from pathlib import Path

import torch
from torch import optim
from torch.nn import functional
from torch.optim import lr_scheduler

HERE = Path(__file__).resolve().parent
RATE = 0.7
warnings.filterwarnings("ignore", message="Detected call of")


def optimizer():
    return optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)


def one_cycle(total, **settings):
    """The learning rate of each of `total` steps."""
    sgd = optimizer()
    scheduler = lr_scheduler.OneCycleLR(
        sgd, max_lr=RATE, total_steps=total, cycle_momentum=False, **settings
    )
    rates = []
    for _ in range(total):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if len(rates) < total:
            scheduler.step()
    return {"total": total, "settings": settings, "rates": rates}


def restarts(cycle, multiplier, floor, epochs):
    sgd = optimizer()
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(
        sgd, T_0=cycle, T_mult=multiplier, eta_min=floor * RATE
    )
    rates = []
    for epoch in epochs:
        scheduler.step(epoch)
        rates.append(sgd.param_groups[0]["lr"])
    return {
        "settings": {"cycle": cycle, "multiplier": multiplier, "floor": floor},
        "epochs": epochs,
        "rates": rates,
    }


def by_epoch(make, settings):
    """The learning rate of each of 20 epochs."""
    sgd = optimizer()
    scheduler = make(sgd)
    rates = []
    for _ in range(20):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        scheduler.step()
    return {"settings": settings, "rates": rates}


def plateau(mode, metrics, factor, patience, threshold, cooldown, floor):
    """The learning rate after each validation."""
    sgd = optimizer()
    scheduler = lr_scheduler.ReduceLROnPlateau(
        sgd,
        mode=mode,
        factor=factor,
        patience=patience,
        threshold=threshold,
        cooldown=cooldown,
        min_lr=floor * RATE,
    )
    rates = []
    for metric in metrics:
        scheduler.step(metric)
        rates.append(sgd.param_groups[0]["lr"])
    return {
        "mode": mode,
        "metrics": metrics,
        "settings": {
            "factor": factor,
            "patience": patience,
            "threshold": threshold,
            "cooldown": cooldown,
            "floor": floor,
        },
        "rates": rates,
    }


def steps(make, settings):
    """Weights after each of seven steps on sum((w - 1)^4) and sum(b^2), with decay."""
    weight = torch.tensor([[0.3, -0.8, 1.7], [2.0, -0.1, 0.5]], dtype=torch.float64)
    bias = torch.tensor([0.4, -0.9, 1.2], dtype=torch.float64)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    moved = make(parameters)
    after = []
    for _ in range(7):
        moved.zero_grad()
        (((weight - 1) ** 4).sum() + (bias**2).sum()).backward()
        moved.step()
        after.append(weight.flatten().tolist() + bias.tolist())
    return {"settings": settings, "after": after}


class ByHand(optim.Optimizer):
    """An optimizer that PyTorch lacks, as its paper writes it."""

    def __init__(self, parameters, **settings):
        super().__init__(parameters, settings)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                state["step"] = state.get("step", 0) + 1
                self.move(weight, weight.grad.clone(), state, state["step"], **group)


class Lion(ByHand):
    """Chen et al. 2023, algorithm 2."""

    def move(self, weight, g, state, t, *, lr, beta_1, beta_2, decay, **_):
        m = state.get("m", torch.zeros_like(g))
        direction = torch.sign(beta_1 * m + (1 - beta_1) * g)
        weight -= lr * (direction + decay * weight)
        state["m"] = beta_2 * m + (1 - beta_2) * g


class Lamb(ByHand):
    """You et al. 2020, algorithm 2, with phi the identity."""

    def move(self, weight, g, state, t, *, lr, beta_1, beta_2, eps, decay, **_):
        m = beta_1 * state.get("m", torch.zeros_like(g)) + (1 - beta_1) * g
        v = beta_2 * state.get("v", torch.zeros_like(g)) + (1 - beta_2) * g**2
        state.update(m=m, v=v)
        ratio = m / (1 - beta_1**t) / (torch.sqrt(v / (1 - beta_2**t)) + eps)
        direction = ratio + decay * weight
        weight -= lr * weight.norm() / direction.norm() * direction


class Adan(ByHand):
    """Xie et al. 2022, algorithm 1 with the bias corrections of its authors' code; the decays
    are those of that code, 1 minus the paper's."""

    def move(self, weight, g, state, t, *, lr, beta_1, beta_2, beta_3, eps, decay, **_):
        difference = g - state.get("before", g)
        zeros = torch.zeros_like(g)
        m = beta_1 * state.get("m", zeros) + (1 - beta_1) * g
        v = beta_2 * state.get("v", zeros) + (1 - beta_2) * difference
        ahead = g + beta_2 * difference
        n = beta_3 * state.get("n", zeros) + (1 - beta_3) * ahead**2
        state.update(m=m, v=v, n=n, before=g)
        root = torch.sqrt(n / (1 - beta_3**t)) + eps
        direction = m / (1 - beta_1**t) + beta_2 * v / (1 - beta_2**t)
        weight.copy_((weight - lr * direction / root) / (1 + lr * decay))


def smoothed(smoothing):
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(5, 7, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    targets = torch.tensor([3, 0, 6, 6, 1])
    loss = functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    loss.backward()
    return {
        "smoothing": smoothing,
        "logits": logits.flatten().tolist(),
        "targets": targets.tolist(),
        "loss": loss.item(),
        "gradient": logits.grad.flatten().tolist(),
    }


def metrics(count, sign):
    """A series that falls, stays, rises, and falls again."""
    return [
        sign * (2 + math.cos(0.13 * k) * math.exp(-0.02 * k) + 0.01 * (k * 7 % 5))
        for k in range(count)
    ]


def main():
    quarters = [0.25 * quarter for quarter in range(100)]
    golden = {
        "torch": torch.__version__,
        "rate": RATE,
        "one_cycle": [
            one_cycle(37),
            one_cycle(
                20, pct_start=0.45, div_factor=4.0, final_div_factor=50.0
            ),
        ],
        "cosine_restarts": [
            restarts(3, 2, 0.05, quarters),
            restarts(5, 1, 0.0, quarters),
        ],
        "step": by_epoch(
            lambda sgd: lr_scheduler.StepLR(sgd, step_size=6, gamma=0.3),
            {"every": 6, "factor": 0.3},
        ),
        "exponential": by_epoch(
            lambda sgd: lr_scheduler.ExponentialLR(sgd, gamma=0.9), {"factor": 0.9}
        ),
        "plateau": [
            plateau("min", metrics(120, 1), 0.5, 3, 1e-2, 0, 0.0),
            plateau("min", metrics(120, 1), 0.3, 2, 1e-4, 4, 0.01),
            plateau("max", metrics(120, 1), 0.5, 3, 1e-2, 2, 0.0),
        ],
        "optimizers": [
            steps(
                lambda p: optim.SGD(p, 0.02, 0.8, nesterov=True, weight_decay=0.1),
                {
                    "kind": "sgd",
                    "momentum": 0.8,
                    "nesterov": True,
                    "weight_decay": 0.1,
                },
            ),
            steps(
                lambda p: optim.Adam(
                    p, 0.02, (0.7, 0.8), amsgrad=True, weight_decay=0.1
                ),
                {
                    "kind": "adam",
                    "beta_1": 0.7,
                    "beta_2": 0.8,
                    "amsgrad": True,
                    "weight_decay": 0.1,
                },
            ),
            steps(
                lambda p: optim.AdamW(p, 0.02, (0.9, 0.95), weight_decay=0.3),
                {"kind": "adam_w", "beta_2": 0.95, "weight_decay": 0.3},
            ),
            steps(
                lambda p: optim.RMSprop(p, 0.02, 0.9, momentum=0.5, weight_decay=0.1),
                {
                    "kind": "rms_prop",
                    "alpha": 0.9,
                    "momentum": 0.5,
                    "weight_decay": 0.1,
                },
            ),
            steps(
                lambda p: optim.RMSprop(p, 0.02, 0.9, centered=True),
                {"kind": "rms_prop", "alpha": 0.9, "centered": True},
            ),
            steps(
                lambda p: optim.Adagrad(p, 0.02, lr_decay=0.1, weight_decay=0.1),
                {"kind": "adagrad", "lr_decay": 0.1, "weight_decay": 0.1},
            ),
            steps(
                lambda p: optim.Adafactor(p, 0.02, weight_decay=0.1),
                # Its relative steps end at 1 / sqrt(step), which is more than 0.02 here.
                {"kind": "adafactor", "scale_parameter": True, "weight_decay": 0.1},
            ),
            steps(
                lambda p: Lion(p, lr=0.02, beta_1=0.8, beta_2=0.95, decay=0.3),
                {"kind": "lion", "beta_1": 0.8, "beta_2": 0.95, "weight_decay": 0.3},
            ),
            steps(
                lambda p: Lamb(
                    p, lr=0.02, beta_1=0.8, beta_2=0.95, eps=1e-6, decay=0.3
                ),
                {"kind": "lamb", "beta_1": 0.8, "beta_2": 0.95, "weight_decay": 0.3},
            ),
            steps(
                lambda p: Adan(
                    p,
                    lr=0.02,
                    beta_1=0.9,
                    beta_2=0.8,
                    beta_3=0.95,
                    eps=1e-8,
                    decay=0.3,
                ),
                {
                    "kind": "adan",
                    "beta_1": 0.9,
                    "beta_2": 0.8,
                    "beta_3": 0.95,
                    "weight_decay": 0.3,
                },
            ),
        ],
        "smoothing": [smoothed(smoothing) for smoothing in (0.0, 0.1, 0.35, 1.0)],
    }
    for entry in golden["optimizers"]:
        entry["rate"] = 0.02
    path = HERE / "training.json"
    path.write_text(json.dumps(golden) + "\n")


main()
