#!/usr/bin/env python3
"""Latency of the `recurve` command beside ONNX Runtime on the benchmark models.

    python benches/peers/latency.py RECURVE MODELS [--threads N] [--rounds N] [NAME ...]

MODELS is the folder that `cargo xtask models` writes. Both engines run in processes of their own, in alternating
rounds; a cell is the median over rounds of each round's median. Prints a Markdown table.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

PEER = """
import sys, time, json, statistics
import numpy as np, onnxruntime as ort
path, threads, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
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
print(json.dumps({"load_ms": load * 1e3, "p50": statistics.median(times[3:]) * 1e6}))
"""


def recurve(binary, model, threads, runs):
    """Median latency in microseconds and load time in milliseconds."""
    command = [binary, "run", str(model), "--threads", str(threads), "--runs", str(runs), "--warmup", "3", "--json"]
    document = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return document["latency_us"]["p50"], document["load_ms"]


def peer(model, threads, runs):
    """The same of ONNX Runtime."""
    command = [sys.executable, "-c", PEER, str(model), str(threads), str(runs)]
    document = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return document["p50"], document["load_ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recurve")
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=30)
    arguments = parser.parse_args()
    print("| model | Recurve ms | ONNX Runtime ms | ratio | load ms | its load ms |")
    print("|---|---:|---:|---:|---:|---:|")
    for model in sorted(arguments.models.glob("*.onnx")):
        if arguments.names and model.stem not in arguments.names:
            continue
        ours, theirs = [], []
        for _ in range(arguments.rounds):
            ours.append(recurve(arguments.recurve, model, arguments.threads, arguments.runs))
            theirs.append(peer(model, arguments.threads, arguments.runs))
        a, b = (statistics.median(x[0] for x in side) / 1e3 for side in (ours, theirs))
        load, its = (statistics.median(x[1] for x in side) for side in (ours, theirs))
        print(f"| {model.stem} | {a:.3f} | {b:.3f} | {b / a:.2f} | {load:.0f} | {its:.0f} |", flush=True)


if __name__ == "__main__":
    main()
