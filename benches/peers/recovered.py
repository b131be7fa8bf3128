#!/usr/bin/env python3
"""Recurrent layers as exporters and hands write them, step by step or as bodies, beside the operator of the same weights.

    python benches/peers/recovered.py RECURVE [NAME ...] [--threads N] [--rounds N] [--seconds S]

RECURVE is the command. Each model runs in a process of its own, its operator's in the same round; the last column is the
median over rounds of the model's median time over the operator's. That a model became one operator for each layer and
direction is asked of `recurve inspect`, that both give the same is checked. Prints a Markdown table.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import engines

TOLERANCE = 1e-4
# Steps, rows, units.
SIZES = [(1, 1, 128), (2, 1, 128), (16, 1, 128), (64, 1, 256), (16, 8, 128), (64, 8, 128)]
# Gates in the order of the operator.
GATES = {"LSTM": "iofc", "GRU": "zrh"}


class Graph:
    """A graph that is being written."""

    def __init__(self, prefix=""):
        self.nodes, self.constants, self.prefix = [], [], prefix

    def constant(self, array):
        name = f"{self.prefix}c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def nodes_of(self, operator, inputs, count, **attributes):
        names = [f"{self.prefix}t{len(self.nodes)}_{k}" for k in range(count)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def node(self, operator, *inputs, **attributes):
        return self.nodes_of(operator, list(inputs), 1, **attributes)[0]

    def save(self, path, x, y, output):
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "layer", [value("x", x)], [value(output, y)], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        onnx.save(model, path)


class Weights:
    """Of one direction of a layer: for each gate `[inputs, units]`, `[units, units]` and two vectors of biases."""

    def __init__(self, cell, inputs, units, random):
        draw = lambda *shape: random.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(units))
        self.cell, self.units = cell, units
        self.w = {gate: draw(inputs, units) for gate in GATES[cell]}
        self.r = {gate: draw(units, units) for gate in GATES[cell]}
        self.wb = {gate: draw(units) for gate in GATES[cell]}
        self.rb = {gate: draw(units) for gate in GATES[cell]}

    def beside(self, of, order, axis=-1):
        return np.concatenate([of[gate] for gate in order], axis)

    def operator(self, graph, x, reverse, reset_after):
        """All states, `[time, rows, units]`."""
        order = GATES[self.cell]
        w, r = (np.stack([self.beside(of, order).T]) for of in (self.w, self.r))
        b = np.stack([np.concatenate([self.beside(of, order) for of in (self.wb, self.rb)])])
        more = {"linear_before_reset": int(reset_after)} if self.cell == "GRU" else {}
        direction = "reverse" if reverse else "forward"
        states = graph.node(
            self.cell, x, *map(graph.constant, (w, r, b)), hidden_size=self.units, direction=direction, **more
        )
        return graph.node("Squeeze", states, graph.ints(1))


def split(graph, sums, parts):
    return graph.nodes_of("Split", [sums], parts, axis=1, num_outputs=parts)


def logistic(graph, x):
    """The function in three operators."""
    raised = graph.node("Exp", graph.node("Neg", x))
    return graph.node("Reciprocal", graph.node("Add", raised, graph.constant(np.float32(1))))


def lstm_of(graph, gates, c, sigmoid=lambda graph, x: graph.node("Sigmoid", x)):
    """States behind a step from the sums of its gates."""
    i, o, f = (sigmoid(graph, gates[gate]) for gate in "iof")
    new = graph.node("Mul", i, graph.node("Tanh", gates["c"]))
    c = graph.node("Add", graph.node("Mul", f, c), new)
    return graph.node("Mul", o, graph.node("Tanh", c)), c


def gru_of(graph, z, n, h):
    rest = graph.node("Sub", graph.constant(np.float32(1)), z)
    return graph.node("Add", graph.node("Mul", rest, n), graph.node("Mul", z, h))


class PyTorch:
    """Two Gemms with a bias each, gates split; the reset gate behind the product."""

    reset_after = True

    def __init__(self, graph, weights):
        self.cell = weights.cell
        self.order = "ifco" if self.cell == "LSTM" else "rzh"
        of = lambda array: graph.constant(array)
        self.w, self.r = (of(weights.beside(of_, self.order).T) for of_ in (weights.w, weights.r))
        self.wb, self.rb = (of(weights.beside(of_, self.order)) for of_ in (weights.wb, weights.rb))

    def step(self, graph, x, h, c):
        from_x = graph.node("Gemm", x, self.w, self.wb, transB=1)
        from_h = graph.node("Gemm", h, self.r, self.rb, transB=1)
        if self.cell == "LSTM":
            gates = split(graph, graph.node("Add", from_x, from_h), 4)
            return lstm_of(graph, dict(zip(self.order, gates)), c)
        x, from_h = split(graph, from_x, 3), split(graph, from_h, 3)
        r, z = (graph.node("Sigmoid", graph.node("Add", x[k], from_h[k])) for k in (0, 1))
        n = graph.node("Tanh", graph.node("Add", x[2], graph.node("Mul", r, from_h[2])))
        return gru_of(graph, z, n, h), c


class TensorFlow:
    """One product of [x, h], gates i, j, f, o, and of the GRU one for both gates and one for the new state."""

    reset_after = False

    def __init__(self, graph, weights):
        self.cell = weights.cell
        both = lambda order: np.concatenate([weights.beside(weights.w, order), weights.beside(weights.r, order)])
        bias = lambda order: weights.beside(weights.wb, order) + weights.beside(weights.rb, order)
        self.parts = ["icfo"] if self.cell == "LSTM" else ["rz", "h"]
        self.given = [(graph.constant(both(part)), graph.constant(bias(part))) for part in self.parts]

    def sums(self, graph, part, x, h):
        w, b = self.given[part]
        return graph.node("Add", graph.node("MatMul", graph.node("Concat", x, h, axis=1), w), b)

    def step(self, graph, x, h, c):
        if self.cell == "LSTM":
            return lstm_of(graph, dict(zip("icfo", split(graph, self.sums(graph, 0, x, h), 4))), c)
        r, z = split(graph, graph.node("Sigmoid", self.sums(graph, 0, x, h)), 2)
        n = graph.node("Tanh", self.sums(graph, 1, x, graph.node("Mul", r, h)))
        return gru_of(graph, z, n, h), c


class Keras:
    """Products gate by gate."""

    reset_after = False

    def __init__(self, graph, weights):
        self.cell = weights.cell
        of = lambda named: {gate: graph.constant(array) for gate, array in named.items()}
        self.w, self.r = of(weights.w), of(weights.r)
        self.b = of({gate: weights.wb[gate] + weights.rb[gate] for gate in weights.wb})

    def sums(self, graph, gate, x, h):
        from_x = graph.node("Add", graph.node("MatMul", x, self.w[gate]), self.b[gate])
        return graph.node("Add", from_x, graph.node("MatMul", h, self.r[gate]))

    def step(self, graph, x, h, c):
        if self.cell == "LSTM":
            return lstm_of(graph, {gate: self.sums(graph, gate, x, h) for gate in "ifco"}, c)
        z, r = (graph.node("Sigmoid", self.sums(graph, gate, x, h)) for gate in "zr")
        n = graph.node("Tanh", self.sums(graph, "h", x, graph.node("Mul", r, h)))
        return gru_of(graph, z, n, h), c


class Jax:
    """Products without transposes, one bias, gates i, g, f, o as slices; the logistic function written out."""

    reset_after = True

    def __init__(self, graph, weights):
        self.cell, self.units = weights.cell, weights.units
        self.order = "icfo" if self.cell == "LSTM" else "rzh"
        self.w, self.r = (graph.constant(weights.beside(of, self.order)) for of in (weights.w, weights.r))
        wb, rb = (weights.beside(of, self.order) for of in (weights.wb, weights.rb))
        self.wb = graph.constant(wb + rb if self.cell == "LSTM" else wb)
        self.rb = graph.constant(rb)

    def slices(self, graph, sums):
        ends = [k * self.units for k in range(len(self.order) + 1)]
        part = lambda k: graph.node("Slice", sums, *(graph.ints(v) for v in (ends[k], ends[k + 1], 1)))
        return {gate: part(k) for k, gate in enumerate(self.order)}

    def step(self, graph, x, h, c):
        from_x = graph.node("Add", graph.node("MatMul", x, self.w), self.wb)
        from_h = graph.node("MatMul", h, self.r)
        if self.cell == "LSTM":
            return lstm_of(graph, self.slices(graph, graph.node("Add", from_x, from_h)), c, logistic)
        x, from_h = self.slices(graph, from_x), self.slices(graph, graph.node("Add", from_h, self.rb))
        r, z = (logistic(graph, graph.node("Add", x[gate], from_h[gate])) for gate in "rz")
        n = graph.node("Tanh", graph.node("Add", x["h"], graph.node("Mul", r, from_h["h"])))
        return gru_of(graph, z, n, h), c


def unrolled(spelling, graph, weights, x, size, reverse=False):
    time, rows, units = size
    cell, zero = spelling(graph, weights), graph.ints(0)
    h, c = (graph.constant(np.zeros((rows, units), np.float32)) for _ in range(2))
    states = [None] * time
    for step in range(time):
        at = time - 1 - step if reverse else step
        given = graph.node("Gather", x, graph.constant(np.int64(at)), axis=0)
        h, c = cell.step(graph, given, h, c)
        states[at] = graph.node("Unsqueeze", h, zero)
    return graph.node("Concat", *states, axis=0)


def by_hand(spelling, graph, weights, x, size, reverse=False):
    """The input's product ahead of the steps."""
    time, rows, units = size
    order = "ifco" if weights.cell == "LSTM" else "rzh"
    w, r = (graph.constant(weights.beside(of, order)) for of in (weights.w, weights.r))
    wb, rb = (graph.constant(weights.beside(of, order)) for of in (weights.wb, weights.rb))
    ahead, zero = graph.node("Add", graph.node("MatMul", x, w), wb), graph.ints(0)
    h, c = (graph.constant(np.zeros((rows, units), np.float32)) for _ in range(2))
    states = []
    for step in range(time):
        given = graph.node("Gather", ahead, graph.constant(np.int64(step)), axis=0)
        from_h = graph.node("Add", graph.node("MatMul", h, r), rb)
        if weights.cell == "LSTM":
            h, c = lstm_of(graph, dict(zip(order, split(graph, graph.node("Add", given, from_h), 4))), c)
        else:
            parts, of_h = split(graph, given, 3), split(graph, from_h, 3)
            reset, z = (graph.node("Sigmoid", graph.node("Add", parts[k], of_h[k])) for k in (0, 1))
            n = graph.node("Tanh", graph.node("Add", parts[2], graph.node("Mul", reset, of_h[2])))
            h = gru_of(graph, z, n, h)
        states.append(graph.node("Unsqueeze", h, zero))
    return graph.node("Concat", *states, axis=0)


