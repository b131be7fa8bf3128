#!/usr/bin/env python3
"""Compare the engine with ONNX Runtime on the benchmark models: `compare.py RECURVE [FOLDER] [--threads N]`.

RECURVE is the command to check; FOLDER is what `cargo xtask models` wrote, by default `target/peers/models`.
Every model runs through `recurve run` on the inputs of its NPZ file; printed are the largest absolute
difference from ONNX Runtime's outputs and the verdict. The exit status is 1 when a model is refused or differs
by more than the tolerance.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TOLERANCE = 1e-4
TIME_LIMIT = 300  # seconds for one model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recurve", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("target/peers/models"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    models = json.loads((arguments.folder / "models.json").read_text())
    failed = 0
    print(f"{'model':28s} {'max abs err':>12s} {'max abs':>10s}  verdict")
    for model in models:
        problem, error, scale = compare(arguments, model)
        failed += problem is not None
        print(f"{model['name']:28s} {error:12.2e} {scale:10.2e}  {problem or 'pass'}", flush=True)
    print(f"{len(models) - failed} of {len(models)} pass (max abs err <= {TOLERANCE})")
    sys.exit(1 if failed else 0)


def compare(arguments, model):
    """What is wrong with `model`, or None; the largest difference; the largest expected value."""
    path = arguments.folder / f"{model['name']}.onnx"
    given = path.with_suffix(".inputs.npz")
    expected = dict(np.load(path.with_suffix(".outputs.npz")))
    scale = max(float(np.max(np.abs(y), initial=0)) for y in expected.values())
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "outputs.npz"
        command = [arguments.recurve, "run", path, "--inputs", given, "--outputs", made]
        command += ["--threads", str(arguments.threads)]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            return f"no answer in {TIME_LIMIT} s", np.nan, scale
        if ran.returncode != 0:
            return f"exit {ran.returncode}: {' '.join(ran.stderr.split())}", np.nan, scale
        got = np.load(made)
        worst = 0.0
        for name, want in expected.items():
            if name not in got:
                return f"there is no output {name}", np.nan, scale
            y = got[name]
            if (y.shape, y.dtype) != (want.shape, want.dtype):
                return f"{name} is {y.dtype}{y.shape}, not {want.dtype}{want.shape}", np.nan, scale
            difference = float(np.max(np.abs(y.astype(np.float64) - want), initial=0))
            worst = difference if np.isnan(difference) else max(worst, difference)
    return (None if worst <= TOLERANCE else "differs"), worst, scale


if __name__ == "__main__":
    main()
