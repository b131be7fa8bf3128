"""One measurement of a Python engine in a process of its own, which `engines.py` starts.

    runner.py ENGINE MODEL INPUTS THREADS RUNS OUTPUTS NAMES

INPUTS and OUTPUTS are NPZ files of arrays by their names, the latter to be written, with the outputs of the JSON list
NAMES. Prints load time, median latency of the runs behind three others, and the peak of the
process's memory less what it was before the model was loaded, the interpreter being no part of the engine.
"""
import json
import resource
import statistics
import sys
import time

import numpy as np

WARMUP = 3


def onnxruntime(path, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads

    def load():
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda inputs, outputs: session.run(outputs, inputs)

    return load


def openvino(path, threads):
    import openvino as ov

    core = ov.Core()
    # Without the hint, processors that have the instructions compute in bfloat16.
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }

    def load():
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
        request = compiled.create_infer_request()
        ports = {}

        def run(inputs, outputs):
            made = request.infer(inputs, share_inputs=True, share_outputs=True)
            if not ports:
                ports.update({name: compiled.output(name) for name in outputs})
            return [made[ports[name]] for name in outputs]

        return run

    return load


ENGINES = {"onnxruntime": onnxruntime, "openvino": openvino}


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    engine, path, given, threads, runs, made, names = sys.argv[1:]
    names, inputs = json.loads(names), dict(np.load(given))
    load = ENGINES[engine](path, int(threads))
    before = peak_mib()
    start = time.perf_counter()
    run = load()
    load_ms = (time.perf_counter() - start) * 1e3
    times = []
    for _ in range(int(runs) + WARMUP):
        start = time.perf_counter()
        outputs = run(inputs, names)
        times.append(time.perf_counter() - start)
    peak = peak_mib() - before
    np.savez(made, **dict(zip(names, outputs, strict=True)))
    p50_us = statistics.median(times[WARMUP:]) * 1e6
    print(json.dumps({"load_ms": load_ms, "p50_us": p50_us, "peak_mib": peak}))


if __name__ == "__main__":
    main()
