"""The least that a model can take: per phase the larger of its arithmetic over the peak and of the weight bytes that it
reads over the bandwidth, both measured in the same run by the program `limits`; phases cannot overlap.

A phase that repeats reads its own weights again and again; one that does not repeats with the whole model. What a set of
bytes is read with is the largest bandwidth measured for it or any larger set.
"""


def working_set(phase, model):
    """The bytes among which a phase's weights are read again."""
    return int(phase["bytes"] if phase["repeats"] > 1 else model["weight_bytes"])


def working_sets(model):
    """All of a model, without phases that read no weights."""
    return sorted({working_set(phase, model) for phase in model["phases"] if phase["bytes"]})


def bandwidth(measured, size):
    """Bytes a second of a set of `size` bytes, of `measured`, a dictionary from sizes to rates."""
    rates = [rate for of, rate in measured.items() if of >= size]
    return max(rates) if rates else None


def floor(model, flops, measured):
    """Seconds that a model takes at least; `None` where a limit that it needs was not measured."""
    total = 0.0
    for phase in model["phases"]:
        read = 0.0
        if phase["bytes"]:
            rate = bandwidth(measured, working_set(phase, model))
            if rate is None:
                return None
            read = phase["bytes"] * phase["repeats"] / rate
        total += max(phase["flops"] / flops, read)
    return total or None
