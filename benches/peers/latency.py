#!/usr/bin/env python3
"""Recurve beside other engines on the benchmark models; `cargo xtask peers` prepares everything and calls this.

    latency.py --recurve COMMAND --limits PROGRAM --models FOLDER --out FOLDER [--engine NAME=PROGRAM ...]
               [--absent NAME=REASON ...] [--model NAME ...] [--threads 1,2] [--rounds N] [--seconds S]
               [--precision f32,f16] [--resume]

Every measurement is a process of its own. A round measures each engine and the processor's limits once, in an order that
rotates; all rounds of a model with one number of threads follow each other. Each measurement is written to
OUT/measurements.jsonl when it is made, so that `--resume` goes on where a run was cut off. OUT/peers.md is the table.
Outputs are compared with ONNX Runtime's on one thread, which lie beside the models; where Recurve's are wrong, the exit
code is 1.
"""
import argparse
import datetime
import json
import math
import pathlib
import sys
import tempfile

import engines
import floors
import tables

# Groups that are measured by name only: what a call costs, states that some peers ask for, what fusion is counted on.
ASKED_FOR_BY_NAME = {"null", "initial states", "transformer"}
# Runs of one measurement, where the time that it may take does not say.
FEWEST, MOST = 5, 3000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recurve", required=True)
    parser.add_argument("--limits", required=True)
    parser.add_argument("--models", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--engine", action="append", default=[], metavar="NAME=PROGRAM")
    parser.add_argument("--absent", action="append", default=[], metavar="NAME=REASON")
    parser.add_argument("--model", action="append", default=[], metavar="NAME")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="what the runs of one measurement take, about")
    parser.add_argument("--precision", default="f32", help="formats of Recurve's weights, f32 first")
    parser.add_argument("--title", default="")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def chosen(models, names):
    """The models of these names in their own order, or those that are measured anyway."""
    known = [model["name"] for model in models]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"error: no model `{unknown[0]}`; the models are {', '.join(known)}")
    if names:
        return [model for model in models if model["name"] in names]
    return [model for model in models if model["group"] not in ASKED_FOR_BY_NAME]


class Journal:
    """The file of what was measured: a line for the configuration, then one for each measurement."""

    def __init__(self, path, configuration, resume):
        self.path, self.measurements, self.limits = path, [], []
        if resume and path.exists():
            lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
            if not lines or lines[0] != configuration:
                raise SystemExit(f"error: {path} is of another configuration; begin anew without --resume")
            for record in lines[1:]:
                self.keep(record)
        else:
            path.write_text(json.dumps(configuration) + "\n")

    def keep(self, record):
        (self.limits if "flops" in record else self.measurements).append(record)

    def write(self, record):
        self.keep(record)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def has(self, **wanted):
        records = self.measurements if "engine" in wanted else self.limits
        return any(all(record.get(key) == value for key, value in wanted.items()) for record in records)

    def failed(self, **wanted):
        return any(
            "failed" in record and all(record.get(key) == value for key, value in wanted.items())
            for record in self.measurements
        )


def measure_limits(options, journal, model, threads, round_):
    # The peak belongs to the run, the bandwidths to the sets of this model.
    document = engines.process([options.limits, "--threads", threads, *floors.working_sets(model)])
    journal.write({"model": model["name"], "round": round_, **document})


def runs_for(model, threads, limits, seconds):
    """Runs that take about so long, if the model takes twice its floor."""
    found = tables.measured_limits([record for record in limits if record["threads"] == threads])
    least = floors.floor(model, *found[threads]) if threads in found else None
    return MOST if not least else max(FEWEST, min(MOST, math.ceil(seconds / (2 * least))))


def measure(measured, journal, model, entry, threads, runs, place):
    """One measurement of one engine; what it refuses is told once and not asked for again."""
    name, run = measured
    record = {"model": entry["name"], "threads": threads, "round": place, "engine": name}
    expected = model.in_order(model.expected)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            document = run(model, threads, runs, pathlib.Path(scratch))
        except engines.Refused as refused:
            journal.write(record | {"failed": str(refused)})
            return
    document["error"] = engines.error(document.pop("outputs"), expected)
    journal.write(record | document)


def page(options, models, journal, names, absent):
    best = tables.measured_limits(journal.limits)
    lines = [f"# Latency on the CPU beside other engines, {datetime.date.today()}", ""]
    lines += [options.title, ""] if options.title else []
    lines += [f"{absent_name}: absent, {reason}." for absent_name, reason in absent] + [""]
    for threads in map(int, options.threads.split(",")):
        lines += [f"## {threads} thread{'s' if threads > 1 else ''}", ""]
        lines += tables.latency(models, journal.measurements, names, threads, best.get(threads)) + [""]
    lines += ["## Load and memory", ""]
    lines += tables.loading(models, journal.measurements, names) + [""]
    lines += ["## Largest error of an output over its largest element", ""]
    lines += tables.errors(models, journal.measurements, names) + [""]
    lines += ["## The processor's limits in this run", ""]
    lines += tables.limits_lines(best)
    return "\n".join(lines) + "\n"


def main():
    options = arguments()
    entries = json.loads((options.models / "models.json").read_text())
    models = chosen(entries, options.model)
    formats = options.precision.split(",")
    pairs = [(f"recurve-{f}", engines.recurve(options.recurve, "--precision", f)) for f in formats if f != "f32"]
    measured = [("recurve", engines.recurve(options.recurve)), *pairs]
    for given in options.engine:
        name, program = given.split("=", 1)
        measured.append((name, engines.peer(name, program)))
    absent = [tuple(given.split("=", 1)) for given in options.absent]
    names = [name for name, _ in measured]
    options.out.mkdir(parents=True, exist_ok=True)
    stat = pathlib.Path(options.recurve).stat()
    configuration = {
        "recurve": [stat.st_size, int(stat.st_mtime)],
        "engines": options.engine,
        "precision": options.precision,
        "seconds": options.seconds,
    }
    journal = Journal(options.out / "measurements.jsonl", configuration, options.resume)
    for entry in models:
        inputs, outputs = ([name for name, _ in entry[key]] for key in ("inputs", "outputs"))
        model = engines.Model(options.models / f"{entry['name']}.onnx", inputs, outputs)
        for threads in map(int, options.threads.split(",")):
            of = {"model": entry["name"], "threads": threads}
            for place in range(options.rounds):
                if not journal.has(**of, round=place):
                    measure_limits(options, journal, entry, threads, place)
                runs = runs_for(entry, threads, journal.limits, options.seconds)
                turn = place % len(measured)
                for engine in measured[turn:] + measured[:turn]:
                    done = journal.has(**of, round=place, engine=engine[0])
                    if not done and not journal.failed(**of, engine=engine[0]):
                        measure(engine, journal, model, entry, threads, runs, place)
            told = {name: tables.select(journal.measurements, **of, engine=name).ms() for name in names}
            print(f"{entry['name']}, {threads} thread(s): {told}", file=sys.stderr, flush=True)
            (options.out / "peers.md").write_text(page(options, models, journal, names, absent))
    print((options.out / "peers.md").read_text())
    if wrong := tables.disagreeing(journal.measurements):
        raise SystemExit(f"error: Recurve does not agree with ONNX Runtime on {', '.join(wrong)}")


if __name__ == "__main__":
    main()
