"""Writes the Keras golden files that lie beside this script.

    pip install keras torch h5py numpy safetensors
    python tests/goldens/keras/make.py

The committed files were made with keras 3.15.1 on torch 2.15.0, on the CPU. The same versions
on the same kind of machine write identical bytes; others may differ in the last bits of what was
trained (what it was trained from stays the same).

Sizes: B=3 sequences, T=7 steps, D=5 inputs, H=11 units, all odd and distinct. README.md says what
each file holds.
"""

import json
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
import torch
from keras import layers
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
B, T, D, H = 3, 7, 5, 11
VOCABULARY, CLASSES = 13, 3
WEIGHT_STD = 0.4  # wider than Keras's default, so that the gates leave 0.5
LENGTHS = [5, 7, 1]  # of the padded rows; padding is 100.0


def random(*shape):
    return np.random.normal(size=shape).astype("float32")


def trained(model, inputs):
    """`model` after a few steps of training from weights N(0, WEIGHT_STD²)."""
    model.set_weights([random(*w.shape) * WEIGHT_STD for w in model.get_weights()])
    outputs = [np.asarray(keras.ops.convert_to_numpy(o)) for o in as_list(model(inputs))]
    targets = [random(*output.shape) for output in outputs]
    model.compile(keras.optimizers.SGD(0.5), loss=["mse"] * len(outputs))
    for _ in range(3):
        model.train_on_batch(inputs, targets)
    return model


def as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


def save(name, tensors, settings):
    """Writes inputs and results, settings as JSON in the metadata under `config`."""
    tensors = {k: np.ascontiguousarray(keras.ops.convert_to_numpy(v)) for k, v in tensors.items()}
    save_file(tensors, HERE / f"{name}.safetensors", metadata={"config": json.dumps(settings)})


def lstm(**settings):
    return layers.LSTM(H, return_sequences=True, return_state=True, **settings)


def stack_case(name, num_layers, bidirectional=False, legacy=False, **settings):
    """A stack of LSTM layers with given states: {name}.weights.h5, {name}.safetensors."""
    directions = 2 if bidirectional else 1
    places = num_layers * directions
    sequence = layers.Input((T, D))
    h_0 = [layers.Input((H,)) for _ in range(places)]
    c_0 = [layers.Input((H,)) for _ in range(places)]
    output, h_n, c_n = sequence, [], []
    for layer in range(num_layers):
        built = lstm(**settings)
        if bidirectional:
            built = layers.Bidirectional(built, merge_mode="concat")
        here = range(layer * directions, (layer + 1) * directions)
        state = [part for place in here for part in (h_0[place], c_0[place])]
        output, *after = built(output, initial_state=state)
        h_n += after[0::2]
        c_n += after[1::2]
    model = keras.Model([sequence, *h_0, *c_0], [output, *h_n, *c_n])

    inputs = [random(B, T, D)] + [random(B, H) for _ in range(2 * places)]
    trained(model, inputs)
    model.save_weights(HERE / f"{name}.weights.h5")
    if legacy:
        model.save(HERE / f"{name}.h5")
    output, *states = model(inputs)
    states = [keras.ops.convert_to_numpy(state) for state in states]
    save(name, {
        "input": inputs[0],
        "h_0": np.stack(inputs[1:1 + places]), "c_0": np.stack(inputs[1 + places:]),
        "output": output, "h_n": np.stack(states[:places]), "c_n": np.stack(states[places:]),
    }, {
        "d_input": D, "d_hidden": H, "num_layers": num_layers, "bidirectional": bidirectional,
        "bias": settings.get("use_bias", True),
    })  # fmt: skip


def masked_case(name, bidirectional):
    """Rows with padding on the right and on the left of it, told to Keras by a mask."""
    sequence = layers.Input((T, D))
    mask = layers.Input((T,), dtype="bool")
    built = lstm()
    if bidirectional:
        built = layers.Bidirectional(built, merge_mode="concat")
    output, *after = built(sequence, mask=mask)
    model = keras.Model([sequence, mask], [output, *after])
    valid = np.arange(T)[None, :] < np.array(LENGTHS)[:, None]
    right = [np.where(valid[..., None], random(B, T, D), 100.0).astype("float32"), valid]
    trained(model, right)
    model.save_weights(HERE / f"{name}.weights.h5")

    tensors = {"lengths": np.array(LENGTHS, dtype="int64")}
    left = [np.ascontiguousarray(part[:, ::-1]) for part in right]
    for side, inputs in (("right", right), ("left", left)):
        output, *states = model(inputs)
        states = [keras.ops.convert_to_numpy(state) for state in states]
        tensors |= {
            f"{side}.input": inputs[0], f"{side}.mask": inputs[1].astype("int64"),
            f"{side}.output": output,
            f"{side}.h_n": np.stack(states[0::2]), f"{side}.c_n": np.stack(states[1::2]),
        }  # fmt: skip
    save(name, tensors, {"d_input": D, "d_hidden": H, "bidirectional": bidirectional})


