"""Writes the ONNX golden files that lie beside this script.

    pip install torch numpy safetensors onnx onnxruntime
    python tests/goldens/onnx/make.py

The committed files were made with torch 2.15.0, onnx 1.23.2 and ONNX Runtime 1.32.0 on the CPU.

Sizes: B=3 sequences, T=7 steps, D=5 inputs, H=11 hidden units, L layers, K directions.
README.md says what each file holds.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from torch import nn

HERE = Path(__file__).resolve().parent
B, T, D, H = 3, 7, 5, 11
OPSET, IR = 17, 8
LENGTHS = [5, 7, 1]

# PyTorch's exporter: name: arguments of nn.LSTM, and whether the state is an input of the graph.
TORCH_CASES = {
    "torch_single": (dict(batch_first=True), False),
    "torch_time_first": (dict(), True),
    "torch_stacked": (dict(num_layers=2, batch_first=True), True),
    "torch_no_bias": (dict(num_layers=2, bias=False, batch_first=True), False),
    "torch_deep_bidirectional": (dict(num_layers=2, bidirectional=True, batch_first=True), True),
}

# Nodes by hand: name: attributes, and what else the case has (see `node_case`).
NODE_CASES = {
    "plain": ({}, {}),
    "peepholes": ({}, dict(peepholes=True)),
    "clip": (dict(clip=0.7), {}),
    "clip_peepholes": (dict(clip=0.7), dict(peepholes=True)),
    "coupled": (dict(input_forget=1), {}),
    "coupled_peepholes": (dict(input_forget=1), dict(peepholes=True)),
    "lengths": ({}, dict(layers=2, directions=2, lengths=True)),
    "no_state": ({}, dict(state=False)),
    "constant_state": ({}, dict(layers=2, state="constant")),
    "some_biases": ({}, dict(layers=2, bias=[False, True])),
    "activations": (
        dict(activations=["HardSigmoid", "Softsign", "LeakyRelu"],
             activation_alpha=[0.25, 0.1], activation_beta=[0.4]),
        {},
    ),
    "default_parameters": (dict(activations=["HardSigmoid", "Elu", "LeakyRelu"]), {}),
    "everything": (
        dict(clip=0.9, input_forget=1, activations=["HardSigmoid", "ScaledTanh", "Softsign"] * 2,
             activation_alpha=[0.3, 1.2] * 2, activation_beta=[0.6, 0.8] * 2),
        dict(layers=2, directions=2, peepholes=True, lengths=True),
    ),
    "encodings": ({}, dict(layers=2, directions=2, peepholes=True, encoded=True)),
    "half": ({}, dict(directions=2, peepholes=True, element=TensorProto.FLOAT16)),
    "layout": ({}, dict(directions=2, layers=2, layout=True)),
}  # fmt: skip

# One activation each, alone in its place, others as they are.
FUNCTIONS = {
    "Sigmoid": ([], []), "Tanh": ([], []), "Relu": ([], []), "Softsign": ([], []),
    "Softplus": ([], []), "LeakyRelu": ([0.1], []), "Elu": ([0.8], []),
    "ThresholdedRelu": ([0.3], []), "HardSigmoid": ([0.25], [0.4]),
    "ScaledTanh": ([1.2], [0.7]), "Affine": ([0.5], [0.1]),
}  # fmt: skip


def compute(model, feeds):
    """The outputs by name that ONNX Runtime computes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds)))


def save(name, tensors, config):
    """Writes one safetensors file, `config` as JSON in its metadata."""
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    tensors = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in tensors.items()}
    save_file(tensors, HERE / f"{name}.safetensors", metadata={"config": json.dumps(config)})


