#!/usr/bin/env python3
"""Write small models of ONNX Runtime's own operators, with its answers: `make_contrib.py [FOLDER]`.

    FOLDER/CASE/model.onnx
    FOLDER/CASE/test_data_set_0/input_K.pb, output_K.pb

Needs `onnx`, `numpy` and `onnxruntime` (the answers committed here are those of version 1.31.1 on one thread).
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "com.microsoft"
TYPES = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16, np.int32: TensorProto.INT32}


def write(folder, name, op_type, inputs, fed, outputs, attributes):
    """A model of one node, whose `inputs` (name to array, or None) are constants unless they are `fed`."""
    node = helper.make_node(
        op_type, [key if value is not None else "" for key, value in inputs.items()], outputs, domain=DOMAIN,
        **attributes,
    )  # fmt: skip
    kind = TYPES[inputs[fed[0]].dtype.type]
    graph = helper.make_graph(
        [node],
        name,
        [helper.make_tensor_value_info(key, TYPES[inputs[key].dtype.type], inputs[key].shape) for key in fed],
        [helper.make_tensor_value_info(key, kind, None) for key in outputs],
        [numpy_helper.from_array(v, k) for k, v in inputs.items() if v is not None and k not in fed],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="recurve")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    answers = session.run(None, {key: inputs[key] for key in fed})
    data = folder / name / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    (folder / name / "model.onnx").write_bytes(model.SerializeToString())
    for role, values in [("input", [inputs[key] for key in fed]), ("output", answers)]:
        for k, value in enumerate(values):
            (data / f"{role}_{k}.pb").write_bytes(numpy_helper.from_array(value).SerializeToString())


def mat_mul_n_bits(folder, name, bits, block, k, n, rows, dtype=np.float32, zeros=None, groups=False, bias=False):
    random = np.random.default_rng(len(name) + bits + block)
    blocks = -(-k // block)
    inputs = {
        "A": random.standard_normal((*rows, k)).astype(dtype),
        "B": random.integers(0, 256, (n, blocks, block * bits // 8), np.uint8),
        "scales": random.uniform(0.001, 0.02, (n, blocks)).astype(dtype),
        "zero_points": None,
        "g_idx": None,
        "bias": None,
    }
    if zeros == "packed":
        inputs["zero_points"] = random.integers(0, 256, (n, -(-blocks * bits // 8)), np.uint8)
    elif zeros == "plain":
        inputs["zero_points"] = random.uniform(0, 2**bits, (n, blocks)).astype(dtype)
    if groups:
        inputs["g_idx"] = random.integers(0, blocks, k).astype(np.int32)
    if bias:
        inputs["bias"] = random.standard_normal(n).astype(dtype)
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block}
    write(folder, name, "MatMulNBits", inputs, ["A"], ["Y"], attributes)


def dynamic_quantize_lstm(
    folder, name, direction="forward", dtype=np.uint8, columns=False, lengths=None, initial=True, peepholes=False,
    **attributes,
):  # fmt: skip
    random = np.random.default_rng(len(name))
    time, batch, size, hidden = 5, 3, 4, 6
    planes = 2 if direction == "bidirectional" else 1
    low, high = (0, 256) if dtype == np.uint8 else (-128, 128)

    def floats(low, high, *shape):
        return random.uniform(low, high, shape).astype(np.float32)

    def weight(depth):
        return random.integers(low, high, (planes, depth, 4 * hidden)).astype(dtype)

    def zero_points():
        # ONNX Runtime takes one zero point for all columns, 0 where the weights are signed.
        middle = random.integers(118, 138) if dtype == np.uint8 else 0
        return np.full(shape, middle if columns else random.integers(low, high)).astype(dtype)

    shape = (planes, 4 * hidden) if columns else (planes,)
    state = (planes, batch, hidden)
    inputs = {
        "X": random.standard_normal((time, batch, size)).astype(np.float32),
        "W": weight(size),
        "R": weight(hidden),
        "B": floats(-0.6, 0.6, planes, 8 * hidden),
        "sequence_lens": None if lengths is None else np.array(lengths, np.int32),
        "initial_h": floats(-1, 1, *state) if initial else None,
        "initial_c": floats(-1, 1, *state) if initial else None,
        "P": floats(-0.3, 0.3, planes, 3 * hidden) if peepholes else None,
        "W_scale": floats(0.002, 0.01, *shape),
        "W_zero_point": zero_points(),
        "R_scale": floats(0.002, 0.01, *shape),
        "R_zero_point": zero_points(),
    }
    fed = [key for key in ("X", "sequence_lens", "initial_h", "initial_c") if inputs[key] is not None]
    attributes = {"hidden_size": hidden, "direction": direction, **attributes}
    write(folder, name, "DynamicQuantizeLSTM", inputs, fed, ["Y", "Y_h", "Y_c"], attributes)


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "contrib"
    n_bits = "mat_mul_n_bits"
    mat_mul_n_bits(folder, f"{n_bits}_4", 4, 32, 70, 9, (3,))
    mat_mul_n_bits(folder, f"{n_bits}_4_row", 4, 16, 33, 20, (1,), zeros="packed")
    mat_mul_n_bits(folder, f"{n_bits}_4_many", 4, 128, 300, 40, (2, 17), zeros="packed", bias=True)
    mat_mul_n_bits(folder, f"{n_bits}_4_plain", 4, 32, 64, 8, (2,), zeros="plain")
    # Without zero points: where there are groups, ONNX Runtime 1.31.1 takes 8 for every zero point that is given.
    mat_mul_n_bits(folder, f"{n_bits}_4_groups", 4, 16, 64, 8, (2,), groups=True)
    mat_mul_n_bits(folder, f"{n_bits}_4_half", 4, 32, 64, 8, (2,), dtype=np.float16)
    mat_mul_n_bits(folder, f"{n_bits}_8", 8, 16, 40, 7, (4,))
    mat_mul_n_bits(folder, f"{n_bits}_8_packed", 8, 32, 64, 8, (2,), zeros="packed")
    mat_mul_n_bits(folder, f"{n_bits}_2", 2, 32, 70, 8, (2,))
    mat_mul_n_bits(folder, f"{n_bits}_2_packed", 2, 16, 96, 8, (2,), zeros="packed")
    lstm = "dynamic_quantize_lstm"
    dynamic_quantize_lstm(folder, f"{lstm}_forward")
    dynamic_quantize_lstm(folder, f"{lstm}_reverse_signed", "reverse", np.int8, initial=False)
    dynamic_quantize_lstm(folder, f"{lstm}_columns", columns=True, peepholes=True, clip=0.5)
    dynamic_quantize_lstm(folder, f"{lstm}_columns_signed", dtype=np.int8, columns=True, input_forget=1)
    dynamic_quantize_lstm(folder, f"{lstm}_lengths", lengths=[4, 1, 2])
    dynamic_quantize_lstm(
        folder, f"{lstm}_bidirectional", "bidirectional", lengths=[2, 5, 3], peepholes=True,
        activations=["HardSigmoid", "Tanh", "Softsign", "Sigmoid", "Tanh", "Tanh"], activation_alpha=[0.3],
        activation_beta=[0.4],
    )  # fmt: skip


if __name__ == "__main__":
    main()
