"""SRVP: a training step and the drawing of futures, beside the plain way of the public code.

Baseline, `benchmarks._srvp_baseline`: torch's layers as they come, images in torch's own layout, a loop over frames
with the noise prior inside; a forecast encodes the seen frames anew for every sample and decodes them again. "One by
one" is a loop over the samples, as in the public test script, "at once" takes all samples as so many series. Weights,
clips and draws are the same. In double precision losses, gradients and frames must agree to rounding error before
anything is timed. The configuration is the paper's for moving digits: 64 x 64 pixels, 15 frames, here 16 clips.

Peak memory is that of a fresh process. Both sides have the same allocator; "memory kept" is with settings of glibc
under which freed blocks stay in the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from benchmarks import _srvp_baseline as plain
from benchmarks._measure import Row, Timing, interleave, options, plot_costs, report, require_equal, row
from benchmarks._srvp_process import KEEPING, measured
from benchmarks._srvp_task import Task

DOUBLE = 1e-10
# Batch normalisation after random layers amplifies rounding: gradients of either side are as far from those in double
# precision. The loss must agree as it does elsewhere.
SINGLE, SINGLE_GRADIENTS = 1e-5, 2e-2
SMALL = plain.Sizes((1, 16, 16), (8, 16), 16, 8, 8, 16, 3, 32)
PAPER = plain.Sizes()


def main() -> None:
    quick = options("srvp", __doc__).quick
    sizes = SMALL if quick else PAPER
    rows = [*training_rows(sizes, quick), *generation_rows(sizes, quick)]
    rows += [*large_rows(sizes, quick), *scaling_rows(sizes, quick)]
    report(
        "srvp",
        rows,
        notes=[
            "Ratios are baseline / library. The columns of rows in MiB and of single futures have no spread.",
            "A result holds draws and their means, and in passing those of the seen frames.",
        ],
        packages=("torch", "pyro-ppl"),
    )


def check(sizes: plain.Sizes, num_series: int, num_steps: int) -> float:
    """Equal losses, gradients and futures in double precision; how far gradients are apart in single."""
    exact = Task(sizes, num_series, num_steps, dtype=torch.float64)
    require_equal("futures", *exact.both_futures(3, 2), DOUBLE)
    require_equal("training step", *exact.both(), DOUBLE)
    library, baseline = Task(sizes, num_series, num_steps).both()
    require_equal("loss", library[:1], baseline[:1], SINGLE)
    return require_equal("gradients", library, baseline, SINGLE_GRADIENTS)


def training_rows(sizes: plain.Sizes, quick: bool) -> list[Row]:
    """A step of Adam in single precision, under two settings of the allocator, and in mixed precision."""
    num_series, num_steps, repeats = (4, 6, 2) if quick else (16, 15, 5)
    difference = check(sizes, 4, num_steps)
    task, mixed = Task(sizes, num_series, num_steps), Task(sizes, num_series, num_steps, is_mixed=True)
    times = interleave(
        {
            "library": task.library,
            "baseline": task.baseline,
            "mixed": mixed.library,
            "mixed baseline": mixed.baseline,
        },
        repeats,
    )
    name = f"training step, {num_series} clips of {num_steps}"
    rows = [row(name, times, bound=1.3, difference=difference)]
    kept = measured(
        "training",
        environment=KEEPING,
        num_series=num_series,
        num_steps=num_steps,
        repeats=2 if quick else 3,
        sizes=sizes,
    )
    rows.append(row(f"{name}, memory kept", {side: Timing(**timing) for side, timing in kept.items()}, bound=1.3))
    low = {"library": times["mixed"], "baseline": times["mixed baseline"]}
    rows.append(row(f"{name}, both bfloat16", low))
    rows.append(row(f"{name}, bfloat16 beside float32", low | {"baseline": times["baseline"]}))
    return rows


def generation_rows(sizes: plain.Sizes, quick: bool) -> list[Row]:
    """Time and peak memory of a forecast."""
    num_samples, horizon, repeats = (5, 4, 2) if quick else (100, 20, 3)
    name = f"{num_samples} futures of {horizon} frames"
    times = interleave(_forecasts(Task(sizes, 1, sizes.num_frames), horizon, num_samples), repeats)
    rows = []
    for side in ("one by one", "at once"):
        pair = {"library": times["library"], "baseline": times[side]}
        rows.append(row(f"{name}, beside {side}", pair, bound=1.0))
    memory = {
        side: measured("generation", side=side, horizon=horizon, num_samples=num_samples, chunk_size=None, sizes=sizes)
        for side in times
    }
    ours = memory["library"]
    for side in ("one by one", "at once"):
        theirs, bound = memory[side], 4.0 if side == "at once" and not quick else None
        rows.append(figure(f"{name}, peak beside {side}", "MiB", ours["peak"], theirs["peak"], bound))
        extra = [found["peak"] - found["before"] for found in (ours, theirs)]
        rows.append(figure(f"{name}, more than before, beside {side}", "MiB", *extra))
    return rows


def large_rows(sizes: plain.Sizes, quick: bool) -> list[Row]:
    """Far horizons and many samples, by the library alone."""
    rows = []
    for horizon, num_samples in ((10, 1), (4, 10)) if quick else ((20, 5), (1000, 5), (10, 1000)):
        found = measured(
            "generation",
            side="library",
            horizon=horizon,
            num_samples=num_samples,
            chunk_size=min(num_samples, 50),
            sizes=sizes,
        )
        name = f"{num_samples} futures of {horizon} frames in chunks of 50"
        rows.append(figure(f"{name}, processor time", "s", found["cpu"]))
        rows.append(figure(f"{name}, one result", "MiB", found["result"]))
        rows.append(figure(f"{name}, more than before", "MiB", found["peak"] - found["before"]))
        rows.append(figure(f"{name}, peak", "MiB", found["peak"]))
    return rows


def scaling_rows(sizes: plain.Sizes, quick: bool) -> list[Row]:
    """Cost against one size at a time; "at once" stops where its memory would not fit small machines."""
    rows = []
    task = Task(sizes, 1, sizes.num_frames)
    horizons, counts = ((2, 4), (1, 3)) if quick else ((5, 20, 80, 160), (1, 3, 10, 30))
    title = "SRVP: futures of one clip"
    rows += _curve("srvp_horizon", "frames ahead", horizons, lambda h: _forecasts(task, h, 3 if quick else 5), title)
    rows += _curve("srvp_samples", "samples", counts, lambda n: _forecasts(task, 4 if quick else 20, n), title)
    pixels = (8, 16) if quick else (32, 64, 128)

    def step(size: int) -> dict[str, Callable[[], Any]]:
        larger = Task(sizes._replace(obs_shape=(1, size, size)), 4, 6)
        return {"library": larger.library, "baseline": larger.baseline}

    return rows + _curve("srvp_pixels", "pixels a side", pixels, step, "SRVP: a training step, 4 clips of 6 frames")


def figure(name: str, unit: str, value: float, baseline: float | None = None, bound: float | None = None) -> Row:
    """A row of a figure that is measured once."""
    ratio = baseline / value if baseline and value else None
    return Row(name, value, unit, baseline, ratio, bound, None, None, None)


def _forecasts(task: Task, horizon: int, num_samples: int) -> dict[str, Callable[[], Any]]:
    return {
        "library": lambda: task.futures(horizon, num_samples),
        "one by one": lambda: plain.one_by_one(task.networks, task.seen(), horizon, num_samples),
        "at once": lambda: plain.at_once(task.networks, task.seen(), horizon, num_samples),
    }


def _curve(
    file: str,
    label: str,
    sizes: Iterable[int],
    sides: Callable[[int], Mapping[str, Callable[[], Any]]],
    title: str,
) -> list[Row]:
    rows: list[Row] = []
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for size in sizes:
        is_long = size > 50
        times = interleave(sides(size), 1 if is_long else 3, warmup=0 if is_long else 1)
        for side, timing in times.items():
            points = curves.setdefault(side, ([], []))
            points[0].append(size)
            points[1].append(timing.cpu)
        rows += [
            row(f"{title[6:]}, {label} {size}, beside {side}", {"library": times["library"], "baseline": timing})
            for side, timing in times.items()
            if side != "library"
        ]
    plot_costs(file, label, curves, title)
    return rows


if __name__ == "__main__":
    main()
