#!/usr/bin/env python3
"""Peak memory and load time of recurrent models of about 100 MB, beside ONNX Runtime's:
`memory.py RECURVE FOLDER [--rounds N] [--threads N] [--model TITLE ...]`.

Writes the models to FOLDER, runs each in processes of their own in turns, and prints a table. *Peak* is the whole process's,
as the kernel counts it (`ru_maxrss` of `wait4`), of `recurve run` with ten runs; ONNX Runtime's is less what the Python
interpreter had before the model was loaded. *Held* is what the model cannot do without: its weights, and the values that go
in, come out or pass between its nodes. Load times are medians over the rounds. Outputs are compared first.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

import engines
import numpy as np

# Waits for the command that it is given and says what it took; small itself, since a child begins with its parent's peak.
WAITER = """
import json, os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(json.dumps({"rc": os.waitstatus_to_exitcode(status), "peak_mb": usage.ru_maxrss * 1024 / 1e6}))
"""
RUNS = 10


def layers(make_models, name, kind, hidden, time, *, inputs=None, batch=1, count=1, bidirectional=False):
    """`count` layers of recurrences one on the other; the first reads `inputs` features, as many as units without it."""
    model = make_models.Model(name, "memory")
    width = inputs or hidden
    x = model.input("X", [time, batch, width])
    directions = 2 if bidirectional else 1
    for layer in range(count):
        sizes = (time, batch, width, hidden)
        y, y_h = make_models.recurrent_layer(model, kind, x, sizes, bidirectional=bidirectional)[:2]
        width = hidden
        if layer + 1 < count:
            x = model.node("Squeeze", [y, model.indices([1])])
    model.output(y, [time, directions, batch, hidden], "Y")
    model.output(y_h, [directions, batch, hidden], "Y_h")
    return model


MODELS = {
    "LSTM, H=1536, T=50": ("LSTM", 1536, 50, {}),
    "LSTM, H=2048, T=25": ("LSTM", 2048, 25, {}),
    "GRU, H=2048, T=50": ("GRU", 2048, 50, {}),
    "LSTM, H=2560 of 64 features, T=50": ("LSTM", 2560, 50, {"inputs": 64}),
    "bidirectional LSTM, H=1280, T=50": ("LSTM", 1280, 50, {"bidirectional": True}),
    "LSTM, 4 layers, H=900, T=50": ("LSTM", 900, 50, {"count": 4}),
    "LSTM, H=1792, T=20, batch 16": ("LSTM", 1792, 20, {"batch": 16}),
    "the same, weights in another file": ("LSTM", 1792, 20, {"batch": 16}),
}


def make(folder, title):
    """Writes the model's files, and says what it holds, in megabytes."""
    import make_models
    import onnx

    name = "".join(c if c.isalnum() else "_" for c in title)
    kind, hidden, time, more = MODELS[title]
    path = folder / f"{name}.onnx"
    if not path.exists():
        layers(make_models, name, kind, hidden, time, **more).save(folder)
        if "another file" in title:
            whole = onnx.load(path)
            onnx.save(whole, path, save_as_external_data=True, location=f"{name}.bin", size_threshold=1024)
    graph = onnx.load(path, load_external_data=False).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in values]
    weights = sum(4 * int(np.prod(w.dims)) for w in graph.initializer)
    held = weights + sum(4 * int(np.prod(shape)) for shape in shapes)
    names = [[value.name for value in of] for of in (graph.input, graph.output)]
    print(json.dumps({"model": [str(path), *names], "weights": weights / 1e6, "held": held / 1e6}))


def made(folder, title):
    """What `make` says, from a process of its own: children of one that had the weights would begin with its peak."""
    line = [sys.executable, __file__, "--make", title, "-", folder]
    said = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=True).stdout
    of = json.loads(said.splitlines()[-1])
    return engines.Model(*of["model"]), of["weights"], of["held"]


def peak(command, model, threads):
    """Megabytes that `recurve run` took."""
    line = [command, "run", model.path, "--inputs", model.given, "--runs", RUNS, "--threads", threads]
    waiter = subprocess.run(
        [sys.executable, "-S", "-E", "-c", WAITER, *map(str, line)], capture_output=True, text=True, check=True
    )
    said = json.loads(waiter.stdout.splitlines()[-1])
    assert said["rc"] == 0, waiter.stderr
    return said["peak_mb"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recurve", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", action="append", choices=MODELS, metavar="TITLE")
    parser.add_argument("--make", choices=MODELS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.make:
        return make(given.folder, given.make)
    command, threads = given.recurve.resolve(), given.threads
    ours, theirs = engines.recurve(command), engines.in_python("onnxruntime", sys.executable)
    columns = "model|weights, MB|held, MB|peak, MB|peak / held|ONNX Runtime's peak|load, ms|ONNX Runtime's|error"
    print("|", columns.replace("|", " | "), "|")
    print("|---|" + "---:|" * (columns.count("|")))
    for title in given.model or MODELS:
        model, weights, held = made(given.folder, title)
        expected = model.in_order(model.expected)
        rounds, peaks = [[], []], []
        for _ in range(given.rounds):
            for measured, engine in zip(rounds, (ours, theirs), strict=True):
                measured.append(engine(model, threads, RUNS, given.folder))
            peaks.append(peak(command, model, threads))
        loads = [statistics.median(r["load_ms"] for r in measured) for measured in rounds]
        error = engines.error(rounds[0][0]["outputs"], expected)
        other = max(r["peak_mib"] for r in rounds[1]) * 2**20 / 1e6
        cells = [f"{weights:.1f}", f"{held:.1f}", f"{max(peaks):.1f}", f"{max(peaks) / held:.3f}", f"{other:.0f}"]
        cells += [f"{load:.0f}" for load in loads] + [f"{error:.1e}"]
        print("|", " | ".join([title, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
