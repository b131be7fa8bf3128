#!/usr/bin/env python3
"""Solves host + one-GPU instances with OR-tools CP-SAT and records value and bound.

usage: cp_sat.py SECONDS OUT.json INSTANCE.json ...   (pip install ortools==9.15.6755)

CPU lanes have equal costs in these instances, so they are one cumulative resource; the GPU lane and the two
channels are disjunctive. A tensor moves at most once, when somebody on the other side reads or needs it. Times are
whole multiples of 1/64 us. One thread, all strategies interleaved, the all-GPU placement as a hint. A name that
OUT.json already has is not solved again."""
import json, sys, time
from pathlib import Path
from ortools.sat.python import cp_model

SCALE = 64


def solve(inst, seconds):
    ticks = lambda us: round(us * SCALE)
    gpu = next(k for k, p in enumerate(inst["processors"]) if p["memory"] != "host")
    lanes = len(inst["processors"]) - 1
    tasks, tensors = inst["tasks"], {t["name"]: t for t in inst["tensors"]}
    horizon = sum(max(map(ticks, t["cost_us"])) for t in tasks) + sum(ticks(t["transfer_us"]) for t in tensors.values())
    m = cp_model.CpModel()
    on_gpu, start, end, gpu_rows, cpu_rows = [], [], [], [], []
    for t in tasks:
        g, s, e = m.new_bool_var(""), m.new_int_var(0, horizon, ""), m.new_int_var(0, horizon, "")
        c, d = ticks(t["cost_us"][0]), ticks(t["cost_us"][gpu])
        gpu_rows.append(m.new_optional_interval_var(s, d, e, g, ""))
        cpu_rows.append(m.new_optional_interval_var(s, c, e, ~g, ""))
        m.add_hint(g, 1)
        on_gpu.append(g), start.append(s), end.append(e)
    m.add_no_overlap(gpu_rows)
    if lanes == 1:
        m.add_no_overlap(cpu_rows)
    else:
        m.add_cumulative(cpu_rows, [1] * len(cpu_rows), lanes)
    writer = {x: i for i, t in enumerate(tasks) for x in t["writes"]}
    readers = {x: [i for i, t in enumerate(tasks) if x in t["reads"]] for x in tensors}
    span = m.new_int_var(0, horizon, "makespan")
    up, down = [], []
    for x, tensor in tensors.items():
        length, w = ticks(tensor["transfer_us"]), writer.get(x)
        begin, done = m.new_int_var(0, horizon, ""), m.new_int_var(0, horizon, "")
        h2d, d2h = m.new_bool_var(""), m.new_bool_var("")
        up.append(m.new_optional_interval_var(begin, length, done, h2d, ""))
        down.append(m.new_optional_interval_var(begin, length, done, d2h, ""))
        wg = on_gpu[w] if w is not None else None
        if w is None:
            m.add(d2h == 0)
        else:
            m.add(begin >= end[w])
            m.add_implication(h2d, ~wg), m.add_implication(d2h, wg)
        for r in readers[x]:
            if w is None:
                m.add_implication(on_gpu[r], h2d)
                m.add(start[r] >= done).only_enforce_if(on_gpu[r])
            else:
                m.add(start[r] >= end[w])
                m.add_bool_or(wg, ~on_gpu[r], h2d), m.add_bool_or(~wg, on_gpu[r], d2h)
                m.add(start[r] >= done).only_enforce_if(~wg, on_gpu[r])
                m.add(start[r] >= done).only_enforce_if(wg, ~on_gpu[r])
        if "host" in tensor["needed_in"] and w is not None:
            m.add_implication(wg, d2h)
            m.add(span >= done).only_enforce_if(wg)
    m.add_no_overlap(up), m.add_no_overlap(down)
    for e in end:
        m.add(span >= e)
    m.minimize(span)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 1
    solver.parameters.interleave_search = True
    began = time.time()
    status = solver.solve(m)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    return {
        "value_us": solver.objective_value / SCALE if found else None,
        "bound_us": solver.best_objective_bound / SCALE,
        "proved": status == cp_model.OPTIMAL,
        "seconds": round(time.time() - began, 1),
    }


if __name__ == "__main__":
    seconds, out = float(sys.argv[1]), Path(sys.argv[2])
    rows = json.loads(out.read_text()) if out.exists() else {}
    for path in map(Path, sys.argv[3:]):
        if path.stem not in rows:
            rows[path.stem] = solve(json.loads(path.read_text()), seconds)
            print(path.stem, rows[path.stem], flush=True)
            out.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
