"""Write the models and arrays that the tests of the command read, into the folder of this script.

Needs numpy and onnx. The files are committed; run this again only to change them.
"""

import io
import pathlib
import zipfile

import numpy as np
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"]


def outside(name, *shape):
    """A constant whose bytes the file `NAME.bin` beside the model holds; a test makes it."""
    made = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    made.external_data.add(key="location", value=f"{name}.bin")
    return made


def tensor(name, dtype, *shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def save(file, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, file, inputs, outputs, constants)
    model = helper.make_model(
        graph, producer_name="make.py", ir_version=9, opset_imports=[helper.make_opsetid("", 17)]
    )
    helper.set_model_props(model, {"purpose": "test"})
    (HERE / f"{file}.onnx").write_bytes(model.SerializeToString())


def models():
    node = helper.make_node
    f32, i64 = TensorProto.FLOAT, TensorProto.INT64
    # y = relu(x + bias), with two symbols.
    bias = numpy_helper.from_array(np.float32([1, -2, 0.5, 0]), "bias")
    save(
        "biased",
        [node("Add", ["x", "bias"], ["sum"], "adds"), node("Relu", ["sum"], ["y"], "clamps")],
        [tensor("x", f32, "batch", "time", 4)],
        [tensor("y", f32, "batch", "time", 4)],
        [bias],
    )
    # A window that needs four places.
    save(
        "windowed",
        [node("AveragePool", ["x"], ["y"], "averages", kernel_shape=[4])],
        [tensor("x", f32, 1, 1, "time")],
        [tensor("y", f32, 1, 1, None)],
    )
    # 100 MB and 128 MiB of weights.
    hidden = 1792
    save(
        "large_lstm",
        [node("LSTM", ["x", "w", "r"], ["y"], "layer", hidden_size=hidden)],
        [tensor("x", f32, "time", "batch", hidden)],
        [tensor("y", f32, "time", 1, "batch", hidden)],
        [outside("w", 1, 4 * hidden, hidden), outside("r", 1, 4 * hidden, hidden)],
    )
    save(
        "large_gemm",
        [node("Gemm", ["x", "w"], ["y"], "product", transB=1)],
        [tensor("x", f32, "batch", 4096)],
        [tensor("y", f32, "batch", 8192)],
        [outside("w", 8192, 4096)],
    )
    # A loop that never ends.
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Relu", ["v"], ["w"])],
        "body",
        [tensor("i", i64), tensor("go", TensorProto.BOOL), tensor("v", f32)],
        [tensor("go_on", TensorProto.BOOL), tensor("w", f32)],
    )
    save("endless", [node("Loop", ["", "", "x"], ["y"], "turns", body=body)], [tensor("x", f32)], [tensor("y", f32)])
    # A loop whose body takes a constant from outside, where it is read as well.
    body = helper.make_graph(
        [
            node("Identity", ["go"], ["go_on"]),
            node("Add", ["v", "bias"], ["raised"], "adds"),
            node("Relu", ["raised"], ["w"], "clamps"),
        ],
        "body",
        [tensor("i", i64), tensor("go", TensorProto.BOOL), tensor("v", f32, 4)],
        [tensor("go_on", TensorProto.BOOL), tensor("w", f32, 4)],
    )
    save(
        "looped",
        [node("Mul", ["x", "bias"], ["scaled"], "scales"), node("Loop", ["", "go", "scaled"], ["y"], "turns", body=body)],
        [tensor("x", f32, 4), tensor("go", TensorProto.BOOL)],
        [tensor("y", f32, 4)],
        [bias],
    )
    # Shapes that depend on data, and an input of one integer.
    save(
        "found",
        [node("NonZero", ["x"], ["at"], "finds"), node("Add", ["at", "rate"], ["y"], "moves")],
        [tensor("x", f32, 4), tensor("rate", i64)],
        [tensor("y", i64, 1, None)],
    )
    # Two operators that no engine has.
    save(
        "unknown",
        [node("Frobnicate", ["x"], ["z"], "first"), node("Twiddle", ["z"], ["y"], "second")],
        [tensor("x", f32, 1)],
        [tensor("y", f32, 1)],
    )
    # One output for each dtype that NPY has.
    kinds = {kind: helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in DTYPES}
    save(
        "dtypes",
        [node("And", [k, k], [f"y_{k}"]) if k == "b1" else node("Max", [k], [f"y_{k}"]) for k in DTYPES],
        [tensor(k, dtype, None, None) for k, dtype in kinds.items()],
        [tensor(f"y_{k}", dtype, None, None) for k, dtype in kinds.items()],
    )
    # A dropout whose share is data runs on the host beside a GPU.
    save(
        "running",
        [
            node("Sigmoid", ["x"], ["a"], "before"),
            node("ReduceMean", ["a"], ["share"], "tells", keepdims=0),
            node("Dropout", ["a", "share", "train"], ["b"], "drops", seed=1),
            node("Neg", ["b"], ["y"], "after"),
        ],
        [tensor("x", f32, 1, 5)],
        [tensor("y", f32, 1, 5)],
        [numpy_helper.from_array(np.array(True), "train")],
    )
    # What NPY does not have; an axis without a name; no axis at all.
    bf16 = TensorProto.BFLOAT16
    # A sum over more axes than a GPU kernel takes, in an operator that becomes one with another when the extent is known.
    across, along = [1] + [2, 1] * 3 + [1] * 10, [1, 2] * 3 + [1] * 10
    save(
        "waves",
        [node("Add", ["x", "k"], ["a"], "sum"), node("Cos", ["a"], ["y"], "of_sum")],
        [tensor("x", f32, "n", *along), tensor("k", f32, *across)],
        [tensor("y", f32, "n", *[2] * 6, *[1] * 10)],
    )
    save("words", [node("Transpose", ["x"], ["y"])], [tensor("x", TensorProto.STRING, 2, 3)], [tensor("y", TensorProto.STRING, 3, 2)])
    save("bf16", [node("Max", ["x"], ["y"])], [tensor("x", bf16, 2)], [tensor("y", bf16, 2)])
    save(
        "odd_inputs",
        [node("Relu", ["row"], ["y"]), node("Relu", ["scalar"], ["z"])],
        [tensor("row", f32, 1, None), tensor("scalar", f32)],
        [tensor("y", f32, 1, None), tensor("z", f32)],
    )


