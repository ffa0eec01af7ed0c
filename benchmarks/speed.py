"""How fast the library is beside plain loops and, where they are installed, beside others; and what its models cost.

Processor time on one thread, in turns within one process, medians, after equal values were checked. Then operations
and synchronisations (numbers read from the device) of a training step and a forecast of each model, and time and peak
memory of long forecasts and of many draws.

    python -m benchmarks.speed                        all of it, some ten minutes
    python -m benchmarks.speed --only chains kalman   a few parts; the others stay as they are in the results
    python -m benchmarks.speed --against FILE         tables with the figures of another run, such as an earlier
                                                      commit's, beside these
    python -m benchmarks.speed --page                 writes docs/speed.md from the results, runs nothing

Results are written after each row to benchmarks/results/speed.json. Peers: ``pip install -e '.[peers]'``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks import _speed_chains, _speed_costs, _speed_counts, _speed_encoders, _speed_kalman, _speed_rows
from benchmarks._measure import QUICK, RESULTS, THREAD_VARIABLES, device_name
from benchmarks.tables._page import ROOT, write_between

WORKS = {"chains": _speed_chains.works, "encoders": _speed_encoders.works, "kalman": _speed_kalman.works}
PARTS = (*WORKS, "counts", "costs")
PAGE = ROOT / "docs" / "speed.md"
PACKAGES = ("torch", "pyro-ppl", "jax", "dynamax", "blackjax")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, within seconds; results of their own")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--against", type=Path, help="results of another run, to stand beside these")
    parser.add_argument("--page", action="store_true", help="write the page from the results and run nothing")
    options = parser.parse_args()
    path = (QUICK if options.quick else RESULTS) / "speed.json"
    if not options.page:
        _with_one_thread()
        run(path, options.only, is_quick=options.quick)
    results = json.loads(path.read_text())
    before = json.loads(options.against.read_text()) if options.against else results.get("before", {})
    if before and not options.quick:
        results["before"] = {part: before[part] for part in PARTS if part in before}
        path.write_text(json.dumps(results, indent=1) + "\n")
    tables = tables_of(results)
    print("\n\n".join("\n".join(lines) for lines in tables.values()))
    if options.page:
        for name, lines in tables.items():
            write_between(PAGE, name, lines)


def run(path: Path, parts: tuple[str, ...], *, is_quick: bool) -> None:
    """Run parts one after another; each row is written when it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() and not is_quick else {}
    results["facts"] = facts()
    for part in parts:
        results[part] = []
        for row in rows_of(part, is_quick):
            results[part].append(row)
            path.write_text(json.dumps(results, indent=1) + "\n")
            print(row, flush=True)


def rows_of(part: str, is_quick: bool) -> Iterator[dict[str, Any]]:
    """The rows of one part, as they come."""
    cases = _speed_counts.QUICK_CASES if is_quick else tuple(_speed_counts.CASES)
    if part in WORKS:
        yield from (work.measured() for work in WORKS[part](is_quick))
    elif part == "counts":
        yield from map(_speed_counts.counts, cases)
    else:
        for name in cases:
            yield from _speed_costs.costs(name, is_quick)


def facts() -> dict[str, Any]:
    """Where and with what it ran."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"device": device_name(), "threads": torch.get_num_threads(), "versions": versions}


def tables_of(results: dict[str, Any]) -> dict[str, list[str]]:
    """Tables in Markdown by name."""
    before = results.get("before", {})
    earlier = {part: {row["name"]: row for row in before.get(part, [])} for part in PARTS}
    works = [row for part in WORKS for row in results.get(part, [])]
    known = {name: row for part in WORKS for name, row in earlier[part].items()}
    return {
        "works": _speed_rows.lines_of(works, known),
        "counts": _speed_counts.lines_of(results.get("counts", []), earlier["counts"]),
        "costs": _speed_costs.lines_of(results.get("costs", [])),
        "where": [_where(results["facts"])],
    }


def _where(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return f"{facts['device']}; {facts['threads']} thread; {versions}."


def _with_one_thread() -> None:
    """Start again with one thread if the environment allows more: libraries read it when they are loaded."""
    if any(os.environ.get(variable) != "1" for variable in THREAD_VARIABLES):
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.speed", *sys.argv[1:]], environment)
    torch.set_num_threads(1)
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


if __name__ == "__main__":
    main()
