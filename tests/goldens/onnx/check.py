"""Runs the models that were exported by this project in ONNX Runtime.

    cargo test --release --workspace --test onnx -- --ignored write_models
    python tests/goldens/onnx/check.py

For each `export/{name}.onnx`, which the first command writes, the inputs that are drawn here and
what ONNX Runtime computes of them go into `export/{name}.safetensors`. The tests then compare
the files byte for byte with what is exported, and the numbers with what the module computes.
"""

import numpy as np
import onnx
import onnxruntime
from make import HERE, LENGTHS, B, T, compute, save


def main():
    for seed, path in enumerate(sorted((HERE / "export").glob("*.onnx"))):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        rng = np.random.default_rng(300 + seed)
        feeds, sizes = {}, {"batch": B, "time": T}
        for info in model.graph.input:
            axes = [sizes.get(d.dim_param, d.dim_value) for d in info.type.tensor_type.shape.dim]
            if info.name == "lengths":
                feeds[info.name] = np.array(LENGTHS, np.int32)
            else:
                feeds[info.name] = rng.standard_normal(axes).astype(np.float32)
        tensors = dict(feeds) | compute(model, feeds)
        if "lengths" in tensors:
            tensors["lengths"] = tensors["lengths"].astype(np.int64)
        # States that were learned stand in for those that a call does not bring.
        optional = {tensor.name for tensor in model.graph.initializer} & set(feeds)
        if optional:
            rest = {name: array for name, array in feeds.items() if name not in optional}
            tensors |= {f"start.{k}": v for k, v in compute(model, rest).items()}
        save(f"export/{path.stem}", tensors, {})
    print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}: ran {seed + 1} models")


if __name__ == "__main__":
    main()
