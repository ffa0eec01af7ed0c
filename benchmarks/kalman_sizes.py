"""Kalman filter and smoother at all sizes, forward and backward, in the form that is chosen, beside a plain loop.

States of 1 to 64, 1 to 5000 series, 10 to 500 steps, matrices for each series and step or shared by all, single
precision, observations of a quarter of the states. Values and gradients agree in double precision before anything is
timed. The baseline is `benchmarks._kalman_baseline`.
"""

from __future__ import annotations

import math

import torch

from benchmarks._measure import Row, interleave, options, report, require_equal, row
from benchmarks.kalman import DOUBLE, PACKAGES, Sizes, make_task

# state, series, steps
QUICK = [
    (1, 5000, 10),
    (4, 32, 100),
    (4, 500, 20),
    (16, 1, 10),
    (16, 32, 50),
    (16, 500, 10),
    (32, 32, 20),
    (64, 32, 10),
]
WHOLE = [
    *((state, 1, steps) for state in (1, 4, 16, 32, 64) for steps in (10, 100, 500)),
    *((state, 32, steps) for state in (1, 4, 16, 32, 64) for steps in (10, 100)),
    *((state, 500, steps) for state in (1, 4, 16) for steps in (10, 100)),
    (32, 500, 20),
    (64, 500, 10),
    *((state, 5000, 10) for state in (1, 4, 16)),
]
LARGE = 10**6  # entries of all matrices, from which on one repeat is enough


def main() -> None:
    quick = options("kalman_sizes", __doc__).quick
    rows: list[Row] = []
    for state, series, steps in QUICK if quick else WHOLE:
        for is_shared in (False, True):
            rows += rows_of(Sizes(steps, series, state, max(1, state // 4) if state != 4 else 2, is_shared))
    ratios = [entry.cpu_baseline / entry.cpu for entry in rows if entry.cpu and entry.cpu_baseline]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    report(
        "kalman_sizes",
        rows,
        notes=[f"By processor time {mean:.2f} times as fast as the plain loop on average, {min(ratios):.2f} at worst."],
        packages=PACKAGES,
    )


def rows_of(sizes: Sizes) -> list[Row]:
    """Likelihood and smoothing at one size."""
    exact = make_task(sizes._replace(num_steps=min(sizes.num_steps, 10)), dtype=torch.float64)
    task, rows = make_task(sizes, dtype=torch.float32), []
    repeats = 1 if sizes.num_series * sizes.num_steps * sizes.state_dim**2 > LARGE else 3
    for smooth in (False, True):
        kind = f"{'smoothing' if smooth else 'likelihood'}, {'shared' if sizes.is_shared else 'per step'}"
        name = f"{kind}, state {sizes.state_dim}, {sizes.num_series} series, T={sizes.num_steps}"
        expected = exact.baseline(smooth=smooth)
        difference = require_equal(name, exact.library(is_parallel=None, smooth=smooth), expected, DOUBLE)
        calls = {
            "library": lambda smooth=smooth: task.library(is_parallel=None, smooth=smooth),
            "baseline": lambda smooth=smooth: task.baseline(smooth=smooth),
        }
        rows.append(row(name, interleave(calls, repeats), bound=1.0, difference=difference))
        print(f"{name}: {rows[-1].cpu_baseline / rows[-1].cpu:.2f}", flush=True)  # type: ignore[operator]
    return rows


if __name__ == "__main__":
    main()