def torch_case(name, arguments, with_state):
    """nn.LSTM after some steps of training, exported by PyTorch."""
    lstm = nn.LSTM(D, H, **arguments)
    layers, directions = lstm.num_layers, 2 if lstm.bidirectional else 1
    shape = (B, T, D) if lstm.batch_first else (T, B, D)
    x, target = torch.randn(shape), torch.randn(*shape[:2], directions * H)
    optimizer = torch.optim.Adam(lstm.parameters(), lr=0.1)
    for _ in range(25):
        optimizer.zero_grad()
        ((lstm(x)[0] - target) ** 2).mean().backward()
        optimizer.step()

    feeds = {"input": torch.randn(shape)}
    if with_state:
        feeds |= {k: torch.randn(layers * directions, B, H) for k in ("h_0", "c_0")}
    state = ((feeds["h_0"], feeds["c_0"]),) if with_state else ()
    batch, time = (0, 1) if lstm.batch_first else (1, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            lstm, (feeds["input"], *state), HERE / f"{name}.onnx", dynamo=False,
            input_names=list(feeds), output_names=["output", "h_n", "c_n"], opset_version=OPSET,
            dynamic_axes={"input": {batch: "batch", time: "time"}}
            | ({"h_0": {1: "batch"}, "c_0": {1: "batch"}} if with_state else {}),
        )  # fmt: skip
    feeds = {k: v.numpy() for k, v in feeds.items()}
    config = {
        "d_input": D, "d_hidden": H, "num_layers": layers, "bidirectional": directions == 2,
        "bias": lstm.bias, "batch_first": lstm.batch_first,
    }  # fmt: skip
    outputs = compute((HERE / f"{name}.onnx").read_bytes(), feeds)
    save(name, feeds | outputs, config)


def initializer(name, array, encoded):
    """A tensor, as raw bytes or as a list of numbers."""
    if encoded:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        return helper.make_tensor(name, kind, array.shape, array.flatten().tolist())
    return numpy_helper.from_array(array, name)


def node_case(rng, attributes, layers=1, directions=1, peepholes=False, lengths=False, state=True,
              bias=True, encoded=False, element=TensorProto.FLOAT, layout=False):
    """A stack of LSTM nodes, time first: the model, its inputs and ONNX Runtime's outputs.

    state     whether the initial states are inputs of the graph, or `"constant"` in the file
    bias      whether there is one, or that of each layer
    encoded   numbers in each of the ways that a file can hold them
    layout    batch before time in the file that is returned; ONNX Runtime, which has no such LSTM,
              computes the same weights time first
    """
    dtype = helper.tensor_dtype_to_np_dtype(element)
    normal = lambda *shape: (rng.standard_normal(shape) * 0.5).astype(dtype)
    bias = bias if isinstance(bias, list) else [bias] * layers
    feeds, constants, given = {"input": normal(T, B, D) * 2}, {}, {}
    count = layers * directions
    if state:
        given = {k: normal(count, B, H) * 2 for k in ("h_0", "c_0")}
    if lengths:
        feeds["lengths"] = np.array(LENGTHS, np.int32)
        for row, length in enumerate(LENGTHS):
            feeds["input"][length:, row] = 100.0
    for layer in range(layers):
        width = D if layer == 0 else directions * H
        constants[f"W{layer}"] = normal(directions, 4 * H, width)
        constants[f"R{layer}"] = normal(directions, 4 * H, H)
        if bias[layer]:
            constants[f"B{layer}"] = normal(directions, 8 * H)
        if peepholes:
            constants[f"P{layer}"] = normal(directions, 3 * H)
        for k, of_all in given.items():
            (constants if state == "constant" else feeds)[f"{k}_{layer}"] = \
                of_all[layer * directions:(layer + 1) * directions]

    def model(batch_first):
        """The graph; with `batch_first` its nodes have `layout` 1."""
        nodes, tensors, x = [], [], "input"
        for name, array in constants.items():
            array = np.swapaxes(array, 0, 1) if batch_first and name[1:2] == "_" else array
            if encoded and name[0] in "RP":
                value = initializer(f"{name}_value", array, name[0] == "P")
                nodes.append(helper.make_node("Constant", [], [name], value=value))
            else:
                tensors.append(initializer(name, array, encoded))
        one = helper.make_tensor("one", TensorProto.INT64, [1], [2 if batch_first else 1])
        joined = helper.make_tensor("joined", TensorProto.INT64, [3], [0, 0, -1])
        tensors += [joined] if directions == 2 else [one]
        for layer in range(layers):
            optional = lambda name: name if name in constants or name in feeds else ""
            inputs = [x, f"W{layer}", f"R{layer}", optional(f"B{layer}"),
                      optional("lengths"), optional(f"h_0_{layer}"), optional(f"c_0_{layer}"),
                      optional(f"P{layer}")]
            while not inputs[-1]:
                inputs.pop()
            settings = dict(attributes)
            if directions == 2:
                settings["direction"] = "bidirectional"
            if batch_first:
                settings["layout"] = 1
            nodes.append(helper.make_node(
                "LSTM", inputs, [f"Y{layer}", f"h_n_{layer}", f"c_n_{layer}"],
                name=f"lstm_{layer}", hidden_size=H, **settings))
            x = "output" if layer == layers - 1 else f"x{layer + 1}"
            if directions == 1:
                nodes.append(helper.make_node("Squeeze", [f"Y{layer}", "one"], [x]))
            elif batch_first:
                nodes.append(helper.make_node("Reshape", [f"Y{layer}", "joined"], [x]))
            else:
                nodes.append(helper.make_node("Transpose", [f"Y{layer}"], [f"Z{layer}"], perm=[0, 2, 1, 3]))
                nodes.append(helper.make_node("Reshape", [f"Z{layer}", "joined"], [x]))
        steps, rows = ("batch", "time") if batch_first else ("time", "batch")
        info = lambda name, kind, shape: helper.make_tensor_value_info(name, kind, shape)
        inputs = [info("input", element, [steps, rows, D])]
        inputs += [info("lengths", TensorProto.INT32, ["batch"])] if lengths else []
        states = [None, "batch", H] if not batch_first else ["batch", None, H]
        states[0 if not batch_first else 1] = directions
        inputs += [info(name, element, states) for name in feeds if name[1:2] == "_"]
        outputs = [info("output", element, [steps, rows, directions * H])]
        outputs += [info(f"{k}_{layer}", element, states) for layer in range(layers) for k in ("h_n", "c_n")]
        graph = helper.make_graph(nodes, "lstm", inputs, outputs, tensors)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR, producer_name="make.py")

    found = compute(model(False), feeds)
    results = {"output": found["output"]}
    for k in ("h_n", "c_n"):
        results[k] = np.concatenate([found[f"{k}_{layer}"] for layer in range(layers)])
    tensors = {"input": feeds["input"]} | given | results
    if lengths:
        tensors["lengths"] = np.array(LENGTHS, np.int64)
    config = {
        "d_input": D, "d_hidden": H, "num_layers": layers, "bidirectional": directions == 2,
        "bias": any(bias), "batch_first": False,
    }  # fmt: skip
    return model(layout), tensors, config


