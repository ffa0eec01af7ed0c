"""Kalman filter and smoother, forward and backward: the form that the library takes by itself, beside the other one.

The forms are step by step and parallel in time. A ratio below 1 marks a shape at which the rule of
`pyro_seq.ops.kalman` takes the slower form. Tasks and gradients are those of `benchmarks.kalman`, in single precision
with observations of 2; "per step" gives every series and step its own matrices, "shared" has one set for all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch

from benchmarks._measure import Row, interleave, options, report, row
from benchmarks.kalman import PACKAGES, Sizes, make_task
from pyro_seq.ops.kalman._choice import is_parallel_faster

MOST_ENTRIES = 5_000_000  # of the matrices of all series and steps


def main() -> None:
    quick = options("kalman_choice", __doc__).quick
    rows = [entry for sizes in shapes(quick) for entry in rows_of(sizes)]
    ratios = [entry.cpu_baseline / entry.cpu for entry in rows if entry.cpu and entry.cpu_baseline]
    gain = math.exp(sum(map(math.log, ratios)) / len(ratios))
    report(
        "kalman_choice",
        rows,
        notes=[
            "The column of the library is the form that it takes, that of the baseline the other.",
            f"By processor time the form taken is {gain:.2f} times as fast on average, {min(ratios):.2f} at worst.",
        ],
        packages=PACKAGES,
    )


def shapes(quick: bool) -> Iterator[Sizes]:
    """All sizes at which the forms are compared."""
    states, series = ((4, 16), (1, 32)) if quick else ((4, 16, 32), (1, 32, 500))
    lengths = (10, 100) if quick else (10, 20, 50, 100, 500, 2000)
    for state_dim, num_series, num_steps, is_shared in itertools.product(states, series, lengths, (False, True)):
        if num_series * num_steps * state_dim**2 <= MOST_ENTRIES:
            yield Sizes(num_steps, num_series, state_dim, is_shared=is_shared)


def rows_of(sizes: Sizes) -> list[Row]:
    """Likelihood and smoothing at one size."""
    task = make_task(sizes, dtype=torch.float32)
    num_covs = 1 if sizes.is_shared else sizes.num_series
    is_parallel = is_parallel_faster(sizes.num_steps, sizes.state_dim, sizes.num_series, num_covs)
    entries = sizes.num_series * sizes.num_steps * sizes.state_dim**2
    rows = []
    for smooth in (False, True):
        calls = {
            "library": lambda smooth=smooth: task.library(is_parallel=is_parallel, smooth=smooth),
            "baseline": lambda smooth=smooth: task.library(is_parallel=not is_parallel, smooth=smooth),
        }
        times = interleave(calls, 3 if entries > 1_000_000 else 7)
        name = f"{'smoothing' if smooth else 'likelihood'}, {'shared' if sizes.is_shared else 'per step'}"
        shape = f"state {sizes.state_dim}, {sizes.num_series} series, T={sizes.num_steps}"
        rows.append(row(f"{name}, {shape}: {'scan' if is_parallel else 'steps'}", times))
    return rows


if __name__ == "__main__":
    main()