def body(spelling, graph, weights, kind):
    """The body of a Scan or Loop, and how many states it has."""
    inner = Graph("b")
    cell = spelling(graph, weights)
    states = ["h", "c"] if weights.cell == "LSTM" else ["h"]
    value = lambda name, kind=TensorProto.FLOAT, shape=None: helper.make_tensor_value_info(name, kind, shape)
    inputs, outputs = [value(name) for name in states], []
    if kind == "Loop":
        inputs = [value("number", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), *inputs]
        inner.nodes.append(helper.make_node("Identity", ["go"], ["on"]))
        inner.nodes.append(helper.make_node("Gather", ["x", "number"], ["step"], axis=0))
        outputs = [value("on", TensorProto.BOOL, [])]
    else:
        inputs.append(value("step"))
    made = cell.step(inner, "step", "h", "c")[: len(states)]
    for name, state in zip([*states, "seen"], [*made, made[0]]):
        inner.nodes.append(helper.make_node("Identity", [state], [f"new_{name}"]))
        outputs.append(value(f"new_{name}"))
    return helper.make_graph(inner.nodes, "body", inputs, outputs, inner.constants), len(states)


def scan(spelling, graph, weights, x, size, reverse=False):
    made, states = body(spelling, graph, weights, "Scan")
    zeros = [graph.constant(np.zeros(size[1:], np.float32)) for _ in range(states)]
    return graph.nodes_of("Scan", [*zeros, x], states + 1, body=made, num_scan_inputs=1)[-1]