def example(kind):
    """Six elements of `kind`, extremes among them, as [2, 3]."""
    if kind == "b1":
        return np.array([[True, False, True], [False, False, True]])
    if kind.startswith("f"):
        return np.array([[0.5, -1.25, 3], [np.inf, 2.0**-10, np.finfo(kind).max]], kind)
    limits = np.iinfo(kind)
    return np.array([[limits.min, limits.max, 0], [1, 2, 77]], kind)


def arrays():
    plain = {k: example(k) for k in DTYPES}
    swapped = {k: a.astype(a.dtype.newbyteorder(">")) for k, a in plain.items()}
    np.savez(HERE / "plain.npz", **plain)
    np.savez_compressed(HERE / "swapped.npz", **{k: np.asfortranarray(a) for k, a in swapped.items()})
    np.savez_compressed(HERE / "expected.npz", **{f"y_{k}": a for k, a in plain.items()})
    np.savez(HERE / "wrong_dtype.npz", f4=plain["f8"])
    np.savez(HERE / "two_wrong.npz", f2=plain["f8"], f4=plain["f8"])
    np.savez(HERE / "flat_x.npz", x=np.zeros(6, "f4"))
    np.savez(HERE / "row.npz", row=np.float32([[1, -1, 2]]))
    np.savez(HERE / "odd_inputs.npz", row=np.float32([[1, -1, 2]]), scalar=np.float32(-3))

    words = np.array([["eins", "", "drei"], ["λ", "fünf", "6"]])
    np.savez(HERE / "words_x.npz", x=words)
    np.savez(HERE / "words_swapped.npz", x=np.asfortranarray(words.astype(">U6")))
    np.savez(HERE / "words_y.npz", y=words.T.copy())

    x = np.arange(-8, 8, dtype="f4").reshape(2, 2, 4)
    y = np.maximum(x + np.float32([1, -2, 0.5, 0]), 0)
    np.savez(HERE / "biased_x.npz", x=x)
    np.savez(HERE / "biased_y.npz", y=y)
    wrong = y.copy()
    wrong[1, 0, 2] += 1
    np.savez(HERE / "biased_wrong.npz", y=wrong)
    np.savez(HERE / "waves_y.npz", y=np.ones([2] * 7 + [1] * 10, "f4"))
    for number, expected in enumerate([y, wrong]):
        folder = HERE / "biased_cases" / f"test_data_set_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "input_0.pb").write_bytes(numpy_helper.from_array(x, "x").SerializeToString())
        (folder / "output_0.pb").write_bytes(numpy_helper.from_array(expected, "y").SerializeToString())


def refused_arrays():
    """Arrays that the command must refuse, each by the name of its file."""
    fields = np.zeros(2, [("a", "f4"), ("b", "i4")])
    arrays_ = {
        "bytes": np.array([b"a", b"b"]),
        "objects": np.array([{}, None], dtype=object),
        "complex": np.zeros(2, "c8"),
        "fields": fields,
        "raw": np.zeros(2, "V2"),
        "time": np.zeros(2, "M8[s]"),
    }
    good = io.BytesIO()
    np.save(good, np.zeros((2, 3), "f4"))
    header = good.getvalue()
    raw = {
        "cut": header[:-1],
        "cut_header": header[:40],
        "long": header + b"!",
        "magic": b"PK not an array",
        "version": header[:6] + b"\x09" + header[7:],
        "huge": header.replace(b"(2, 3), }", b"(9999999999999, 9999999999999), }").replace(b" " * 26, b"", 1),
        "lying": header.replace(b"(2, 3), }", b"(99999999999,), }"),
        "no_dictionary": header.replace(b"{'descr'", b"['descr'"),
        "no_order": header.replace(b"False", b"Maybe"),
        "no_character": header.replace(b"<f4", b"<U1")[:-24] + b"\xff" * 24,
    }
    with zipfile.ZipFile(HERE / "refused.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for name, array in arrays_.items():
            written = io.BytesIO()
            np.save(written, array, allow_pickle=True)
            out.writestr(zipfile.ZipInfo(f"{name}.npy"), written.getvalue(), zipfile.ZIP_DEFLATED)
        for name, data in raw.items():
            out.writestr(zipfile.ZipInfo(f"{name}.npy"), data, zipfile.ZIP_DEFLATED)


models()
arrays()
refused_arrays()
