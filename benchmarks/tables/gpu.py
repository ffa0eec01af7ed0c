"""What works on a GPU and how fast: the tables of docs/gpu.md.

    python -m benchmarks.tables.gpu DIR ...    gather the gpu.json that `benchmarks.gpu` left in these folders, in order
    python -m benchmarks.tables.gpu            only write the tables

Results are kept in benchmarks/results/gpu.json, a run of `benchmarks.gpu` after the other.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables._page import RESULTS, ROOT, write_between

RESULT = RESULTS / "gpu.json"
PAGE = ROOT / "docs" / "gpu.md"
Row = dict[str, Any]
SIGNIFICANT = 4  # digits that are kept
PLACES = re.compile(r'[^\s"]*/(site-packages|site|(?=pyro_seq/|benchmarks/|tests/))/?')
ONCE = "†"  # a single call
PARTS_OF_WAITS = {"pyro/": "Pyro", "distributions/": "torch.distributions", "pyro_seq/": "pyro_seq"}


# ---------------------------------------------------------------------- results


def gather(folders: Iterable[Path]) -> dict[str, Any]:
    """The runs that left their results in these folders, numbers rounded and places without the machine's folders."""
    return {"runs": [shortened(json.loads((folder / "gpu.json").read_text())) for folder in folders]}


def shortened(value: Any) -> Any:
    """The same with short numbers and places."""
    if isinstance(value, dict):
        return {name: shortened(part) for name, part in value.items() if name != "took"}
    if isinstance(value, list):
        return [shortened(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT}g}")
    return PLACES.sub("", value) if isinstance(value, str) else value


def command(run: dict[str, Any]) -> str:
    """What was called."""
    parts = dict.fromkeys(row["part"] for row in run["rows"])
    return f"python -m benchmarks.gpu --minutes {run['minutes']:g} --only {' '.join(parts)}"


def rows_of(runs: Sequence[dict[str, Any]], part: str) -> dict[str, Row]:
    """Rows of a part by name, of the first run that has it."""
    run = next(run for run in runs if any(row["part"] == part for row in run["rows"]))
    return {row["name"]: row for row in run["rows"] if row["part"] == part}


# ---------------------------------------------------------------------- tables


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def milliseconds(row: Row | None) -> str:
    """Time of a row, or what came of it."""
    if row is None or "seconds" not in row:
        return "" if row is None else row["status"].split(":")[0]
    time = 1000 * row["seconds"]
    return (f"{time:.0f}" if time >= 100 else f"{time:.3g}") + ONCE * (row.get("repeats") == 0)


