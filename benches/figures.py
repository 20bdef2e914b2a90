"""From repeated times to figures, as `simplenet bench` makes them. Python alone: the table needs nothing else."""
import math
import os
import time

LEAST_REPEATS = 5
LEAST_WARMUPS = 3
MOST_REPEATS = 1000
WARMUP_SHARE = 0.2
CONFIDENCE = 0.95


def usable_cpus():
    """Those that this process may run on; under `taskset` fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def quantile(values, level):
    """Interpolated linearly between order statistics, as `numpy.quantile`."""
    ordered = sorted(values)
    place = level * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def mean_and_deviation(values):
    """Mean and sample standard deviation."""
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def student_t(freedom):
    """The t that a Student variable stays within, either side of 0, with probability `CONFIDENCE`.

    With t = √ν·tan θ the density becomes cos^(ν−1) θ, which Simpson's rule integrates; bisection finds the angle."""

    def integral(end, parts=400):
        at = [math.cos(end * i / parts) ** (freedom - 1) for i in range(parts + 1)]
        return end / parts / 3 * (at[0] + at[-1] + 4 * math.fsum(at[1::2]) + 2 * math.fsum(at[2:-1:2]))

    wanted, low, high = CONFIDENCE * integral(math.pi / 2), 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if integral(middle) < wanted else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def rate(units, seconds):
    """Units a second and the ends of its interval: Student's t for the mean time, on its logarithm."""
    mean, deviation = mean_and_deviation(seconds)
    half = student_t(len(seconds) - 1) * deviation / (mean * math.sqrt(len(seconds)))
    return units / mean, units / mean * math.exp(-half), units / mean * math.exp(half)


def figures(units, seconds):
    """The keys of a result that follow from its times; `units` images are worked on in each."""
    value, low, high = rate(units, seconds)
    return {
        "seconds": list(seconds),
        "images_per_second": value,
        "images_per_second_low": low,
        "images_per_second_high": high,
        "latency_ms": {f"p{p}": 1e3 * quantile(seconds, p / 100) for p in (50, 95, 99)},
    }


def samples(run, budget, warmups=None, repeats=None):
    """Runs until there are enough times: (number of warm-ups, seconds of each run that counts).

    Without numbers, a fifth of `budget` seconds goes to warming up (three runs at least), then as many runs count as fit
    the budget (five at least). `run` returns when its work is done."""
    if repeats is not None and repeats < LEAST_REPEATS:
        raise SystemExit(f"{repeats} repeats are too few for a figure; give --repeats {LEAST_REPEATS} or more")

    def wanted(done, begun, limit, number, least):
        if number is not None:
            return done < number
        return done < least or (done < MOST_REPEATS and time.perf_counter() - begun < limit)

    begun, warm = time.perf_counter(), 0
    while wanted(warm, begun, WARMUP_SHARE * budget, warmups, LEAST_WARMUPS):
        run()
        warm += 1
    begun, seconds = time.perf_counter(), []
    while wanted(len(seconds), begun, budget, repeats, LEAST_REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return warm, seconds
