#!/usr/bin/env python3
"""HEFT with insertion in plain Python, for its time beside the Rust one; prints seconds and makespan.

usage: heft.py INSTANCE.json ...   Transfers take their time and do not queue; units are single."""
import bisect, json, sys, time


def heft(inst):
    procs = inst["processors"]
    mem = [p["memory"] for p in procs]
    links = {(l["from"], l["to"]): l for l in inst["links"]}
    tensors = {t["name"]: t for t in inst["tensors"]}
    tasks = {t["name"]: t for t in inst["tasks"]}
    writer = {x: t["name"] for t in inst["tasks"] for x in t["writes"]}
    succ, pred = {n: [] for n in tasks}, {n: [] for n in tasks}
    for n, t in tasks.items():
        for x in t["reads"]:
            if x in writer:
                succ[writer[x]].append((n, x)), pred[n].append((writer[x], x))

    def move(x, a, b):
        if a == b:
            return 0.0
        t, l = tensors[x], links[a, b]
        return l["latency_us"] + t["bytes"] / l["bytes_per_us"] if t.get("transfer_us") is None else t["transfer_us"]

    pairs, count = {}, len(procs) * (len(procs) - 1)
    for i, a in enumerate(mem):
        for j, b in enumerate(mem):
            if i != j:
                pairs[a, b] = pairs.get((a, b), 0) + 1
    mean = {x: sum(k * move(x, a, b) for (a, b), k in pairs.items()) / count for x in tensors}
    cost = {n: sum(t["cost_us"]) / len(procs) for n, t in tasks.items()}
    rank, left, order = {}, {n: len(s) for n, s in succ.items()}, [n for n in tasks if not succ[n]]
    for n in order:
        rank[n] = cost[n] + max((mean[x] + rank[s] for s, x in succ[n]), default=0.0)
        for p, _ in pred[n]:
            left[p] -= 1
            if left[p] == 0:
                order.append(p)
    busy, at = [[] for _ in procs], {}
    for n in sorted(tasks, key=lambda n: -rank[n]):
        best = None
        arrive = {m: max((at[p][1] + move(x, mem[at[p][2]], m) for p, x in pred[n]), default=0.0) for m in set(mem)}
        for k, c in enumerate(tasks[n]["cost_us"]):
            start, rows = arrive[mem[k]], busy[k]
            i = bisect.bisect_left(rows, (start,))
            if i > 0:
                start = max(start, rows[i - 1][1])
            while i < len(rows) and rows[i][0] < start + c:
                start = max(start, rows[i][1])
                i += 1
            if best is None or start + c < best[1]:
                best = (start, start + c, k)
        at[n] = best
        bisect.insort(busy[best[2]], best[:2])
    return max(f for _, f, _ in at.values())


if __name__ == "__main__":
    for path in sys.argv[1:]:
        inst = json.load(open(path))
        began = time.perf_counter()
        makespan = heft(inst)
        print(f"{path}: {time.perf_counter() - began:.4f} s, makespan {makespan}")
