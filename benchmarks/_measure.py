"""What all benchmarks share: one thread, interleaved repeats, equal values first, a table and its JSON."""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RESULTS = Path(__file__).parent / "results"
QUICK = RESULTS / "quick"  # sizes of their own, so results of their own; not kept under version control
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def options(name: str, description: str | None) -> argparse.Namespace:
    """Read the command line, and start again with one thread if the environment allows more."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and smaller sizes, within a minute")
    parsed = parser.parse_args()
    if any(os.environ.get(variable) != "1" for variable in THREAD_VARIABLES):
        # the libraries read these when they are loaded, and torch's own switch does not reach all of them
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
        os.execve(sys.executable, [sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], environment)
    torch.set_num_threads(1)
    return parsed


@dataclass(frozen=True)
class Timing:
    """Medians over the repeats, in seconds a call: of the wall clock, and of this process's time on the processor.

    `spread` is the range of the middle half of the wall times, relative to their median.
    """

    wall: float
    cpu: float
    spread: float


def interleave(functions: Mapping[str, Callable[[], Any]], repeats: int, *, warmup: int = 1) -> dict[str, Timing]:
    """Time functions in turns, in alternating order, so that a busy minute falls on all of them alike."""
    names = list(functions)
    walls: dict[str, list[float]] = {name: [] for name in names}
    cpus: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(-warmup, repeats):
        for name in names if repeat % 2 else names[::-1]:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            functions[name]()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if repeat >= 0:
                walls[name].append(wall)
                cpus[name].append(cpu)
    return {
        name: Timing(statistics.median(walls[name]), statistics.median(cpus[name]), _spread(walls[name]))
        for name in names
    }


def _spread(times: Sequence[float]) -> float:
    if len(times) < 2:
        return 0.0
    first, middle, third = statistics.quantiles(times, n=4, method="inclusive")
    return (third - first) / middle


def gap(results: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest relative difference of tensors that should agree, in the Euclidean norm of each."""
    gaps = []
    for result, value in zip(results, expected, strict=True):
        if result.shape != value.shape:
            raise ValueError(f"Results differ in shape: {tuple(result.shape)} and {tuple(value.shape)}.")
        gaps.append(float((result - value).detach().norm() / value.detach().norm()))
    return max(gaps, key=lambda size: (math.isnan(size), size))


def require_equal(name: str, results: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> float:
    """Stop unless library and baseline agree: speed at another value is no speed."""
    difference = gap(results, expected)
    if not difference <= tolerance:  # NaN fails as well
        raise SystemExit(f"{name}: library and baseline differ by {difference:.2e}, allowed are {tolerance:.0e}.")
    return difference


@dataclass(frozen=True)
class Row:
    """One figure of the library, beside the baseline's.

    For times: seconds, their ratio, the least ratio that is asked for, and the relative spread of the repeats. Figures
    of other units have no processor time.
    """

    name: str
    value: float
    unit: str
    baseline: float | None
    ratio: float | None
    bound: float | None
    cpu: float | None
    cpu_baseline: float | None
    difference: float | None
    spread: float | None = None
    spread_baseline: float | None = None


def row(
    name: str,
    times: Mapping[str, Timing],
    *,
    bound: float | None = None,
    difference: float | None = None,
) -> Row:
    """A row of the timings of `library` and, if it ran, `baseline`."""
    library, baseline = times["library"], times.get("baseline")
    return Row(
        name,
        library.wall,
        "s",
        baseline and baseline.wall,
        baseline and baseline.wall / library.wall,
        bound,
        library.cpu,
        baseline and baseline.cpu,
        difference,
        library.spread,
        baseline and baseline.spread,
    )


def report(name: str, rows: Sequence[Row], *, notes: Sequence[str] = (), packages: Sequence[str] = ()) -> None:
    """Print the table and write ``results/<name>.json``, with ``--quick`` ``results/quick/<name>.json``."""
    heads = f"{'library':>10s}{'baseline':>10s}{'ratio':>8s}{'cpu ratio':>11s}{'spread':>8s}{'bound':>15s}{'gap':>10s}"
    print(f"\n{'':56s}{heads}")
    for entry in rows:
        cpu_ratio = entry.cpu_baseline / entry.cpu if entry.cpu_baseline and entry.cpu else None
        bound = f">= {entry.bound:g}" if entry.bound else ""
        if entry.ratio and entry.bound and entry.ratio < entry.bound:
            bound += " MISSED"
        form = ".4f" if entry.unit == "s" else ".1e"
        numbers = _cell(entry.value, 10, form) + _cell(entry.baseline, 10, form) + _cell(entry.ratio, 8, ".2f")
        numbers += _cell(cpu_ratio, 11, ".2f") + _cell(entry.spread, 8, ".0%")
        print(f"{entry.name:56s}{numbers}{bound:>15s}{_cell(entry.difference, 10, '.0e')}")
    for note in notes:
        print(note)
    facts = {
        "threads": torch.get_num_threads(),
        "device": device_name(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        "command": " ".join(["python -m", f"benchmarks.{name}", *sys.argv[1:]]),
    }
    path = folder() / f"{name}.json"
    path.write_text(json.dumps([asdict(entry) | facts for entry in rows], indent=1) + "\n")
    print(f"{facts['threads']} thread, {facts['device']}. Seconds are medians of interleaved repeats. Wrote {path}.")


def device_name() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def plot_costs(
    name: str, label: str, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str
) -> None:
    """Processor seconds a call, which other load inflates least, against a size; as ``results/<name>.png``."""
    plot_curves(name, curves, (label, "processor seconds a call"), title)


def plot_curves(
    name: str, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], labels: tuple[str, str], title: str
) -> None:
    """Curves over logarithmic axes with the given labels; as ``results/<name>.png``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, NullLocator

    is_crowded = len(curves) > 4  # the legend beside the axes
    figure, axes = pyplot.subplots(figsize=(9, 4) if is_crowded else (5, 3.6), layout="constrained")
    for number, (curve, (across, up)) in enumerate(curves.items()):
        axes.loglog(across, up, ("-", "--")[number // 10], marker="os^vDPX*<>"[number % 10], markersize=5, label=curve)
    ticks = sorted({float(f"{value:.3g}") for across, _ in curves.values() for value in across})
    spread = [tick for tick, after in zip(ticks, [*ticks[1:], float("inf")], strict=True) if after > 1.2 * tick]
    axes.set_xticks(spread, [f"{tick:g}" for tick in spread])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=labels[0], ylabel=labels[1], title=title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        frameon=False, **({"fontsize": 8, "loc": "center left", "bbox_to_anchor": (1, 0.5)} if is_crowded else {})
    )
    figure.savefig(folder() / f"{name}.png", dpi=150)
    pyplot.close(figure)


def folder() -> Path:
    """Where results go, made if it is not there."""
    folder = QUICK if "--quick" in sys.argv else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _cell(value: float | None, width: int, form: str) -> str:
    return f"{'-':>{width}s}" if value is None else f"{value:{width}{form}}"
