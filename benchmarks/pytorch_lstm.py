"""PyTorch's nn.LSTM on the CPU, timed: the peer of the Rust benchmark. Writes no file.

    python benchmarks/pytorch_lstm.py            # serves requests on stdin
    python benchmarks/pytorch_lstm.py --table    # prints the standard sizes

One JSON object a line on stdin, one JSON line in answer:

    {"b":32,"t":64,"d":128,"h":256,"mode":"train","iters":3,"threads":2}
    -> {"seconds": median seconds per iteration}
    {"cmd":"info"} -> {"torch": version, "threads": n}
    {"cmd":"matmul","width":2048,"iters":3,"threads":2}
    -> {"seconds": median seconds of a product of two square matrices}
    {"cmd":"memory","b":32,"t":64,"d":128,"h":256,"threads":2}
    -> {"idle": bytes, "peak": bytes, "seconds": of the second step}: the most
       that was resident before and during two training steps; for a process
       that has done nothing else yet
    anything wrong -> {"error": "..."}

"forward" runs without gradients; "train" is the forward pass, the mean of the
output's squares and the backward pass for the weights. A size used for the
first time in a mode runs once unmeasured. Written for torch 2.15.0.
"""

import argparse
import functools
import json
import statistics
import sys
import time

import torch

SIZES = [  # b, t, d, h
    (32, 64, 128, 256), (64, 128, 256, 512), (16, 100, 64, 128), (1, 256, 128, 256),
    (32, 35, 200, 200), (20, 35, 650, 650), (8, 32, 32, 32),
]  # fmt: skip
warmed_up = set()


@functools.cache
def build(b, t, d, h):
    """The layer and a random input of one size."""
    torch.manual_seed(0)
    return torch.nn.LSTM(d, h, batch_first=True), torch.randn(b, t, d)


def forward(lstm, x):
    with torch.no_grad():
        lstm(x)


def train(lstm, x):
    lstm.zero_grad(set_to_none=True)
    lstm(x)[0].square().mean().backward()


def measure(size, mode, iters):
    """Median seconds of one iteration."""
    lstm, x = build(*size)
    step = {"forward": forward, "train": train}[mode]
    lstm.train(mode == "train")
    if (size, mode) not in warmed_up:
        step(lstm, x)
        warmed_up.add((size, mode))
    seconds = []
    for _ in range(iters):
        start = time.perf_counter()
        step(lstm, x)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def multiply(width, iters):
    """Median seconds of one product of large matrices."""
    left, right = torch.randn(width, width), torch.randn(width, width)
    seconds = []
    for _ in range(iters):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def forget_peak():
    """Lets the peak begin anew; where the system refuses, it stays."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def peak():
    """The most that was resident, in bytes."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return 1024 * int(fields["VmHWM"].split()[0])


def footprint(size):
    """Peaks without and with two training steps, and the time of the second."""
    train(*build(1, 1, 1, 1))  # loads the code, which is no matter of the size
    lstm, x = build(*size)
    forget_peak()
    idle = peak()
    train(lstm, x)
    start = time.perf_counter()
    train(lstm, x)
    seconds = time.perf_counter() - start
    return {"idle": idle, "peak": peak(), "seconds": seconds}


def answer(line):
    """The reply to one request."""
    try:
        request = json.loads(line)
        if request.get("cmd") == "info":
            return {"torch": torch.__version__, "threads": torch.get_num_threads()}
        if "threads" in request:
            torch.set_num_threads(request["threads"])
        if request.get("cmd") == "matmul":
            return {"seconds": multiply(request["width"], request["iters"])}
        size = tuple(request[axis] for axis in "btdh")
        if request.get("cmd") == "memory":
            return footprint(size)
        return {"seconds": measure(size, request["mode"], request.get("iters", 3))}
    except Exception as error:  # the peer must outlive a bad request
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", action="store_true", help="time the standard sizes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--iters", type=int, default=5, help="of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.table:
        for line in filter(str.strip, sys.stdin):
            print(json.dumps(answer(line)), flush=True)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, milliseconds")
    print(f"{'B':>4}{'T':>5}{'D':>5}{'H':>5}{'forward':>10}{'train':>10}")
    for size in SIZES:
        forward_ms, train_ms = (1e3 * measure(size, m, arguments.iters) for m in ("forward", "train"))
        b, t, d, h = size
        print(f"{b:>4}{t:>5}{d:>5}{h:>5}{forward_ms:>10.2f}{train_ms:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
