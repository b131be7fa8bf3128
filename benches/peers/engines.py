"""The engines that are measured, each measurement in a process of its own: Recurve's command, Python packages through
`runner.py`, and tract through the program in `tract/`.

A measurement is a dictionary: `load_ms`, `p50_us` (the median latency of the runs behind three others), `peak_mib` (the
peak of the resident memory, less what the process held before it loaded the model: for all engines alike), and
`outputs`, the arrays that came out, in the order of the graph. What an engine refuses raises `Refused` with its words.
"""
import json
import os
import pathlib
import subprocess

import numpy as np

HERE = pathlib.Path(__file__).parent
WARMUP = 3
TIME_LIMIT = 300  # seconds for one measurement


class Refused(Exception):
    """The engine does not run the model, in its own words."""


class Model:
    """An ONNX file, beside it NPZ files of its inputs and of its outputs by their names, and these in order."""

    def __init__(self, path, inputs, outputs):
        self.path, self.inputs, self.outputs = pathlib.Path(path), inputs, outputs
        self.given, self.expected = (self.path.with_suffix(f".{of}.npz") for of in ("inputs", "outputs"))

    def in_order(self, file):
        """The arrays of the outputs in `file`."""
        with np.load(file) as held:
            return [held[name] for name in self.outputs]


def process(command):
    """The JSON that `command` prints."""
    try:
        # Words of a failure end with the cause, not with a backtrace.
        env = os.environ | {"RUST_BACKTRACE": "0"}
        command = list(map(str, command))
        ran = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, env=env)
    except subprocess.TimeoutExpired:
        raise Refused(f"no answer in {TIME_LIMIT} s") from None
    if ran.returncode != 0:
        lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
        raise Refused(lines[-1][:200] if lines else f"exit {ran.returncode}")
    return json.loads(ran.stdout[ran.stdout.index("{") :])


def recurve(command, *options):
    """Recurve's command with these options of `recurve run`."""

    def measure(model, threads, runs, scratch):
        made = scratch / "made.npz"
        line = [command, "run", model.path, "--inputs", model.given, "--outputs", made, "--threads", threads]
        document = process([*line, "--runs", runs, "--warmup", WARMUP, "--json", *options])
        return {
            "load_ms": document["load_ms"],
            "p50_us": document["latency_us"]["p50"],
            "peak_mib": (document["peak_rss_bytes"] - document["rss_before_load_bytes"]) / 2**20,
            "outputs": model.in_order(made),
        }

    return measure


def in_python(name, interpreter):
    """An engine of `runner.py`."""

    def measure(model, threads, runs, scratch):
        made = scratch / "made.npz"
        line = [interpreter, HERE / "runner.py", name, model.path, model.given, threads, runs, made]
        document = process([*line, json.dumps(model.outputs)])
        return document | {"outputs": model.in_order(made)}

    return measure


def tract(program):
    """The program in `tract/`, which takes raw `f32`."""

    def measure(model, threads, runs, scratch):
        with np.load(model.given) as held:
            for k, name in enumerate(model.inputs):
                held[name].astype("<f4").tofile(scratch / f"in_{k}.bin")
        document = process([program, model.path, scratch, threads, runs])
        made = [np.fromfile(scratch / f"out_{k}.bin", "<f4") for k in range(len(model.outputs))]
        return document | {"outputs": made}

    return measure


def peer(name, program):
    """The engine of a peer, by its name and the interpreter or program that runs it."""
    return tract(program) if name == "tract" else in_python(name, program)


def error(outputs, expected):
    """The largest difference from the expected outputs, over the largest element of each."""
    worst = 0.0
    for got, want in zip(outputs, expected, strict=True):
        if got.size != want.size:
            return float("nan")
        scale = max(float(np.max(np.abs(want), initial=0)), 1e-30)
        difference = np.abs(got.astype(np.float64).reshape(want.shape) - want)
        worst = max(worst, float(np.max(difference, initial=0)) / scale)
        if not np.isfinite(difference).all():
            return float("nan")
    return worst
