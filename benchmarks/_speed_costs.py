"""Time and peak memory of long forecasts and of many draws, for each model, in one go and in chunks of draws."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro_seq as ps
from benchmarks._speed_counts import CASES, FIRST, _fitted
from pyro_seq.errors import NumericalError

PROCESS = Path("/proc/self")
CALLS = {
    "100 steps, 20 draws": {"horizon": 100, "num_samples": 20},
    "1000 steps, 20 draws": {"horizon": 1000, "num_samples": 20},
    "20 steps, 1000 draws": {"horizon": 20, "num_samples": 1000},
    "20 steps, 1000 draws, chunks of 50": {"horizon": 20, "num_samples": 1000, "chunk_size": 50},
}
QUICK_CALLS = {"10 steps, 4 draws": {"horizon": 10, "num_samples": 4}}
NUM_SERIES = 2


def costs(name: str, is_quick: bool) -> list[dict[str, Any]]:
    """Seconds and mebibytes of forecasts of two series; what the result itself takes stands beside them."""
    case, data = CASES[name], CASES[name].data()
    posterior, _ = _fitted(case, data, FIRST)
    few, rows = data[:NUM_SERIES], []
    for label, arguments in (QUICK_CALLS if is_quick else CALLS).items():
        numbers = 2 * NUM_SERIES * arguments["horizon"] * arguments["num_samples"] * few.values[0, 0].numel()

        def call(arguments: dict[str, int] = arguments) -> None:
            ps.forecast(posterior, few, **arguments)

        try:
            seconds, peak = peak_of(call)
        except NumericalError:  # a model that was hardly trained, over so many steps
            continue
        rows.append({"name": f"{name}, {label}", "seconds": seconds, "MiB": peak, "result, MiB": 4 * numbers / 2**20})
    return rows


def peak_of(call: Callable[[], Any]) -> tuple[float, float | None]:
    """Processor seconds of a call, and by how much the memory of the process grew at most, where the system says so."""
    gc.collect()
    before = None
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        (PROCESS / "clear_refs").write_text("5")
        before = _mebibytes("VmRSS")
    except OSError:
        pass
    start = time.process_time()
    call()
    seconds = time.process_time() - start
    return seconds, None if before is None else _mebibytes("VmHWM") - before


def _mebibytes(name: str) -> float:
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def lines_of(rows: list[dict[str, Any]]) -> list[str]:
    """A table in Markdown."""
    lines = ["| forecast of two series | seconds | peak, MiB | the result itself, MiB |", "|" + " --- |" * 4]
    for row in rows:
        peak = "" if row["MiB"] is None else f"{row['MiB']:.0f}"
        lines.append(f"| {row['name']} | {row['seconds']:.2f} | {peak} | {row['result, MiB']:.1f} |")
    return lines
