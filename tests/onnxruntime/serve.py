#!/usr/bin/env python3
"""Run ONNX models with ONNX Runtime on the CPU, one after another, as standard input asks for them.

A request and its answer are frames of parts: the number of parts, then for each part its length and bytes;
numbers are 32-bit little-endian. A request holds a model and one value per graph input. The answer holds the
reason of a refusal, empty where there is none, and then one value per graph output. Values are TensorProto,
SequenceProto or OptionalProto, as the type of the input or output says.

Element types that ONNX Runtime does not exchange with numpy go in as initializers and come out through a
Cast, which is exact. Graph optimisations are off, so that the kernel of the operator itself is what runs.
"""

import os
import re
import struct
import sys

os.environ["ALLOW_RELEASED_ONNX_OPSET_ONLY"] = "0"

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

# Newest version of the standard operator set that ONNX Runtime 1.31 knows.
NEWEST_OPSET = 27

# Element types without a numpy exchange, and the type that holds all their values.
CAST = {
    TensorProto.BFLOAT16: TensorProto.FLOAT,
    TensorProto.FLOAT8E4M3FN: TensorProto.FLOAT,
    TensorProto.FLOAT8E4M3FNUZ: TensorProto.FLOAT,
    TensorProto.FLOAT8E5M2: TensorProto.FLOAT,
    TensorProto.FLOAT8E5M2FNUZ: TensorProto.FLOAT,
    TensorProto.FLOAT8E8M0: TensorProto.FLOAT,
    TensorProto.FLOAT4E2M1: TensorProto.FLOAT,
    TensorProto.UINT4: TensorProto.UINT8,
    TensorProto.INT4: TensorProto.INT8,
    TensorProto.UINT2: TensorProto.UINT8,
    TensorProto.INT2: TensorProto.INT8,
}


def main():
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    while request := read_frame(sys.stdin.buffer):
        try:
            answer = [b"", *run(request[0], request[1:], options)]
        except Exception as error:  # Whatever ONNX Runtime raises is its answer.
            answer = [refusal(error).encode()]
        write_frame(sys.stdout.buffer, answer)


def run(model_bytes, data, options):
    model = onnx.load_model_from_string(model_bytes)
    graph = model.graph
    feeds = {}
    for info, value in zip(list(graph.input), data, strict=True):
        if info.type.HasField("tensor_type"):
            tensor = TensorProto.FromString(value)
            if tensor.data_type in CAST:
                tensor.name = info.name
                graph.initializer.append(tensor)
                graph.input.remove(info)
            else:
                feeds[info.name] = numpy_helper.to_array(tensor)
        else:
            feeds[info.name] = container(info.type, value)
    for info in graph.output:
        kind = info.type.tensor_type
        if info.type.HasField("tensor_type") and kind.elem_type in CAST:
            inner = f"{info.name}_uncast"
            for node in graph.node:
                node.output[:] = [inner if name == info.name else name for name in node.output]
            graph.node.append(helper.make_node("Cast", [inner], [info.name], to=CAST[kind.elem_type]))
    wanted = [info.type.tensor_type.elem_type for info in graph.output]
    for info in graph.output:
        if info.type.tensor_type.elem_type in CAST:
            info.type.tensor_type.elem_type = CAST[info.type.tensor_type.elem_type]
    session = started(model, options)
    values = session.run(None, feeds)
    return [
        serialized(value, info.type, elem_type)
        for value, info, elem_type in zip(values, graph.output, wanted, strict=True)
    ]


def started(model, options):
    """A session; an operator's version that is newer than ONNX Runtime is tried as the one before."""
    try:
        return session_of(model, options)
    except Exception as error:
        if "No Op registered" not in str(error):
            raise
    model.opset_import[0].version = NEWEST_OPSET
    return session_of(model, options)


def session_of(model, options):
    bytes_ = model.SerializeToString()
    return onnxruntime.InferenceSession(bytes_, options, providers=["CPUExecutionProvider"])


def container(kind, value):
    """A sequence as a list, an optional as its content or None."""
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(value))
    optional = onnx.OptionalProto.FromString(value)
    return numpy_helper.to_optional(optional) if optional.elem_type else None


def serialized(value, kind, elem_type):
    if kind.HasField("sequence_type"):
        return numpy_helper.from_list(value).SerializeToString()
    if kind.HasField("optional_type"):
        return numpy_helper.from_optional(value).SerializeToString()
    value = np.asarray(value)
    if elem_type in CAST:
        value = value.astype(helper.tensor_dtype_to_np_dtype(elem_type))
    return numpy_helper.from_array(value).SerializeToString()


def refusal(error):
    """The kind of an error and its message, without what differs from case to case."""
    text = re.sub(r"\s+", " ", str(error))
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", text)
    text = re.sub(r"^(\w+) : This is an invalid model\. In Node.*, Error ", r"\1 : ", text)
    text = re.sub(r"/\S*?([^/\s]+\.(?:cc|h|cpp):)\d+", r"\1", text)
    if "No Op registered" in text:
        return text
    return re.sub(r"-?\b\d+(\.\d+)?\b", "N", text)[:160]


def read_frame(stream):
    """The parts of the next frame; none at the end."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    parts = []
    for _ in range(struct.unpack("<I", head)[0]):
        (length,) = struct.unpack("<I", stream.read(4))
        parts.append(stream.read(length))
    return parts


def write_frame(stream, parts):
    stream.write(struct.pack("<I", len(parts)))
    for part in parts:
        stream.write(struct.pack("<I", len(part)) + part)
    stream.flush()


if __name__ == "__main__":
    main()