def functions(rng):
    """Every activation function in each of the three places: one file of many LSTMs."""
    nodes, constants, outputs = [], [], []
    x = rng.standard_normal((T, B, D)).astype(np.float32)
    # Small weights: cells of unbounded functions would explode.
    for name, array in [("W", (1, 4 * H, D)), ("R", (1, 4 * H, H)), ("B", (1, 8 * H))]:
        constants.append(initializer(name, (rng.standard_normal(array) * 0.2).astype(np.float32), False))
    for function, (alpha, beta) in FUNCTIONS.items():
        for place, position in enumerate(("gate", "cell", "hidden")):
            activations = ["Sigmoid", "Tanh", "Tanh"]
            activations[place] = function
            settings = dict(activations=activations)
            settings |= {"activation_alpha": alpha} if alpha else {}
            settings |= {"activation_beta": beta} if beta else {}
            name = f"{function}_{position}"
            nodes.append(helper.make_node("LSTM", ["input", "W", "R", "B"], [name], hidden_size=H, **settings))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["time", 1, "batch", H]))
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["time", "batch", D])]
    graph = helper.make_graph(nodes, "functions", inputs, outputs, constants)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR, producer_name="make.py")
    onnx.save(model, HERE / "functions.onnx")
    found = compute(model, {"input": x})
    save("functions", {"input": x} | {k: v[:, 0] for k, v in found.items()}, {})


