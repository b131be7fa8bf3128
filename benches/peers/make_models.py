#!/usr/bin/env python3
"""Write the benchmark models: `make_models.py FOLDER [NAME ...]`.

    FOLDER/NAME.onnx     opset 17, float32, weights and inputs from a seed that the name gives
    FOLDER/NAME.inputs.npz, FOLDER/NAME.outputs.npz
                         arrays by the names of the model's inputs and outputs, the latter as ONNX Runtime
                         computes them on the CPU with one thread: what `recurve check` takes
    FOLDER/models.json   per model its group, inputs and outputs, and the arithmetic and weight bytes that
                         the floors are made of; written when no NAME is given

Nineteen benchmark models, three more with explicit initial states, a transformer encoder in primitive
operators, and `null_add`, whose latency is what a call costs.
"""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
F32 = np.float32


class Model:
    """A graph that is being written, its seeded generator, and the phases that its floors are made of."""

    def __init__(self, name, group):
        self.name, self.group = name, group
        self.nodes, self.initializers, self.inputs, self.outputs = [], [], [], []
        self.names = 0
        self.random = np.random.default_rng(zlib.crc32(name.encode()))
        self.phases = []

    def constant(self, array):
        self.names += 1
        name = f"w{self.names}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def weight(self, shape, bound):
        """A weight drawn uniformly from [-bound, bound)."""
        return self.constant(self.random.uniform(-bound, bound, shape).astype(F32))

    def indices(self, values):
        return self.constant(np.array(values, np.int64))

    def node(self, operator, inputs, outputs=1, **attributes):
        """Append a node; returns the name of its output, or the list of its several outputs."""
        self.names += 1
        names = [f"t{self.names}"] if outputs == 1 else [f"t{self.names}_{k}" for k in range(outputs)]
        name = f"{operator}_{self.names}"
        self.nodes.append(helper.make_node(operator, inputs, names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def input(self, name, shape):
        self.inputs.append((name, shape))
        return name

    def output(self, value, shape, name):
        """Make `value` a graph output called `name`, by renaming it."""
        for node in self.nodes:
            for values in (node.input, node.output):
                for k, found in enumerate(values):
                    if found == value:
                        values[k] = name
        self.outputs.append((name, shape))

    def phase(self, label, flops, weight_bytes, repeats=1):
        """Arithmetic of the whole phase, and weight bytes that each of its repeats reads."""
        self.phases.append(
            {"label": label, "flops": float(flops), "bytes": float(weight_bytes), "repeats": int(repeats)}
        )

    def save(self, folder):
        """Write the model and its expected outputs; returns its entry of models.json."""
        path = folder / f"{self.name}.onnx"
        onnx.save(self.finished(), path)
        x = {name: self.random.standard_normal(shape).astype(F32) for name, shape in self.inputs}
        y = expected_outputs(path, x, self.outputs)
        np.savez(folder / f"{self.name}.inputs.npz", **x)
        names = [name for name, _ in self.outputs]
        np.savez(folder / f"{self.name}.outputs.npz", **dict(zip(names, y, strict=True)))
        floats = [tensor for tensor in self.initializers if tensor.data_type == TensorProto.FLOAT]
        weight_bytes = sum(int(np.prod(tensor.dims)) * 4 for tensor in floats)
        flops = sum(phase["flops"] for phase in self.phases)
        print(
            f"{self.name:28s} nodes={len(self.nodes):4d} weights={weight_bytes / 2**20:8.2f} MiB"
            f" flops={flops / 1e6:10.2f} M  out std={float(np.std(y[0])):.3f}",
            flush=True,
        )
        return {
            "name": self.name,
            "group": self.group,
            "nodes": len(self.nodes),
            "weight_bytes": weight_bytes,
            "flops": flops,
            "phases": self.phases,
            "inputs": [[name, list(shape)] for name, shape in self.inputs],
            "outputs": [[name, list(shape)] for name, shape in self.outputs],
        }

    def finished(self):
        """The checked model, with the shapes of its values inferred."""

        def infos(values):
            return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values]

        graph = helper.make_graph(
            self.nodes, self.name, infos(self.inputs), infos(self.outputs), self.initializers
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="make_models.py")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)