def inside_model():
    """LSTMs as parts of a bigger functional model, one of them in a model of its own."""
    inner_input = layers.Input((T, H))
    inner_output = layers.Bidirectional(layers.LSTM(4), name="reader")(inner_input)
    inner = keras.Model(inner_input, inner_output, name="summary")
    tokens = layers.Input((T,), dtype="int64")
    embedded = layers.Embedding(VOCABULARY, D, name="embed")(tokens)
    encoded = layers.LSTM(H, return_sequences=True, name="encoder")(embedded)
    counted = layers.GRU(H, return_sequences=True, name="counter")(encoded)
    scores = layers.Dense(CLASSES, name="head")(inner(counted))
    model = keras.Model(tokens, scores)
    inputs = np.random.randint(VOCABULARY, size=(B, T))
    trained(model, inputs)
    model.save_weights(HERE / "inside_model.weights.h5")
    parts = keras.Model(tokens, [embedded, encoded, counted])
    embedded, encoded, counted = parts(inputs)
    save("inside_model", {
        "encoder.input": embedded, "encoder.output": encoded,
        "reader.input": counted, "reader.output": inner(counted),
    }, {"d_input": D, "d_hidden": H})  # fmt: skip


def keras_2_names():
    """What Keras 2 called the weights of `stacked`, in a file of its own."""
    with h5py.File(HERE / "stacked.weights.h5") as source, h5py.File(HERE / "keras_2.h5", "w") as file:
        for theirs, name in (("layers/lstm", "lstm"), ("layers/lstm_1", "lstm_1")):
            for index, part in enumerate(["kernel", "recurrent_kernel", "bias"]):
                values = source[f"{theirs}/cell/vars/{index}"][...]
                file[f"{name}/{name}/lstm_cell/{part}:0"] = values


def newest_format():
    """`bidirectional` in the newest form that HDF5 has, chunked in part and in other floats."""
    newest = h5py.File(HERE / "newest_format.weights.h5", "w", libver="latest")
    with h5py.File(HERE / "bidirectional.weights.h5") as source, newest as file:
        def copy(name, item):
            if not isinstance(item, h5py.Dataset):
                file.require_group(name)
            elif name.endswith("/2"):
                file.create_dataset(name, data=item[...], chunks=(17,))
            elif name.endswith("/1"):
                file.create_dataset(name, data=item[...].astype(">f8"))
            else:
                file.create_dataset(name, data=item[...])

        source.visititems(copy)


def other_floats(dtype):
    """One layer whose weights are in other floats: {dtype}.weights.h5, their values beside it."""
    # The default, orthogonal, is not for these floats.
    layer = layers.LSTM(H, dtype=dtype, recurrent_initializer="glorot_uniform")
    model = keras.Sequential([layers.Input((T, D)), layer])
    model.set_weights([random(*w.shape) for w in model.get_weights()])
    model.save_weights(HERE / f"{dtype}.weights.h5")
    kernel, recurrent_kernel, bias = [
        keras.ops.convert_to_numpy(keras.ops.cast(w, "float32")) for w in model.weights
    ]
    save(dtype, {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias}, {})


def deep_type():
    """An array of lists of lists of … 3000 times: nothing that Keras writes."""
    deep = h5py.h5t.IEEE_F32LE
    for _ in range(3000):
        deep = h5py.h5t.vlen_create(deep)
    with h5py.File(HERE / "deep_type.h5", "w") as file:
        group = file.create_group("layers/lstm/cell/vars")
        h5py.h5d.create(group.id, b"0", deep, h5py.h5s.create_simple((2,)))


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    jobs = [
        lambda: stack_case("single", 1),
        lambda: stack_case("stacked", 2),
        lambda: stack_case("bidirectional", 2, bidirectional=True, legacy=True),
        lambda: stack_case("no_bias", 1, use_bias=False),
        lambda: stack_case("hard_sigmoid", 1, recurrent_activation="hard_sigmoid"),
        lambda: stack_case("softsign", 1, activation="softsign"),
        lambda: masked_case("masked", False),
        lambda: masked_case("masked_bidirectional", True),
        inside_model,
        keras_2_names,
        newest_format,
        lambda: other_floats("float16"),
        lambda: other_floats("bfloat16"),
        deep_type,
    ]
    for seed, job in enumerate(jobs):  # a seed each: a new case at the end changes no other
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        job()
    print(f"keras {keras.__version__}: wrote {len(list(HERE.glob('*.h5')))} .h5, "
          f"{len(list(HERE.glob('*.safetensors')))} .safetensors")


if __name__ == "__main__":
    main()
