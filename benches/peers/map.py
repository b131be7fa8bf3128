#!/usr/bin/env python3
"""Elementwise chains, softmax, layer normalisation and GELU: fused, unfused, in ONNX Runtime, and a copy.

    python benches/peers/map.py RECURVE [NAME ...] [--threads N] [--rounds N]

RECURVE is the command. Every engine runs in a process of its own, in alternating rounds; a cell is the median over
rounds of each round's median, in microseconds. `of copy` is the time to copy as many bytes as the chain reads and
writes, in the same rounds, over the fused time. Prints a Markdown table.
"""
import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import engines

# The largest difference of an output over its largest element.
TOLERANCE = 1e-4

COPY = """
import sys, time, statistics, threading
import numpy as np
elements, threads, runs = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
source, target = np.ones(elements, np.float32), np.zeros(elements, np.float32)
parts = [slice(k * elements // threads, (k + 1) * elements // threads) for k in range(threads)]
gate, done = threading.Barrier(threads), threading.Barrier(threads)
times = []
def work(part, first):
    for k in range(runs + 3):
        gate.wait()
        start = time.perf_counter()
        np.copyto(target[part], source[part])
        took = time.perf_counter() - start
        done.wait()
        if first:
            times.append(took)
workers = [threading.Thread(target=work, args=(part, k == 0)) for k, part in enumerate(parts)]
[w.start() for w in workers]
[w.join() for w in workers]
print(statistics.median(times[3:]) * 1e6)
"""

# Operators of which chains of 4, 8 and 12 take the first; `None` has a constant as its second operand.
LINKS = ["Mul", "Add", "Relu", "Mul", "Tanh", "Sub", "Abs", "Add", "Exp", "Mul", "Sigmoid", "Mul"]
CONSTANTS = [0.5, 0.25, None, 1.5, None, 0.125, None, -0.5, None, 0.75, None, 2.0]


class Graph:
    """A model that is being written."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator, *inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def save(self, path, shape, output):
        value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "map", [value("x")], [value(output)], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        onnx.save(model, path)


def chain(length, shape):
    graph, at = Graph(), "x"
    for operator, constant in list(zip(LINKS, CONSTANTS))[:length]:
        operands = [at] if constant is None else [at, graph.constant(np.float32(constant))]
        at = graph.node(operator, *operands)
    return graph, at


def softmax(shape):
    graph = Graph()
    return graph, graph.node("Softmax", "x", axis=-1)


def layer_norm(shape):
    graph, width = Graph(), shape[-1]
    scale = graph.constant(np.linspace(0.5, 1.5, width, dtype=np.float32))
    bias = graph.constant(np.linspace(-0.5, 0.5, width, dtype=np.float32))
    return graph, graph.node("LayerNormalization", "x", scale, bias, axis=-1)


def gelu(shape):
    graph = Graph()
    return graph, graph.node("Gelu", "x")


def gelu_as_exported(shape):
    graph = Graph()
    error = graph.node("Erf", graph.node("Div", "x", graph.constant(np.float32(2.0**0.5))))
    return graph, graph.node(
        "Mul",
        graph.node("Mul", "x", graph.node("Add", error, graph.constant(np.float32(1.0)))),
        graph.constant(np.float32(0.5)),
    )


def cases():
    for elements in (1 << 24, 1 << 20):
        for length in (4, 8, 12):
            yield f"chain of {length}, {elements >> 20} M", [elements >> 10, 1 << 10], lambda s, n=length: chain(n, s)
    for shape in ([128, 768], [1, 4096]):
        for name, make in [
            ("softmax", softmax),
            ("layer norm", layer_norm),
            ("GELU", gelu),
            ("GELU as exported", gelu_as_exported),
        ]:
            yield f"{name} {shape[0]}×{shape[1]}", shape, make


def copy(elements, threads, runs):
    command = [sys.executable, "-c", COPY, *map(str, (elements, threads, runs))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recurve")
    parser.add_argument("names", nargs="*", help="beginnings of the rows wanted; all by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("| nest | fused µs | unfused µs | ONNX Runtime µs | copy µs | × unfused | × ONNX Runtime | of copy |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    measured = [
        engines.recurve(arguments.recurve),
        engines.recurve(arguments.recurve, "--no-fusion"),
        engines.peer("onnxruntime", sys.executable),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.onnx")
        for name, shape, make in cases():
            if arguments.names and not any(name.startswith(wanted) for wanted in arguments.names):
                continue
            graph, output = make(shape)
            graph.save(path, shape, output)
            model = engines.Model(path, ["x"], [output])
            np.savez(model.given, x=np.random.default_rng(0).standard_normal(shape).astype(np.float32))
            elements = int(np.prod(shape))
            runs = max(10, min(2000, (1 << 25) // elements))
            columns = [[], [], [], []]
            for _ in range(arguments.rounds):
                made = [engine(model, arguments.threads, runs, pathlib.Path(folder)) for engine in measured]
                # Fused, unfused and the peer agree, or a time says nothing.
                for one in made[:-1]:
                    error = engines.error(one["outputs"], made[-1]["outputs"])
                    assert error <= TOLERANCE, f"{name}: outputs differ by {error:.1e}"
                for column, one in zip(columns, made):
                    column.append(one["p50_us"])
                columns[3].append(copy(elements, arguments.threads, runs))
            fused, unfused, peer, copied = (statistics.median(c) for c in columns)
            cells = [f"{v:.1f}" for v in (fused, unfused, peer, copied)]
            ratios = [f"{v:.2f}" for v in (unfused / fused, peer / fused, copied / fused)]
            print(f"| {name} | {' | '.join(cells + ratios)} |", flush=True)


if __name__ == "__main__":
    main()