def expected_outputs(path, inputs, outputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    values = session.run([name for name, _ in outputs], inputs)
    for (name, shape), value in zip(outputs, values, strict=True):
        assert list(value.shape) == list(shape), (name, value.shape, shape)
        assert np.isfinite(value).all(), name
    return values


# Recurrent models


def recurrent_layer(model, kind, x, sizes, bidirectional=False, h0=None, zero_states=False):
    """One LSTM or GRU node, weights uniform in ±1/√H; returns [Y, Y_h] or [Y, Y_h, Y_c].

    `sizes` is (time, batch, input, hidden). `zero_states` writes zero initial states out, as torch's
    exporter does; `h0` names an input that holds the initial h.
    """
    time, batch, inputs, hidden = sizes
    gates = 4 if kind == "LSTM" else 3
    directions = 2 if bidirectional else 1
    bound = 1 / np.sqrt(hidden)
    w = model.weight([directions, gates * hidden, inputs], bound)
    r = model.weight([directions, gates * hidden, hidden], bound)
    b = model.weight([directions, 2 * gates * hidden], bound)
    attributes = {"hidden_size": hidden, "direction": "bidirectional" if bidirectional else "forward"}
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    states = ["", h0] if h0 else []
    if zero_states:
        count = 2 if kind == "LSTM" else 1
        states = ["", *[model.constant(np.zeros((directions, batch, hidden), F32)) for _ in range(count)]]
    outputs = model.node(kind, [x, w, r, b, *states], outputs=3 if kind == "LSTM" else 2, **attributes)
    for _ in range(directions):
        input_weights, recurrent_weights = gates * hidden * inputs, gates * hidden * hidden
        model.phase("input GEMM", 2.0 * time * batch * input_weights, 4.0 * input_weights)
        model.phase("recurrent", 2.0 * time * batch * recurrent_weights, 4.0 * recurrent_weights, time)
    return outputs


def single(kind, hidden, time, batch=1, zero_states=False, group="deepbench"):
    """One layer with input size = hidden size, as the tasks of DeepBench."""
    suffix = "_init" if zero_states else ""
    model = Model(f"{kind.lower()}_h{hidden}_t{time}_b{batch}{suffix}", group)
    x = model.input("X", [time, batch, hidden])
    # With one step and an implicit zero state an optimiser may fold R·h0 away, so there h0 is an input.
    h0 = model.input("h0", [1, batch, hidden]) if time == 1 else None
    sizes = (time, batch, hidden, hidden)
    outputs = recurrent_layer(model, kind, x, sizes, h0=h0, zero_states=zero_states)
    model.output(outputs[0], [time, 1, batch, hidden], "Y")
    model.output(outputs[1], [1, batch, hidden], "Y_h")
    if kind == "LSTM":
        model.output(outputs[2], [1, batch, hidden], "Y_c")
    return model


def stacked_lstm(layers, hidden, time, batch=1):
    model = Model(f"lstm{layers}l_h{hidden}_t{time}_b{batch}", "small")
    x = model.input("X", [time, batch, hidden])
    directions = model.indices([1])
    states = []
    for _ in range(layers):
        y, y_h, y_c = recurrent_layer(model, "LSTM", x, (time, batch, hidden, hidden))
        x = model.node("Squeeze", [y, directions])
        states.append((y_h, y_c))
    h = model.node("Concat", [h for h, _ in states], axis=0)
    c = model.node("Concat", [c for _, c in states], axis=0)
    model.output(x, [time, batch, hidden], "Y")
    model.output(h, [layers, batch, hidden], "H")
    model.output(c, [layers, batch, hidden], "C")
    return model


def bidirectional_lstm(hidden, time, batch=1):
    model = Model(f"bilstm_h{hidden}_t{time}_b{batch}", "small")
    x = model.input("X", [time, batch, hidden])
    y, y_h, y_c = recurrent_layer(model, "LSTM", x, (time, batch, hidden, hidden), bidirectional=True)
    y = model.node("Transpose", [y], perm=[0, 2, 1, 3])
    y = model.node("Reshape", [y, model.indices([0, 0, -1])])
    model.output(y, [time, batch, 2 * hidden], "Y")
    model.output(y_h, [2, batch, hidden], "H")
    model.output(y_c, [2, batch, hidden], "C")
    return model


# Recurrences written out step by step


def unrolled_lstm(layers, hidden, time, batch=1):
    """An LSTM in primitive nodes, as exporters write a cell that they do not know."""
    model = Model(f"unrolled_lstm{layers}l_h{hidden}_t{time}_b{batch}", "unrolled")
    x = model.input("X", [time, batch, hidden])
    bound = 1 / np.sqrt(hidden)
    steps = [model.node("Gather", [x, model.indices(t)], axis=0) for t in range(time)]
    zero = model.constant(np.zeros((batch, hidden), F32))
    last_h, last_c = [], []
    for _ in range(layers):
        w = model.weight([hidden, 4 * hidden], bound)
        r = model.weight([hidden, 4 * hidden], bound)
        b = model.weight([4 * hidden], bound)
        h, c, outputs = zero, zero, []
        for step in steps:
            h, c = lstm_cell(model, step, h, c, (w, r, b))
            outputs.append(h)
        steps = outputs
        last_h.append(h)
        last_c.append(c)
        flops, weight_bytes = 2.0 * time * batch * 4 * hidden * hidden, 16.0 * hidden * hidden
        model.phase("input GEMM", flops, weight_bytes)
        model.phase("recurrent", flops, weight_bytes, time)
    first = model.indices([0])
    y = concat_along_axis(model, steps, first, 0)
    h = concat_along_axis(model, last_h, first, 0)
    c = concat_along_axis(model, last_c, first, 0)
    model.output(y, [time, batch, hidden], "Y")
    model.output(h, [layers, batch, hidden], "H")
    model.output(c, [layers, batch, hidden], "C")
    return model


def lstm_cell(model, x, h, c, weights):
    w, r, b = weights
    products = [model.node("MatMul", [x, w]), model.node("MatMul", [h, r])]
    sums = model.node("Add", [model.node("Add", products), b])
    i, f, g, o = model.node("Split", [sums], outputs=4, axis=1)
    i, f, o = (model.node("Sigmoid", [gate]) for gate in (i, f, o))
    g = model.node("Tanh", [g])
    c = model.node("Add", [model.node("Mul", [f, c]), model.node("Mul", [i, g])])
    return model.node("Mul", [o, model.node("Tanh", [c])]), c


def attention_gru(hidden, time, batch=1):
    """A GRU encoder and a GRU decoder with additive attention in each step, all in primitive nodes."""
    model = Model(f"attn_gru_h{hidden}_t{time}_b{batch}", "unrolled")
    source = model.input("src", [time, batch, hidden])
    target = model.input("tgt", [time, batch, hidden])
    bound = 1 / np.sqrt(hidden)
    index = [model.indices(t) for t in range(time)]
    first, second = model.indices([0]), model.indices([1])
    one = model.constant(np.array(1.0, F32))

    h = model.constant(np.zeros((batch, hidden), F32))
    encoder = gru_weights(model, hidden, hidden, bound)
    states = []
    for t in range(time):
        x = model.node("Gather", [source, index[t]], axis=0)
        h = gru_cell(model, x, h, encoder, one)
        states.append(h)
    flops, weight_bytes = 2.0 * time * batch * 3 * hidden * hidden, 12.0 * hidden * hidden
    model.phase("enc input GEMM", flops, weight_bytes)
    model.phase("enc recurrent", flops, weight_bytes, time)

    memory = concat_along_axis(model, states, second, 1)  # [batch, time, hidden]
    key_weight, query_weight = model.weight([hidden, hidden], bound), model.weight([hidden, hidden], bound)
    score = model.weight([hidden, 1], bound * 4)
    keys = model.node("MatMul", [memory, key_weight])  # [batch, time, hidden]
    model.phase("keys GEMM", 2.0 * time * batch * hidden * hidden, 4.0 * hidden * hidden)

    decoder = gru_weights(model, 2 * hidden, hidden, bound)
    out_weight, out_bias = model.weight([hidden, 2 * hidden], bound), model.weight([hidden], bound)
    outputs = []
    for t in range(time):
        query = model.node("MatMul", [h, query_weight])
        query = model.node("Unsqueeze", [query, second])  # [batch, 1, hidden]
        energy = model.node("Tanh", [model.node("Add", [keys, query])])
        energy = model.node("MatMul", [energy, score])  # [batch, time, 1]
        share = model.node("Softmax", [model.node("Transpose", [energy], perm=[0, 2, 1])], axis=-1)
        context = model.node("Squeeze", [model.node("MatMul", [share, memory]), second])  # [batch, hidden]
        x = model.node("Concat", [model.node("Gather", [target, index[t]], axis=0), context], axis=1)
        h = gru_cell(model, x, h, decoder, one)
        both = model.node("Concat", [h, context], axis=1)
        outputs.append(model.node("Gemm", [both, out_weight, out_bias], transB=1))
    # In sequence: the query, the context's half of the input weights, the recurrent weights, the attention.
    # For all steps at once: the target's half of the input weights, the output weights.
    square, attention = hidden * hidden, 2 * time * hidden
    model.phase("dec batched", 2.0 * time * batch * 5 * square, 4.0 * 5 * square)
    per_step = 7 * square + attention
    model.phase("dec sequential", 2.0 * time * batch * per_step, 4.0 * per_step, time)
    y = concat_along_axis(model, outputs, first, 0)
    model.output(y, [time, batch, hidden], "Y")
    model.output(h, [batch, hidden], "H")
    return model


def gru_weights(model, inputs, hidden, bound):
    w, r = model.weight([3 * hidden, inputs], bound), model.weight([3 * hidden, hidden], bound)
    return w, r, model.weight([3 * hidden], bound), model.weight([3 * hidden], bound)


def gru_cell(model, x, h, weights, one):
    w, r, input_bias, recurrent_bias = weights
    from_x = model.node("Gemm", [x, w, input_bias], transB=1)
    from_h = model.node("Gemm", [h, r, recurrent_bias], transB=1)
    x_update, x_reset, x_candidate = model.node("Split", [from_x], outputs=3, axis=1)
    h_update, h_reset, h_candidate = model.node("Split", [from_h], outputs=3, axis=1)
    update = model.node("Sigmoid", [model.node("Add", [x_update, h_update])])
    reset = model.node("Sigmoid", [model.node("Add", [x_reset, h_reset])])
    candidate = model.node("Add", [x_candidate, model.node("Mul", [reset, h_candidate])])
    candidate = model.node("Tanh", [candidate])
    kept = model.node("Mul", [model.node("Sub", [one, update]), candidate])
    return model.node("Add", [kept, model.node("Mul", [update, h])])


def concat_along_axis(model, values, axes, axis):
    """Values of equal shape, stacked along the inserted `axis`; `axes` is the constant that names it."""
    return model.node("Concat", [model.node("Unsqueeze", [value, axes]) for value in values], axis=axis)


# Attention


def transformer(layers, width, time, heads=4, batch=1):
    """An encoder as exporters write one: layer normalisation, GELU and attention in primitive nodes."""
    model = Model(f"transformer{layers}l_d{width}_t{time}_b{batch}", "transformer")
    x = model.input("X", [batch, time, width])
    split = model.indices([0, 0, heads, width // heads])
    joined = model.indices([0, 0, width])
    for _ in range(layers):
        q, k, v = (dense(model, x, width, width) for _ in range(3))
        q, k, v = (model.node("Reshape", [value, split]) for value in (q, k, v))
        q, v = (model.node("Transpose", [value], perm=[0, 2, 1, 3]) for value in (q, v))
        k = model.node("Transpose", [k], perm=[0, 2, 3, 1])
        scale = model.constant(np.array(np.sqrt(width // heads), F32))
        scores = model.node("Div", [model.node("MatMul", [q, k]), scale])
        share = model.node("Softmax", [scores], axis=-1)
        y = model.node("Transpose", [model.node("MatMul", [share, v])], perm=[0, 2, 1, 3])
        y = dense(model, model.node("Reshape", [y, joined]), width, width)
        x = layer_norm(model, model.node("Add", [x, y]), width)
        y = gelu(model, dense(model, x, width, 4 * width))
        x = layer_norm(model, model.node("Add", [x, dense(model, y, 4 * width, width)]), width)
        model.phase("projections", 2.0 * batch * time * 12 * width * width, 48.0 * width * width)
        model.phase("attention", 4.0 * batch * time * time * width, 0)
    model.output(x, [batch, time, width], "Y")
    return model


def dense(model, x, inputs, outputs):
    bound = 1 / np.sqrt(inputs)
    product = model.node("MatMul", [x, model.weight([inputs, outputs], bound)])
    return model.node("Add", [model.weight([outputs], bound), product])


def layer_norm(model, x, width):
    centred = model.node("Sub", [x, model.node("ReduceMean", [x], axes=[-1])])
    square = model.node("Pow", [centred, model.constant(np.array(2.0, F32))])
    variance = model.node("ReduceMean", [square], axes=[-1])
    shifted = model.node("Add", [variance, model.constant(np.array(1e-5, F32))])
    normal = model.node("Div", [centred, model.node("Sqrt", [shifted])])
    scale = model.constant(model.random.uniform(0.8, 1.2, width).astype(F32))
    return model.node("Add", [model.node("Mul", [normal, scale]), model.weight([width], 0.1)])


def gelu(model, x):
    root, one, half = (model.constant(np.array(value, F32)) for value in (np.sqrt(2.0), 1.0, 0.5))
    raised = model.node("Add", [model.node("Erf", [model.node("Div", [x, root])]), one])
    return model.node("Mul", [model.node("Mul", [x, raised]), half])


# Convolutional models


def convolution(model, x, channels, kernel, size, stride=1, pad=None, group=1, activation="Relu"):
    """Conv, BatchNormalization and activation; returns the value and its (height, width).

    `channels` is (in, out), `size` the height and width of `x`.
    """
    channels_in, channels_out = channels
    pad = kernel // 2 if pad is None else pad
    fan_in = channels_in // group * kernel * kernel
    shape = (channels_out, channels_in // group, kernel, kernel)
    weight = model.constant((model.random.standard_normal(shape) * np.sqrt(2.0 / fan_in)).astype(F32))
    height, width = ((extent + 2 * pad - kernel) // stride + 1 for extent in size)
    x = model.node(
        "Conv",
        [x, weight],
        kernel_shape=[kernel, kernel],
        strides=[stride] * 2,
        pads=[pad] * 4,
        group=group,
        dilations=[1, 1],
    )
    label = f"conv{kernel}x{kernel}" + ("dw" if group > 1 else "")
    model.phase(label, 2.0 * channels_out * fan_in * height * width, 4.0 * channels_out * fan_in)
    bounds = [(0.8, 1.2), (-0.1, 0.1), (-0.1, 0.1), (0.8, 1.2)]  # scale, bias, mean, variance
    statistics = [model.random.uniform(low, high, channels_out) for low, high in bounds]
    normalisation = [model.constant(values.astype(F32)) for values in statistics]
    x = model.node("BatchNormalization", [x, *normalisation], epsilon=1e-5)
    if activation == "Relu":
        x = model.node("Relu", [x])
    elif activation == "Relu6":
        limits = [model.constant(np.array(limit, F32)) for limit in (0, 6)]
        x = model.node("Clip", [x, *limits])
    return x, (height, width)


def classifier(model, x, features, weight_bound):
    """Global average pool and a dense layer of 1,000 classes."""
    x = model.node("Flatten", [model.node("GlobalAveragePool", [x])], axis=1)
    weight, bias = model.weight([1000, features], weight_bound), model.weight([1000], 0.05)
    logits = model.node("Gemm", [x, weight, bias], transB=1)
    model.phase("fc", 2.0 * features * 1000, 4.0 * features * 1000)
    model.output(logits, [1, 1000], "logits")


def crnn():
    """Text recognition: three convolutions, a bidirectional LSTM over the width, 37 classes per column."""
    model = Model("crnn_1x1x32x160", "conv")
    x, size = model.input("image", [1, 1, 32, 160]), (32, 160)
    for channels, window in [((1, 64), [2, 2]), ((64, 128), [2, 2]), ((128, 256), [2, 1])]:
        x, (height, width) = convolution(model, x, channels, 3, size)
        x = model.node("MaxPool", [x], kernel_shape=window, strides=window)
        size = (height // window[0], width // window[1])
    x = model.node("Transpose", [x], perm=[3, 0, 1, 2])  # [width, batch, channels, height]
    x = model.node("Reshape", [x, model.indices([40, 1, 1024])])
    y, _, _ = recurrent_layer(model, "LSTM", x, (40, 1, 1024, 128), bidirectional=True)
    y = model.node("Transpose", [y], perm=[0, 2, 1, 3])
    y = model.node("Reshape", [y, model.indices([40, 1, 256])])
    y = model.node("MatMul", [y, model.weight([256, 37], 1 / 16)])
    y = model.node("Add", [y, model.weight([37], 1 / 16)])
    model.phase("fc", 2.0 * 40 * 256 * 37, 4.0 * 256 * 37)
    model.output(model.node("LogSoftmax", [y], axis=-1), [40, 1, 37], "logits")
    return model


def resnet18():
    model = Model("resnet18_224", "conv")
    x = model.input("image", [1, 3, 224, 224])
    x, _ = convolution(model, x, (3, 64), 7, (224, 224), stride=2, pad=3)
    x = model.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels, size = 64, (56, 56)
    for wider, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        y, inner = convolution(model, x, (channels, wider), 3, size, stride)
        y, _ = convolution(model, y, (wider, wider), 3, inner, activation=None)
        if stride != 1 or channels != wider:
            x, _ = convolution(model, x, (channels, wider), 1, size, stride, 0, activation=None)
        x = model.node("Relu", [model.node("Add", [y, x])])
        channels, size = wider, inner
    classifier(model, x, 512, 1 / np.sqrt(512))
    return model


def mobilenet():
    """MobileNetV1: depthwise and pointwise convolutions in turn."""
    model = Model("mobilenetv1_224", "conv")
    x = model.input("image", [1, 3, 224, 224])
    x, size = convolution(model, x, (3, 32), 3, (224, 224), stride=2, activation="Relu6")
    channels = 32
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    blocks += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    for wider, stride in blocks:
        depthwise = {"stride": stride, "group": channels}
        x, size = convolution(model, x, (channels, channels), 3, size, activation="Relu6", **depthwise)
        x, size = convolution(model, x, (channels, wider), 1, size, pad=0, activation="Relu6")
        channels = wider
    classifier(model, x, 1024, 1 / 32)
    return model


def null_add():
    model = Model("null_add", "null")
    x = model.input("X", [1, 8])
    model.output(model.node("Add", [x, model.weight([1, 8], 1.0)]), [1, 8], "Y")
    return model


def all_models():
    yield null_add()
    for hidden, time in [(256, 150), (512, 25), (1024, 25), (1536, 50), (2048, 25)]:
        yield single("LSTM", hidden, time)
    for hidden, time in [(512, 1), (1024, 150), (1536, 100), (2048, 50)]:
        yield single("GRU", hidden, time)
    yield stacked_lstm(2, 64, 20)
    yield stacked_lstm(4, 128, 64)
    yield bidirectional_lstm(256, 50)
    for zero_states in (False, True):
        for batch in (8, 32):
            group = "initial states" if zero_states else "batch"
            yield single("LSTM", 512, 25, batch, zero_states, group=group)
    yield unrolled_lstm(2, 128, 16)
    yield attention_gru(256, 20)
    yield transformer(6, 256, 64)
    yield crnn()
    yield resnet18()
    yield mobilenet()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    entries = [model.save(folder) for model in all_models() if not names or model.name in names]
    unknown = set(names) - {entry["name"] for entry in entries}
    if unknown:
        sys.exit(f"no such model: {', '.join(sorted(unknown))}")
    if not names:
        (folder / "models.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