def refused():
    """Files that must be refused, of small weights."""

    def write(name, inputs=("input", "W", "R"), tensors=None, **attributes):
        rng = np.random.default_rng(0)
        weights = {"W": (1, 8, 3), "R": (1, 8, 2)}
        tensors = tensors or [numpy_helper.from_array(rng.random(s).astype(np.float32), k) for k, s in weights.items()]
        node = helper.make_node("LSTM", list(inputs), ["Y"], name="the_lstm", **attributes)
        info = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["time", "batch", 3])]
        info += [helper.make_tensor_value_info(k, TensorProto.FLOAT, None) for k in inputs[1:] if k not in [t.name for t in tensors]]
        output = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)]
        graph = helper.make_graph([node], "refused", info, output, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        onnx.save(model, HERE / "refused" / f"{name}.onnx")

    (HERE / "refused").mkdir(exist_ok=True)
    write("reverse", direction="reverse", hidden_size=2)
    write("settings", direction="sideways", hidden_size=3, clip=-1.0, input_forget=2, slope=0.5,
          activations=["Sine", "Tanh", "Affine"])  # fmt: skip
    write("huge_hidden_size", hidden_size=2**62)
    write("weights_from_outside", inputs=("input", "W", "weights"))
    external = helper.make_tensor("W", TensorProto.FLOAT, [1, 8, 3], np.zeros(24, np.float32))
    external.ClearField("float_data")
    external.data_location = TensorProto.EXTERNAL
    for key, value in [("location", "../../../Cargo.toml"), ("offset", "0"), ("length", "96")]:
        entry = external.external_data.add()
        entry.key, entry.value = key, value
    recurrent = numpy_helper.from_array(np.zeros((1, 8, 2), np.float32), "R")
    write("external", tensors=[external, recurrent])
    for name, dims in [("negative", [1, 8, -3]), ("overflow", [2**62, 8, 3]), ("too_few", [1, 8, 4])]:
        tensor = helper.make_tensor("W", TensorProto.FLOAT, [1, 8, 3], np.zeros(24, np.float32))
        del tensor.dims[:]
        tensor.dims.extend(dims)
        write(f"shape_{name}", tensors=[tensor, recurrent])


def refused_stack():
    """Two nodes that are no two layers of one LSTM, the second with a state in the file."""
    rng = np.random.default_rng(1)
    draw = lambda name, *shape: numpy_helper.from_array(rng.random(shape).astype(np.float32), name)
    tensors = [draw("W0", 1, 8, 3), draw("R0", 1, 8, 2), draw("W1", 1, 12, 2), draw("R1", 1, 12, 3),
               draw("state", 1, 2, 3), numpy_helper.from_array(np.array([1]), "one")]  # fmt: skip
    nodes = [
        helper.make_node("LSTM", ["input", "W0", "R0", "", "lengths"], ["Y0"], name="lower", hidden_size=2),
        helper.make_node("Squeeze", ["Y0", "one"], ["x"]),
        helper.make_node("LSTM", ["x", "W1", "R1", "", "", "state", "given"], ["Y1"], name="upper",
                         hidden_size=3, clip=2.0),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    inputs = [info("input", TensorProto.FLOAT, ["time", 2, 3]), info("lengths", TensorProto.INT32, [2]),
              info("given", TensorProto.FLOAT, [1, 2, 3])]  # fmt: skip
    outputs = [info("Y1", TensorProto.FLOAT, ["time", 1, 2, 3])]
    graph = helper.make_graph(nodes, "refused", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.save(model, HERE / "refused" / "stack.onnx")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for seed, (name, case) in enumerate(TORCH_CASES.items()):
        torch.manual_seed(seed)  # a seed each: a new case at the end changes no other
        torch_case(name, *case)
    for seed, (name, (attributes, case)) in enumerate(NODE_CASES.items()):
        model, tensors, config = node_case(np.random.default_rng(100 + seed), attributes, **case)
        onnx.save(model, HERE / f"{name}.onnx")
        save(name, tensors, config)
    functions(np.random.default_rng(200))
    refused()
    refused_stack()
    print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, torch {torch.__version__}: "
          f"wrote {len(list(HERE.rglob('*.onnx')))} .onnx, {len(list(HERE.glob('*.safetensors')))} .safetensors")


if __name__ == "__main__":
    main()
