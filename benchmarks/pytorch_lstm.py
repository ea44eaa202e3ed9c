"""PyTorch's nn.LSTM, timed: the peer of the Rust benchmark. Writes no file.

    python benchmarks/pytorch_lstm.py            # serves requests on stdin
    python benchmarks/pytorch_lstm.py --table    # prints the standard sizes
    ... --device cuda --dtype bf16               # by cuDNN, in another type
    ... --device cuda --tf32                     # f32 with TF32 products

One JSON object a line on stdin, one JSON line in answer:

    {"b":32,"t":64,"d":128,"h":256,"mode":"train","iters":3,"threads":2}
    -> {"seconds": median seconds per iteration}
    {"cmd":"info"} -> {"torch": version, "device": the GPU's name and cuDNN's
       version, or null on the CPU, "threads": n}
    {"cmd":"matmul","width":2048,"iters":3,"threads":2}
    -> {"seconds": median seconds of a product of two square matrices}
    {"cmd":"memory","b":32,"t":64,"d":128,"h":256,"threads":2}
    -> {"idle": bytes, "peak": bytes, "seconds": of the second step}: the most
       that was resident before and during two training steps; on the CPU, for
       a process that has done nothing else yet
    anything wrong -> {"error": "..."}

"forward" runs without gradients; "train" is the forward pass, the mean of the
output's squares and the backward pass for the weights. A size used for the
first time in a mode runs once unmeasured. On a GPU the clock starts when the
device has nothing left to do and stops when it has done the iteration. Written
for torch 2.15.0.
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
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
warmed_up = set()
place = {}  # device and dtype, as torch's functions take them


@functools.lru_cache(maxsize=2)  # a GPU's memory need not hold all sizes
def build(b, t, d, h):
    """The layer and a random input of one size."""
    torch.manual_seed(0)
    return torch.nn.LSTM(d, h, batch_first=True, **place), torch.randn(b, t, d, **place)


def forward(lstm, x):
    with torch.no_grad():
        lstm(x)


def train(lstm, x):
    lstm.zero_grad(set_to_none=True)
    lstm(x)[0].square().mean().backward()


def synchronize():
    """Waits until the device has done what it was given; the CPU always has."""
    if place["device"] == "cuda":
        torch.cuda.synchronize()


def median_seconds(iteration, iters):
    """Median seconds of one iteration."""
    seconds = []
    for _ in range(iters):
        synchronize()
        start = time.perf_counter()
        iteration()
        synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(size, mode, iters):
    """Median seconds of one iteration of a size."""
    lstm, x = build(*size)
    step = {"forward": forward, "train": train}[mode]
    lstm.train(mode == "train")
    if (size, mode) not in warmed_up:
        step(lstm, x)
        warmed_up.add((size, mode))
    return median_seconds(lambda: step(lstm, x), iters)


def multiply(width, iters):
    """Median seconds of one product of large matrices."""
    left, right = (torch.randn(width, width, **place) for _ in range(2))
    return median_seconds(lambda: left @ right, iters)


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
    seconds = median_seconds(lambda: train(lstm, x), 1)
    return {"idle": idle, "peak": peak(), "seconds": seconds}


def settle(device, dtype, tf32):
    """Where and in what everything is computed from here on."""
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} sees no CUDA device")
    if device == "cuda" and not torch.backends.cudnn.is_available():
        sys.exit(f"torch {torch.__version__} has no cuDNN")
    place.update(device=device, dtype=DTYPES[dtype])
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32


def device_name():
    """The GPU and what computes on it, or nothing on the CPU."""
    if place["device"] != "cuda":
        return None
    return f"{torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}"


def answer(line):
    """The reply to one request."""
    try:
        request = json.loads(line)
        if request.get("cmd") == "info":
            threads = torch.get_num_threads()
            return {"torch": torch.__version__, "device": device_name(), "threads": threads}
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
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--tf32", action="store_true", help="let products in f32 be TF32's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--iters", type=int, default=5, help="of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settle(arguments.device, arguments.dtype, arguments.tf32)
    if not arguments.table:
        for line in filter(str.strip, sys.stdin):
            print(json.dumps(answer(line)), flush=True)
        return
    where = device_name() or f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {where}, {arguments.dtype}, milliseconds")
    print(f"{'B':>4}{'T':>5}{'D':>5}{'H':>5}{'forward':>10}{'train':>10}")
    for size in SIZES:
        forward_ms, train_ms = (1e3 * measure(size, m, arguments.iters) for m in ("forward", "train"))
        b, t, d, h = size
        print(f"{b:>4}{t:>5}{d:>5}{h:>5}{forward_ms:>10.2f}{train_ms:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
