"""Measurements as Markdown: medians, the best peer's over Recurve's, floors and the fraction of them, load and memory.

A measurement is a dictionary with `model`, `threads`, `round`, `engine`, and either `failed`, the engine's words, or
`load_ms`, `p50_us`, `peak_mib` and `error`. Engines whose names begin with `recurve` are ours, all others are peers; a
peer whose outputs are wrong is beside the point, and so never the best.
"""
import math
import statistics

from floors import floor

# The largest error of an output over its largest element. Weights in 8 bits have none: the error is told.
TOLERANCE = {"recurve-f16": 2e-3, "recurve-bf16": 1.6e-2, "recurve-int8": math.inf}
EXACT = 1e-4
# Groups of models whose ratios are averaged: what they are called, and which of the models' groups they hold.
MEANS = {
    "batch-1 recurrences": {"deepbench", "small"},
    "all models": {"deepbench", "small", "batch", "initial states", "unrolled", "transformer", "conv"},
}


def ours(engine):
    return engine.startswith("recurve")


def is_wrong(measurement):
    tolerance = TOLERANCE.get(measurement["engine"], EXACT)
    # A difference that is no number is not within any tolerance.
    return not measurement["error"] <= tolerance


class Cell:
    """All rounds of one engine on one model with so many threads."""

    def __init__(self, measurements):
        self.rounds = {m["round"]: m for m in measurements if "failed" not in m}
        self.failed = next((m["failed"] for m in measurements if "failed" in m), None)

    def median(self, key):
        values = [m[key] for m in self.rounds.values()]
        return statistics.median(values) if values else None

    def wrong(self):
        return any(is_wrong(m) for m in self.rounds.values())

    def counts(self):
        return bool(self.rounds) and self.failed is None and not self.wrong()

    def ms(self):
        if self.failed is not None:
            return "fails"
        if not self.rounds:
            return "–"
        return number(self.median("p50_us") / 1e3) + (" wrong" if self.wrong() else "")


def number(value):
    """Three significant digits, at most three decimals, whole from 100 on."""
    if value is None:
        return "–"
    for limit, decimals in [(10, 3), (100, 2)]:
        if value < limit:
            return f"{value:.{decimals}f}"
    return f"{value:.0f}"


def select(measurements, **wanted):
    return Cell([m for m in measurements if all(m[key] == value for key, value in wanted.items())])


def best_peer(measurements, peers, model, threads):
    """Name and cell of the peer with the least median; `None` where none runs the model."""
    cells = {peer: select(measurements, model=model, threads=threads, engine=peer) for peer in peers}
    there = [(cell.median("p50_us"), peer) for peer, cell in cells.items() if cell.counts()]
    return (min(there)[1], cells[min(there)[1]]) if there else (None, None)


def rounds_ahead(cell, other):
    """In how many of the rounds that both have `cell` is not slower, and how many those are."""
    both = cell.rounds.keys() & other.rounds.keys()
    ahead = sum(cell.rounds[r]["p50_us"] <= other.rounds[r]["p50_us"] for r in both)
    return ahead, len(both)


def row(cells):
    return "| " + " | ".join(cells) + " |"


def head(columns):
    return [row(columns), "|" + "|".join(["---"] + ["---:"] * (len(columns) - 1)) + "|"]


