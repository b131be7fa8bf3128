#!/usr/bin/env python3
"""Latency of the `recurve` command beside ONNX Runtime on the benchmark models.

    python benches/peers/latency.py RECURVE MODELS [--threads N] [--rounds N] [--precision f32,f16] [NAME ...]

MODELS is the folder that `cargo xtask models` writes. Both engines run in processes of their own, in alternating
rounds; a cell is the median over rounds of each round's median. Prints a Markdown table. Peak RSS is that of the process:
the command's for Recurve, Python's with NumPy and ONNX Runtime for the peer, less what it was before the model was loaded.
With `--precision`, there is a row for each format that Recurve's weights are stored in, the peer's being as the model has
them; the last column is the largest error of an output over its largest element.
"""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys

PEER = """
import sys, time, json, statistics, resource
import numpy as np, onnxruntime as ort
path, threads, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
options = ort.SessionOptions()
options.intra_op_num_threads = threads
start = time.perf_counter()
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
load = time.perf_counter() - start
rng = np.random.default_rng(0)
inputs = {i.name: rng.standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()}
times = []
for k in range(runs + 3):
    start = time.perf_counter()
    session.run(None, inputs)
    times.append(time.perf_counter() - start)
times = statistics.median(times[3:]) * 1e6
print(json.dumps({"load_ms": load * 1e3, "p50": times, "rss": peak() - before}))
"""


def recurve(binary, model, threads, runs, precision):
    """Median latency in microseconds, load time in milliseconds, peak RSS in MiB, and the largest error."""
    command = [binary, "run", str(model), "--threads", str(threads), "--runs", str(runs), "--warmup", "3", "--json"]
    command += [] if precision == "f32" else ["--precision", precision]
    document = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    deviations = document.get("precision", {}).get("deviations", [])
    error = max((d["max_relative"] for d in deviations), default=0.0)
    return document["latency_us"]["p50"], document["load_ms"], document["peak_rss_bytes"] / 2**20, error


def peer(model, threads, runs):
    """The same of ONNX Runtime."""
    command = [sys.executable, "-c", PEER, str(model), str(threads), str(runs)]
    document = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return document["p50"], document["load_ms"], document["rss"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recurve")
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--precision", default="f32", help="formats of Recurve's weights, with commas between them")
    arguments = parser.parse_args()
    formats = arguments.precision.split(",")
    print("| model | weights | Recurve ms | ONNX Runtime ms | ratio | load ms | its load ms | peak RSS MiB | its | error |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    logarithms = {name: [] for name in formats}
    for model in sorted(arguments.models.glob("*.onnx")):
        if arguments.names and model.stem not in arguments.names:
            continue
        ours, theirs = {name: [] for name in formats}, []
        for _ in range(arguments.rounds):
            for name in formats:
                ours[name].append(recurve(arguments.recurve, model, arguments.threads, arguments.runs, name))
            theirs.append(peer(model, arguments.threads, arguments.runs))
        for name in formats:
            a, b = (statistics.median(x[0] for x in side) / 1e3 for side in (ours[name], theirs))
            load, its = (statistics.median(x[1] for x in side) for side in (ours[name], theirs))
            rss, its_rss = (statistics.median(x[2] for x in side) for side in (ours[name], theirs))
            logarithms[name].append(math.log(b / a))
            cells = f"{a:.3f} | {b:.3f} | {b / a:.2f} | {load:.0f} | {its:.0f} | {rss:.0f} | {its_rss:.0f}"
            print(f"| {model.stem} | {name} | {cells} | {ours[name][0][3]:.1e} |", flush=True)
    for name, all_of in logarithms.items():
        if all_of:
            print(f"\nGeometric mean of the ratios, {name}: {math.exp(statistics.mean(all_of)):.2f}")


if __name__ == "__main__":
    main()