def loop(spelling, graph, weights, x, size, reverse=False):
    made, states = body(spelling, graph, weights, "Loop")
    zeros = [graph.constant(np.zeros(size[1:], np.float32)) for _ in range(states)]
    head = [graph.constant(np.int64(size[0])), graph.constant(np.bool_(True))]
    return graph.nodes_of("Loop", [*head, *zeros], states + 1, body=made)[-1]


# Layers and directions, the cell's spelling, and how steps follow each other.
FORMS = {
    "PyTorch's cell": (1, 1, PyTorch, unrolled),
    "TensorFlow's cell": (1, 1, TensorFlow, unrolled),
    "Keras, gate by gate": (1, 1, Keras, unrolled),
    "JAX": (1, 1, Jax, unrolled),
    "by hand, products ahead": (1, 1, PyTorch, by_hand),
    "Scan": (1, 1, PyTorch, scan),
    "Loop": (1, 1, TensorFlow, loop),
    "two layers": (2, 1, PyTorch, unrolled),
    "both directions": (1, 2, Keras, unrolled),
}


def network(path, cell, form, size, spelled):
    """Writes the layers, as the form spells them or as operators; how many operators there are."""
    layers, directions, spelling, steps = form
    time, rows, units = size
    random, graph, x, width = np.random.default_rng(3), Graph(), "x", units
    for _ in range(layers):
        made = []
        for reverse in range(directions):
            weights = Weights(cell, width, units, random)
            if spelled:
                made.append(steps(spelling, graph, weights, x, size, bool(reverse)))
            else:
                made.append(weights.operator(graph, x, bool(reverse), spelling.reset_after))
        x, width = made[0] if directions == 1 else graph.node("Concat", *made, axis=2), units * directions
    graph.save(path, [time, rows, units], [time, rows, width], x)
    model = engines.Model(path, ["x"], [x])
    np.savez(model.given, x=np.random.default_rng(0).standard_normal((time, rows, units)).astype(np.float32))
    return model, layers * directions