def runs_section(runs: Sequence[dict[str, Any]]) -> list[str]:
    """With what the figures were made."""
    last = runs[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    lines = [
        f"Device: {last['device']} ({last['GiB']:.0f} GiB), {last['processor']}; Python {last['python']}, {versions}, "
        f"CUDA {last['cuda']}, cuDNN {last['cudnn']}.",
        "",
    ]
    return lines + [f"{number}. `{command(run)}`" for number, run in enumerate(runs, 1)]


def works_section(runs: Sequence[dict[str, Any]]) -> list[str]:
    """How many rows of each kind passed, in each run that tried."""
    tried = {f"run {number}": run["rows"] for number, run in enumerate(runs, 1) if _has(run, "tests")}
    counts = {name: passed(rows) for name, rows in tried.items()}
    kinds = next(iter(counts.values()))
    return table(["", *counts], ([kind, *(found[kind] for found in counts.values())] for kind in kinds))


def passed(rows: Sequence[Row]) -> dict[str, str]:
    """Counts of what passed, by kind."""
    tests = next(row for row in rows if row["part"] == "tests")
    checks = [row for row in rows if row["part"] == "checks"]
    fits = [row for row in rows if row["part"] == "verbs" and row["status"] != "not supported"]
    failed = sum(len(row["failed"]) for row in checks)
    return {
        "tests with the mark `gpu`": tests["summary"][-1].partition(",")[0],
        "models that pass `check_model`": _share(checks),
        "its checks": f"{sum(row['passed'] for row in checks)} passed, {failed} failed",
        "fits, each followed by every verb": _share(fits),
        "verbs after them that passed": str(sum(row.get("verbs that passed", 0) for row in fits)),
    }


def _has(run: dict[str, Any], part: str) -> bool:
    return any(row["part"] == part for row in run["rows"])


def _share(rows: Sequence[Row]) -> str:
    return f"{sum(row['status'] == 'ok' for row in rows)} of {len(rows)}"


def steps_section(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Milliseconds of a training step."""
    single, host = rows_of(runs, "steps"), rows_of(runs, "host")
    halves = {number: rows_of([run], "bf16") for number, run in enumerate(runs, 1) if _has(run, "bf16")}
    most = runs[0]["threads"]
    head = ["a step of", f"CPU, {most} threads", "CPU, 1 thread", "GPU", *(f"bf16, run {number}" for number in halves)]
    rows = []
    for name in models(single):
        row = single[f"{name}, cuda, 32-true"]
        cells = [milliseconds(host.get(f"{name}, cpu, 32-true, threads: {threads}")) for threads in (most, 1)]
        cells += [
            milliseconds(found) for found in (row, *(half[f"{name}, cuda, bf16-mixed"] for half in halves.values()))
        ]
        cells += [f"{1000 * row['seconds in kernels']:.3g}", str(row["operations"]), str(row["kernels"])]
        rows.append([name, *cells, str(row["waits"]), f"{row['peak MiB']:.0f}"])
    return table([*head, "in kernels", "operations", "kernels", "waits", "MiB"], rows)


def models(rows: Iterable[str]) -> Iterator[str]:
    """Names of workloads."""
    yield from dict.fromkeys(name.rpartition(", cuda, ")[0] for name in rows)


def waits_section(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Where the CPU waits for the GPU, by library, and the lines of pyro_seq that wait most."""
    single = rows_of(runs, "steps")
    rows = {}
    for name in models(single):
        row = single[f"{name}, cuda, 32-true"]
        places = row["places of waits"]
        sums = Counter({library: 0 for library in PARTS_OF_WAITS.values()})
        for place, count in places.items():
            sums[next(library for start, library in PARTS_OF_WAITS.items() if place.startswith(start))] += count
        own = {place: count for place, count in places.items() if place.startswith("pyro_seq/")}
        lines = ", ".join(f"`{place.removeprefix('pyro_seq/')}` {count}" for place, count in list(own.items())[:6])
        rest = row["waits"] - sum(places.values())
        rows[name.rpartition(", ")[0]] = [str(row["waits"]), *map(str, sums.values()), str(rest), lines]
    head = ["a step of", "waits", *PARTS_OF_WAITS.values(), "not listed", "lines of pyro_seq"]
    return table(head, ([name, *cells] for name, cells in rows.items()))


def kalman_section(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Milliseconds of Kalman recursions with their gradients."""
    rows = rows_of(runs, "kalman")
    sizes = dict.fromkeys(name.split(", ")[2] for name in rows if not name.startswith("float32"))
    columns = [
        (f"{what}, {how}", place)
        for what in ("log-likelihood", "smoothing")
        for how in ("sequential", "parallel")
        for place in ("cuda", "cpu")
    ]
    head = ["series x steps x state", *(f"{way}, {'GPU' if place == 'cuda' else 'CPU'}" for way, place in columns)]
    cells = [[size, *(milliseconds(rows.get(f"{way}, {size}, {place}")) for way, place in columns)] for size in sizes]
    return table(head, cells)


def errors_section(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Differences of single precision on the GPU from double precision."""
    rows = {name: row for name, row in rows_of(runs, "kalman").items() if name.startswith("float32")}
    ways = [name for name in next(iter(rows.values())) if name not in ("part", "name", "status")]
    cells = [[name.split(", ")[1], *(f"{row[way]:.1e}" for way in ways)] for name, row in rows.items()]
    return table(["series x steps x state", *ways], cells)


def chains_section(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Milliseconds of Langevin chains."""
    rows = rows_of(runs, "mala")
    columns = [(way, place) for place in ("cuda", "cpu") for way in ("library", "plain loop")]
    sizes = dict.fromkeys(name.split(", ")[1] for name in rows)
    head = ["chains", *(f"{way}, {'GPU' if place == 'cuda' else 'CPU'}" for way, place in columns)]
    return table(
        head, ([size, *(milliseconds(rows[f"{way}, {size}, {place}"]) for way, place in columns)] for size in sizes)
    )


def digits_section(runs: Sequence[dict[str, Any]]) -> list[str]:
    """The main example beside the CPU's errors."""
    rows = rows_of(runs, "digits")
    training, *forecasts = rows.values()
    alone = {
        place: next(row["seconds"] for name, row in rows_of(runs, part).items() if name.startswith("ODE2VAE"))
        for place, part in (("the GPU", "steps"), (f"the CPU's {runs[0]['threads']} threads", "host"))
    }
    number = int(training["name"].split()[0])
    times = " and ".join(f"{number * seconds:.0f} s on {place}" for place, seconds in alone.items())
    lines = [
        f"{training['steps']:.0f} of its {number} steps in {training['seconds']:.0f} s. By the table of steps all "
        f"would take {times}, alone.",
        "",
    ]
    cells = (
        [row["name"], f"{row['mse']:.4f}", f"{row['mse on a CPU']:.4f}", f"{row['coverage_90']:.0%}", milliseconds(row)]
        for row in forecasts
    )
    return lines + table(["", "MSE", "MSE by the CPU, all steps", "in the 90 % interval", "ms"], cells)


def video_section(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Scores of SRVP against the time of training."""
    rows = rows_of(runs, "video")
    names = ("psnr", "ssim")
    known = rows["trivial predictors"]
    cells = [[name, *_scores(known[name], "best of 1"), "", ""] for name in known if isinstance(known[name], dict)]
    ended = next(row for row in rows.values() if "loss" in row)
    for name, row in rows.items():
        if name.startswith("after "):
            row = (
                row
                if "steps" in row
                else row | {"steps": ended["steps"], "training seconds": ended["training seconds"]}
            )
            label = f"{row['training seconds']:.0f} s, {row['steps']} steps"
            best = next(key for key in row if key.startswith("psnr, best")).partition(", ")[2]
            cells.append([label, *_scores(row, best), *_scores(row, "mean")])
    return table(["trained", *(f"{name.upper()}, {which}" for which in ("best", "mean") for name in names)], cells)


def _scores(row: Row, which: str) -> list[str]:
    return [f"{row[f'psnr, {which}']:.2f}", f"{row[f'ssim, {which}']:.3f}"]


SECTIONS = {
    "runs": runs_section,
    "what works": works_section,
    "steps": steps_section,
    "waits": waits_section,
    "Kalman recursions": kalman_section,
    "precision": errors_section,
    "chains": chains_section,
    "digits": digits_section,
    "video": video_section,
}


def write_page(page: Path, runs: Sequence[dict[str, Any]]) -> None:
    """Write the tables between their marks."""
    for name, section in SECTIONS.items():
        write_between(page, name, section(runs))


def main(given: Sequence[str] | None = None) -> None:
    """Gather results if there are any, then write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.gpu", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="where `benchmarks.gpu` left its results")
    folders = parser.parse_args(given).folders
    if folders:
        RESULT.write_text(json.dumps(gather(folders), indent=1) + "\n")
    write_page(PAGE, json.loads(RESULT.read_text())["runs"])


if __name__ == "__main__":
    main()