def latency(models, measurements, engines, threads, limits):
    """The lines of the table of one number of threads, and the geometric means behind it."""
    mine, peers = [e for e in engines if ours(e)], [e for e in engines if not ours(e)]
    columns = ["model"] + [f"{e} ms" for e in mine + peers]
    columns += [f"best ÷ {e}" if len(mine) > 1 else "best ÷ Recurve" for e in mine]
    columns += ["rounds not slower", "floor ms", "of the floor"]
    lines, ratios = head(columns), {(engine, mean): [] for engine in mine for mean in MEANS}
    for model in models:
        cells = {e: select(measurements, model=model["name"], threads=threads, engine=e) for e in engines}
        if not any(cell.rounds or cell.failed for cell in cells.values()):
            continue
        _, best = best_peer(measurements, peers, model["name"], threads)
        out = [model["name"]] + [cells[e].ms() for e in mine + peers]
        for engine in mine:
            ratio = None
            if best and cells[engine].counts():
                ratio = best.median("p50_us") / cells[engine].median("p50_us")
                for mean, groups in MEANS.items():
                    if model["group"] in groups:
                        ratios[engine, mean].append(ratio)
            out.append("–" if ratio is None else f"{ratio:.2f}")
        first = cells[mine[0]] if mine else None
        ahead = rounds_ahead(first, best) if first and best and first.counts() else None
        out.append(f"{ahead[0]} of {ahead[1]}" if ahead else "–")
        least = floor(model, *limits) if limits else None
        out.append(number(least * 1e3) if least else "–")
        there = least and first and first.counts()
        out.append(f"{least * 1e6 / first.median('p50_us'):.2f}" if there else "–")
        lines.append(row(out))
    for (engine, mean), values in ratios.items():
        if values:
            value = math.exp(statistics.mean(map(math.log, values)))
            lines += ["", f"Geometric mean of the ratios, {engine}, {mean} ({len(values)}): {value:.2f}"]
    return lines


def loading(models, measurements, engines):
    """The lines of the table of load times and peak memory, over all rounds and numbers of threads."""
    columns = ["model"] + [f"{e} load ms" for e in engines] + [f"{e} peak MiB" for e in engines]
    lines = head(columns)
    for model in models:
        out = [model["name"]]
        of = [m for m in measurements if m["model"] == model["name"] and "failed" not in m]
        if not of:
            continue
        for key, decimals in [("load_ms", 1), ("peak_mib", 0)]:
            for engine in engines:
                values = [m[key] for m in of if m["engine"] == engine]
                out.append(f"{statistics.median(values):.{decimals}f}" if values else "–")
        lines.append(row(out))
    return lines


def errors(models, measurements, engines):
    """The largest error of every engine on every model, and the words of those that fail."""
    lines = head(["model"] + [f"{e}" for e in engines])
    words = []
    for model in models:
        of = [m for m in measurements if m["model"] == model["name"]]
        if not of:
            continue
        out = [model["name"]]
        for engine in engines:
            values = [m["error"] for m in of if m["engine"] == engine and "failed" not in m]
            out.append("–" if not values else f"{max(values, key=lambda v: (math.isnan(v), v)):.1e}")
        lines.append(row(out))
        failed = {m["engine"]: m["failed"] for m in of if "failed" in m}
        words += [f"- `{model['name']}`, {engine}: {failed[engine]}" for engine in sorted(failed)]
    return lines + ([""] + words if words else [])


def disagreeing(measurements):
    """The models on which Recurve fails or gives wrong outputs."""
    found = (m["model"] for m in measurements if ours(m["engine"]) and ("failed" in m or is_wrong(m)))
    return list(dict.fromkeys(found))


def measured_limits(limits):
    """Of records with `threads`, `flops` and `bandwidth`, by threads: the best of both over all rounds."""
    best = {}
    for record in limits:
        flops, rates = best.get(record["threads"], (0.0, {}))
        for size, rate in record["bandwidth"].items():
            rates[int(size)] = max(rates.get(int(size), 0.0), rate)
        best[record["threads"]] = (max(flops, record["flops"]), rates)
    return best


def limits_lines(best):
    lines = head(["threads", "GFLOP/s"] + ["GB/s by MiB of the set"])
    for threads, (flops, rates) in sorted(best.items()):
        sets = ", ".join(f"{size / 2**20:.2f}: {rate / 1e9:.0f}" for size, rate in sorted(rates.items()))
        lines.append(row([str(threads), f"{flops / 1e9:.0f}", sets]))
    return lines