def operators(command, path, cell):
    """How many recurrent operators the command makes of a model, and how many loops are left."""
    document = subprocess.run([command, "inspect", path, "--fused", "--json"], check=True, capture_output=True, text=True).stdout
    ops = [node["op"] for node in json.loads(document)["nodes"]]
    return ops.count(cell), sum(ops.count(op) for op in ("Scan", "Loop"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recurve")
    parser.add_argument("names", nargs="*", help="beginnings of the rows wanted; all by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.1, help="of runs in each process, about")
    arguments = parser.parse_args()
    engine = engines.recurve(arguments.recurve)
    print("| layer | spelling | T×B×H | operator µs | spelled µs | spelled / operator |")
    print("|---|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for cell in GATES:
            for name, form in FORMS.items():
                for size in SIZES:
                    shape = "×".join(map(str, size))
                    row = f"{cell} {name} {shape}"
                    if arguments.names and not any(row.startswith(wanted) for wanted in arguments.names):
                        continue
                    model, wanted = network(folder / "spelled.onnx", cell, form, size, True)
                    plain, _ = network(folder / "operator.onnx", cell, form, size, False)
                    found = operators(arguments.recurve, model.path, cell)
                    assert found == (wanted, 0), f"{row}: {found[0]} operators and {found[1]} loops of {wanted}"
                    measure = lambda model, runs: engine(model, arguments.threads, runs, folder)
                    runs = int(min(3000, max(20, arguments.seconds * 1e6 / measure(plain, 20)["p50_us"])))
                    times = []
                    for turn in range(arguments.rounds):
                        pair = [plain, model] if turn % 2 == 0 else [model, plain]
                        made = {of.path: measure(of, runs) for of in pair}
                        error = engines.error(made[model.path]["outputs"], made[plain.path]["outputs"])
                        assert error <= TOLERANCE, f"{row}: outputs differ by {error:.1e}"
                        times.append((made[plain.path]["p50_us"], made[model.path]["p50_us"]))
                    both = [statistics.median(column) for column in zip(*times)]
                    ratio = statistics.median(spelled / operator for operator, spelled in times)
                    print(f"| {cell} | {name} | {shape} | {both[0]:.1f} | {both[1]:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
