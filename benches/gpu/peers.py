"""The device benches through PyTorch, where it is there with a GPU: the same names, medians by events, one JSON.

    python3 peers.py OUT.json [--cpu]

With --cpu tiny sizes run on the CPU, which shows that the script runs.
"""

import json
import statistics
import sys

import torch

CPU = "--cpu" in sys.argv
DEVICE = "cpu" if CPU else "cuda"
measures = []
failures = []


def seconds(work, samples=15, inner=1):
    """The median of `work` once, by events."""
    taken = []
    for sample in range(3 + samples):
        if CPU:
            work()
            taken.append(1e-3)
            continue
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        for _ in range(inner):
            work()
        after.record()
        torch.cuda.synchronize()
        if sample >= 3:
            taken.append(before.elapsed_time(after) / 1e3 / inner)
    return statistics.median(taken)


def attempt(function):
    try:
        with torch.no_grad():
            function()
    except Exception as error:  # Each measurement survives another's failure.
        failures.append(f"{function.__name__}: {error}")


def note(name, value, unit):
    measures.append({"name": name, "value": value, "unit": unit})


def copy():
    size = 1 << (12 if CPU else 28)
    x = torch.ones(size, device=DEVICE)
    y = torch.empty_like(x)
    note("HBM, copy, both ways", 8 * size / seconds(lambda: y.copy_(x)) / 1e9, "GB/s")


def gemm():
    torch.backends.cuda.matmul.allow_tf32 = False
    n = 64 if CPU else 4096
    for name, dtype, turned in [
        ("f32", torch.float32, False),
        ("f16", torch.float16, False),
        ("f16, B transposed", torch.float16, True),
        ("bf16", torch.bfloat16, False),
    ]:
        a = torch.randn(n, n, device=DEVICE).to(dtype)
        b = torch.randn(n, n, device=DEVICE).to(dtype)
        b = b.t() if turned else b
        taken = seconds(lambda: torch.matmul(a, b), inner=2)
        note(f"gemm {name} {n}³", 2 * n**3 / taken / 1e12, "TFLOP/s")


def gemv():
    rows, depth = (24, 200) if CPU else (4096, 4096)
    for name, dtype, width, depth in [("F32", torch.float32, 4, depth), ("F16", torch.float16, 2, 2 * depth)]:
        count = rows * depth * width
        sets = 1 if CPU else -(-(256 << 20) // count)
        weights = [torch.randn(rows, depth, device=DEVICE).to(dtype) for _ in range(sets)]
        x = torch.randn(depth, device=DEVICE).to(dtype)

        def all_sets():
            for w in weights:
                torch.mv(w, x)

        taken = seconds(all_sets, inner=4) / sets
        note(f"gemv {name} {rows}×{depth}, 1 vectors, {count // 1_000_000} MB", count / taken / 1e9, "GB/s")


def rows():
    shapes = [(8, 64, 1), (2, 16, 64)] if CPU else [(1 << 16, 1024, 1), (1 << 12, 1 << 14, 1), (64, 1024, 1024)]
    for outer, depth, inner in shapes:
        for name, dtype, width in [("F32", torch.float32, 4), ("F16", torch.float16, 2)]:
            x = torch.randn(outer, depth, inner, device=DEVICE).to(dtype)
            if inner == 1:
                x = x.reshape(outer, depth)
            count = outer * depth * inner * width
            taken = seconds(lambda: torch.softmax(x, 1), inner=4)
            note(f"softmax {name} {outer}×{depth}×{inner}", 2 * count / taken / 1e9, "GB/s")
            taken = seconds(lambda: torch.sum(x, 1), inner=4)
            note(f"sum {name} {outer}×{depth}×{inner}", (count + count // depth) / taken / 1e9, "GB/s")


def maps():
    count = (64 << 10 if CPU else 256 << 20) // 4
    x, y = torch.randn(count, device=DEVICE), torch.randn(count, device=DEVICE)
    out = torch.empty_like(x)
    megabytes = 4 * count // 1_000_000
    taken = seconds(lambda: torch.abs(x, out=out), inner=4)
    note(f"map |x|, F32, {megabytes} MB", 8 * count / taken / 1e9, "GB/s")
    taken = seconds(lambda: torch.add(x, y, out=out), inner=4)
    note(f"map a + b, F32, {megabytes} MB", 12 * count / taken / 1e9, "GB/s")


def lstm():
    """cuDNN, the whole layer with its input product: microseconds per step."""
    sizes = [(8, 2)] if CPU else [(64, 100), (128, 100), (256, 150), (512, 25), (1024, 25), (1536, 50), (2048, 25)]
    for hidden, time in sizes:
        for name, dtype in [("F32", torch.float32)] + ([] if CPU else [("F16", torch.float16)]):
            layer = torch.nn.LSTM(hidden, hidden).to(DEVICE).to(dtype).eval()
            x = torch.randn(time, 1, hidden, device=DEVICE).to(dtype)
            taken = seconds(lambda: layer(x), inner=4) / time
            note(f"lstm step {name}, {hidden} hidden, {time} steps", taken * 1e6, "us")


def conv():
    """cuDNN, by its own choice of kernels."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    shapes = [(3, 8, 9, 3, 2)] if CPU else [
        (3, 64, 224, 7, 2),
        (64, 64, 56, 1, 1),
        (64, 64, 56, 3, 1),
        (256, 64, 56, 1, 1),
        (128, 128, 28, 3, 1),
        (512, 128, 28, 1, 1),
        (256, 256, 14, 3, 1),
        (1024, 256, 14, 1, 1),
        (512, 512, 7, 3, 1),
        (2048, 512, 7, 1, 1),
    ]
    for channels, filters, side, kernel, stride in shapes:
        for name, dtype in [("F32", torch.float32)] + ([] if CPU else [("F16", torch.float16)]):
            x = torch.randn(1, channels, side, side, device=DEVICE).to(dtype)
            w = torch.randn(filters, channels, kernel, kernel, device=DEVICE).to(dtype)
            begin = kernel // 2
            output = (side + 2 * begin - kernel) // stride + 1
            taken = seconds(lambda: torch.nn.functional.conv2d(x, w, stride=stride, padding=begin), inner=8)
            products = filters * output * output * channels * kernel * kernel
            label = f"conv {name} {channels}→{filters}, {side}², {kernel}×{kernel}, stride {stride}"
            note(label, 2 * products / taken / 1e12, "TFLOP/s")


for function in [copy, gemm, gemv, rows, maps, lstm, conv]:
    attempt(function)
name = "cpu" if CPU else torch.cuda.get_device_name(0)
record = {"section": "pytorch", "version": torch.__version__, "name": name, "measures": measures, "failures": failures}
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(record, file, indent=2, ensure_ascii=False)
print(f"{len(measures)} measures, {len(failures)} failures")
sys.exit(1 if failures else 0)
