#!/usr/bin/env python3
"""Write the ten small models that are mutated: `make_models.py [FOLDER]`.

Each holds other kinds of message and operator. Needs the packages of `xtask/conformance/requirements.txt`.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
IR_VERSION = 10
F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

random = np.random.default_rng(1)


def weight(name, *shape):
    return numpy_helper.from_array((random.standard_normal(shape) * 0.3).astype(np.float32), name)


def ints(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def info(name, kind, *shape):
    return helper.make_tensor_value_info(name, kind, shape)


node = helper.make_node


def model(nodes, inputs, outputs, initializers=(), functions=(), sparse=(), **metadata):
    graph = helper.make_graph(
        nodes, "graph", inputs, outputs, list(initializers), sparse_initializer=list(sparse)
    )
    opsets = [helper.make_opsetid("", OPSET)]
    if functions:
        opsets.append(helper.make_opsetid("local", 1))
    made = helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, functions=list(functions), producer_name="recurve"
    )
    helper.set_model_props(made, metadata)
    # The package does not infer the types of sparse initializers.
    onnx.checker.check_model(made, full_check=not sparse)
    return made


def lstm():
    """Bidirectional, with peepholes, initial states and rows of different length."""
    size = 5
    return model(
        [
            node(
                "LSTM", ["x", "w", "r", "b", "lengths", "h", "c", "p"], ["y", "y_h", "y_c"],
                direction="bidirectional", hidden_size=size, clip=3.0,
                activations=["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Softsign", "Tanh"],
                activation_alpha=[0.2], activation_beta=[0.5],
            ),
            node("Transpose", ["y"], ["t"], perm=[0, 2, 1, 3]),
            node("Reshape", ["t", "shape"], ["z"]),
        ],
        [
            info("x", F, "time", "batch", 3), info("lengths", TensorProto.INT32, "batch"),
            info("h", F, 2, "batch", size), info("c", F, 2, "batch", size),
        ],
        [info("z", F, "time", "batch", 2 * size), info("y_h", F, 2, "batch", size), info("y_c", F, 2, "batch", size)],
        [
            weight("w", 2, 4 * size, 3), weight("r", 2, 4 * size, size), weight("b", 2, 8 * size),
            weight("p", 2, 3 * size), ints("shape", 0, 0, -1),
        ],
    )  # fmt: skip


def gru():
    """A GRU that resets after the product, and a plain recurrence backwards over it."""
    return model(
        [
            node("GRU", ["x", "w", "r", "b"], ["y"], hidden_size=4, linear_before_reset=1),
            node("Squeeze", ["y", "one"], ["s"]),
            node("RNN", ["s", "w2", "r2"], ["z", "z_h"], hidden_size=3, direction="reverse", activations=["Relu"]),
        ],
        [info("x", F, "time", "batch", 2)],
        [info("z", F, "time", 1, "batch", 3), info("z_h", F, 1, "batch", 3)],
        [
            weight("w", 1, 12, 2), weight("r", 1, 12, 4), weight("b", 1, 24), ints("one", 1),
            weight("w2", 1, 3, 4), weight("r2", 1, 3, 3),
        ],
    )  # fmt: skip


def encoder_decoder():
    """One LSTM reads tokens, a second one in a loop writes them."""
    size, words = 4, 6
    cell = dict(hidden_size=size)
    body = helper.make_graph(
        [
            node("Gather", ["embedding", "token"], ["e"]),
            node("Unsqueeze", ["e", "zero"], ["x"]),
            node("LSTM", ["x", "w2", "r2", "b2", "", "h_in", "c_in"], ["", "h_out", "c_out"], **cell),
            node("Squeeze", ["h_out", "zero"], ["s"]),
            node("Gemm", ["s", "out", "bias"], ["logits"], transB=1),
            node("ArgMax", ["logits"], ["next"], axis=-1, keepdims=0),
            node("Identity", ["go"], ["go_out"]),
        ],
        "decode",
        [
            info("i", I), info("go", B), info("token", I, "batch"),
            info("h_in", F, 1, "batch", size), info("c_in", F, 1, "batch", size),
        ],
        [
            info("go_out", B), info("next", I, "batch"), info("h_out", F, 1, "batch", size),
            info("c_out", F, 1, "batch", size), info("logits", F, "batch", words),
        ],
    )  # fmt: skip
    return model(
        [
            node("Gather", ["embedding", "question"], ["q"]),
            node("LSTM", ["q", "w", "r", "b", "", "h", "c"], ["", "h_read", "c_read"], **cell),
            node("Shape", ["question"], ["form"]),
            node("Gather", ["form", "second"], ["batch_extent"]),
            node("ConstantOfShape", ["batch_extent"], ["start"], value=ints("", 5)),
            node("Loop", ["steps", "", "start", "h_read", "c_read"], ["last", "h_out", "c_out", "all"], body=body),
        ],
        [info("question", I, "time", "batch"), info("h", F, 1, "batch", size), info("c", F, 1, "batch", size)],
        [
            info("last", I, "batch"), info("h_out", F, 1, "batch", size), info("c_out", F, 1, "batch", size),
            info("all", F, "steps", "batch", words),
        ],
        [
            weight("embedding", words, 3),
            weight("w", 1, 4 * size, 3), weight("r", 1, 4 * size, size), weight("b", 1, 8 * size),
            weight("w2", 1, 4 * size, 3), weight("r2", 1, 4 * size, size), weight("b2", 1, 8 * size),
            weight("out", words, size), weight("bias", words), ints("zero", 0), ints("second", 1),
            numpy_helper.from_array(np.array(3, np.int64), "steps"),
        ],
        vocabulary="012345",
    )  # fmt: skip


def conv_net():
    return model(
        [
            node("Conv", ["x", "k1"], ["a"], auto_pad="SAME_UPPER", strides=[2, 2]),
            node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b"]),
            node("Relu", ["b"], ["c"]),
            node("Conv", ["c", "k2", "bias"], ["d"], group=4, dilations=[2, 2], pads=[2, 2, 2, 2]),
            node("Clip", ["d", "low", "high"], ["e"]),
            node("MaxPool", ["e"], ["f"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
            node("Add", ["f", "f"], ["g"]),
            node("AveragePool", ["g"], ["ga"], kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1),
            node("GlobalAveragePool", ["ga"], ["h"]),
            node("Flatten", ["h"], ["i"], axis=1),
            node("Gemm", ["i", "dense"], ["j"], alpha=0.5),
            node("Softmax", ["j"], ["y"], axis=1),
        ],
        [info("x", F, "batch", 2, 9, 9)],
        [info("y", F, "batch", 3)],
        [
            weight("k1", 4, 2, 3, 3), weight("k2", 4, 1, 3, 3), weight("bias", 4), weight("dense", 4, 3),
            weight("scale", 4), weight("shift", 4), weight("mean", 4),
            numpy_helper.from_array(np.ones(4, np.float32), "var"),
            numpy_helper.from_array(np.array(-1, np.float32), "low"),
            numpy_helper.from_array(np.array(6, np.float32), "high"),
        ],
    )  # fmt: skip


def branches():
    """A branch in a branch, with values from both graphs around it."""

    def body(name, *nodes):
        return helper.make_graph(list(nodes), name, [], [info("o", F, "n")])

    inner = node(
        "If", ["second"], ["o"],
        then_branch=body("inner_then", node("Mul", ["x", "kept"], ["o"])),
        else_branch=body("inner_else", node("Identity", ["kept"], ["o"])),
    )  # fmt: skip
    return model(
        [
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Less", ["sum", "zero"], ["first"]),
            node(
                "If", ["first"], ["z"],
                then_branch=body("then", node("Abs", ["x"], ["kept"]), inner),
                else_branch=body("else", node("Add", ["x", "one"], ["o"])),
            ),
            node("Sqrt", ["z"], ["y"]),
        ],
        [info("x", F, "n"), info("second", B)],
        [info("y", F, "n")],
        [
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array([1], np.float32), "one"),
        ],
    )  # fmt: skip


def loop():
    """Runs while a sum is small, gathers rows, and has a loop inside."""
    inner = helper.make_graph(
        [node("Add", ["t", "x"], ["t_out"]), node("Identity", ["on"], ["on_out"])],
        "inner",
        [info("j", I), info("on", B), info("t", F, "n")],
        [info("on_out", B), info("t_out", F, "n")],
    )
    body = helper.make_graph(
        [
            node("Loop", ["two", "", "s"], ["grown"], body=inner),
            node("ReduceMax", ["grown"], ["most"], keepdims=0),
            node("Less", ["most", "bound"], ["go_out"]),
            node("Mul", ["grown", "half"], ["row"]),
            node("Identity", ["grown"], ["s_out"]),
        ],
        "body",
        [info("i", I), info("go", B), info("s", F, "n")],
        [info("go_out", B), info("s_out", F, "n"), info("row", F, "n")],
    )
    return model(
        [node("Loop", ["most_steps", "go_first", "x"], ["y", "rows"], body=body)],
        [info("x", F, "n")],
        [info("y", F, "n"), info("rows", F, "steps", "n")],
        [
            numpy_helper.from_array(np.array(7, np.int64), "most_steps"),
            numpy_helper.from_array(np.array(2, np.int64), "two"),
            numpy_helper.from_array(np.array(True), "go_first"),
            numpy_helper.from_array(np.array(50, np.float32), "bound"),
            numpy_helper.from_array(np.array(0.5, np.float32), "half"),
        ],
    )


def scan():
    """A cell written out in a Scan, two sequences of which one runs backwards."""
    body = helper.make_graph(
        [
            node("Gemm", ["x_t", "w", "bias"], ["a"], transB=1),
            node("MatMul", ["h_in", "r"], ["b"]),
            node("Sum", ["a", "b", "z_t"], ["c"]),
            node("Tanh", ["c"], ["h_out"]),
            node("Neg", ["h_out"], ["y_t"]),
        ],
        "cell",
        [info("h_in", F, "batch", 4), info("x_t", F, "batch", 3), info("z_t", F, "batch", 4)],
        [info("h_out", F, "batch", 4), info("y_t", F, "batch", 4)],
    )
    return model(
        [
            node(
                "Scan", ["h", "x", "z"], ["h_last", "y"], body=body, num_scan_inputs=2,
                scan_input_directions=[0, 1], scan_output_directions=[1], scan_output_axes=[1],
            )
        ],
        [info("h", F, "batch", 4), info("x", F, "time", "batch", 3), info("z", F, "time", "batch", 4)],
        [info("h_last", F, "batch", 4), info("y", F, "batch", "time", 4)],
        [weight("w", 4, 3), weight("bias", 4), weight("r", 4, 4)],
    )  # fmt: skip


def functions():
    """Functions that call functions, with an attribute handed through."""
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("local", 1)]
    leaky = node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    soft = helper.make_function("local", "Leaky", ["a"], ["b"], [leaky], opsets, ["slope"])
    inner = node("Leaky", ["s"], ["t"], domain="local", slope=0.25)
    twice = helper.make_function(
        "local", "Twice", ["x", "w"], ["y"],
        [node("MatMul", ["x", "w"], ["s"]), inner, node("MatMul", ["t", "w"], ["y"])], opsets,
    )  # fmt: skip
    body = helper.make_graph([node("Twice", ["y1", "w"], ["o"], domain="local")], "then", [], [info("o", F, "n", 3)])
    other = helper.make_graph([node("Identity", ["y1"], ["o"])], "else", [], [info("o", F, "n", 3)])
    return model(
        [
            node("Twice", ["x", "w"], ["y1"], domain="local"),
            node("If", ["again"], ["y"], then_branch=body, else_branch=other),
        ],
        [info("x", F, "n", 3), info("again", B)],
        [info("y", F, "n", 3)],
        [weight("w", 3, 3)],
        [soft, twice],
    )


def attention():
    """Self-attention of two heads with its shape arithmetic, and a layer normalisation."""
    return model(
        [
            node("MatMul", ["x", "qkv"], ["p"]),
            node("Split", ["p"], ["q0", "k0", "v0"], axis=2, num_outputs=3),
            node("Shape", ["x"], ["form"], end=2),
            node("Concat", ["form", "heads"], ["split"], axis=0),
            node("Reshape", ["q0", "split"], ["q1"]),
            node("Reshape", ["k0", "split"], ["k1"]),
            node("Reshape", ["v0", "split"], ["v1"]),
            node("Transpose", ["q1"], ["q"], perm=[0, 2, 1, 3]),
            node("Transpose", ["k1"], ["k"], perm=[0, 2, 3, 1]),
            node("Transpose", ["v1"], ["v"], perm=[0, 2, 1, 3]),
            node("MatMul", ["q", "k"], ["scores"]),
            node("Div", ["scores", "root"], ["scaled"]),
            node("Softmax", ["scaled"], ["weights"]),
            node("MatMul", ["weights", "v"], ["mixed"]),
            node("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
            node("Shape", ["x"], ["whole"]),
            node("Reshape", ["back", "whole"], ["flat"]),
            node("Add", ["flat", "x"], ["sum"]),
            node("LayerNormalization", ["sum", "scale", "shift"], ["y"]),
        ],
        [info("x", F, "batch", "time", 6)],
        [info("y", F, "batch", "time", 6)],
        [
            weight("qkv", 6, 18), ints("heads", 2, 3), weight("scale", 6), weight("shift", 6),
            numpy_helper.from_array(np.array(3**0.5, np.float32), "root"),
        ],
    )  # fmt: skip


def movement():
    """Elements moved about, in several element types and tensor encodings."""
    sparse = helper.make_sparse_tensor(weight("mask", 2), ints("mask_at", 1, 4), [6])
    typed = helper.make_tensor("typed", TensorProto.FLOAT16, [6], [1.5, -2.0, 0.0, 4.0, 5.0, 6.0])
    return model(
        [
            node("Slice", ["x", "from", "to", "axes", "steps"], ["a"]),
            node("Pad", ["a", "pads"], ["b"], mode="reflect"),
            node("Tile", ["b", "times"], ["c"]),
            node("Add", ["c", "mask"], ["d"]),
            node("Where", ["flags", "d", "c"], ["e"]),
            node("Cast", ["e"], ["half"], to=TensorProto.FLOAT16),
            node("Mul", ["half", "typed"], ["f"]),
            node("Cast", ["f"], ["whole"], to=TensorProto.INT32),
            node("ReverseSequence", ["whole", "lengths"], ["g"], time_axis=1, batch_axis=0),
            node("Shape", ["x"], ["form"]),
            node("Gather", ["form", "zero"], ["rows"]),
            node("Range", ["zero", "rows", "one"], ["count"]),
            node("Unsqueeze", ["count", "last"], ["column"]),
            node("Expand", ["column", "wide"], ["h"]),
            node("ReduceMax", ["g", "last"], ["most"], keepdims=0),
            node("ArgMax", ["e"], ["best"], axis=1),
            node("Constant", [], ["five"], value_ints=[5]),
            node("Concat", ["best", "best"], ["both"], axis=1),
            node("Max", ["both", "five"], ["i"]),
        ],
        [info("x", F, "rows", 5), info("lengths", I, "rows"), info("flags", B, 6)],
        [
            info("h", I, "rows", 2), info("most", TensorProto.INT32, "rows"), info("i", I, "rows", 2),
            info("f", TensorProto.FLOAT16, "rows", 6),
        ],
        [
            ints("from", -1), ints("to", -100), ints("axes", 1), ints("steps", -2), ints("pads", 0, 1, 0, 2),
            ints("times", 1, 1), typed, ints("last", -1), ints("wide", 1, 2),
            numpy_helper.from_array(np.array(0, np.int64), "zero"),
            numpy_helper.from_array(np.array(1, np.int64), "one"),
        ],
        sparse=[sparse],
        author="nobody",
    )  # fmt: skip


MODELS = [
    lstm, gru, encoder_decoder, conv_net, branches, loop, scan, functions, attention, movement,
]  # fmt: skip


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "models"
    for make in MODELS:
        onnx.save(make(), folder / f"{make.__name__}.onnx")


if __name__ == "__main__":
    main()
