"""The tables of the page on clinical records, from the results that `benchmarks.clinical` keeps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables._page import RESULTS, ROOT, write_between

PAGE = ROOT / "docs" / "tutorials" / "clinical_records.md"
#: Mean squared errors in thousandths of Rubanova, Chen and Duvenaud (2019), on sets A and B
PUBLISHED = {
    "RNN-VAE": ("5.930", "3.055"),
    "latent ODE, recurrent encoder": ("3.907", "3.162"),
    "latent ODE, ODE-RNN encoder": ("2.118 ± .271", "2.231 ± .029"),
    "the same, with a Poisson process": ("2.789 ± .771", "2.208 ± .050"),
}
NAMES = {
    "kinds": "latent ODE, an emission for each kind",
    "normal": "latent ODE, normal noise for all",
    "factors": "dynamic factors, normal noise for all",
}
KINDS = ("normal", "log-normal", "count", "count, log score", "yes or no", "class")
Row = dict[str, Any]


def path_of(study: str) -> Path:
    """Where the result of a study is kept."""
    return RESULTS / f"clinical_{study}.json"


def write_page() -> None:
    """Write the tables of all studies that have a result."""
    for study, table in {"vitals": vitals, "mixed": mixed, "physionet": physionet}.items():
        if path_of(study).is_file():
            write_between(PAGE, f"table of {study}", table(json.loads(path_of(study).read_text())))


def vitals(result: dict[str, Any]) -> list[str]:
    """Shares of the variance that are left, the mean over seeds, and each seed's average."""
    lines = table_head(
        ["filled by", *map(spoken, result["variables"]), "all, by seed", "90 % interval holds", "seconds"]
    )
    for name, rows in by_name(result["rows"]):
        shares = [figure(values) for values in zip(*(row["shares"] for row in rows), strict=True)]
        lines.append(line([name, *shares, each(rows, "share"), each(rows, "coverage"), each(rows, "seconds", 0)]))
    return lines


def mixed(result: dict[str, Any]) -> list[str]:
    """A score of each kind, the mean over seeds."""
    head = [
        "filled by",
        "normal: share of the variance",
        "log-normal: the same",
        "counts: CRPS",
        "counts: log score",
        "ventilated: Brier score",
        "rhythm: Brier score",
        "seconds",
    ]
    lines = table_head(head)
    for name, rows in by_name(result["rows"]):
        scores = [figure([row[kind] for row in rows]) if kind in rows[0] else "" for kind in KINDS]
        lines.append(line([NAMES.get(name, name), *scores, each(rows, "seconds", 0)]))
    return lines


def physionet(result: dict[str, Any]) -> list[str]:
    """Errors as published in thousandths, then scores over all entries alike."""
    tasks = ("interpolation", "extrapolation")
    lines = table_head(["", *(f"{task}, error as published, 1e-3" for task in tasks)])
    lines += [line([name, *errors]) for name, errors in PUBLISHED.items()]
    test = [row for row in result["rows"] if row["part"] == "test"]
    for name, rows in by_name(test):
        errors = [each([row[task] for row in rows if task in row], "mse, published", 3, 1e3) for task in tasks]
        lines.append(line([called(name, result), *errors]))
    lines += [
        "",
        *table_head(
            [
                "over all entries alike",
                *(
                    f"{task}: {score}"
                    for task in (*tasks, "a tenth hidden")
                    for score in ("error, 1e-3", "CRPS", "90 % holds")
                ),
            ]
        ),
    ]
    for name, rows in by_name(test):
        cells = [name]
        for task in (*tasks, "a tenth hidden"):
            found = [row[task] for row in rows if task in row]
            cells += [each(found, "mse", 2, 1e3), each(found, "crps", 4), each(found, "coverage")]
        lines.append(line(cells))
    chosen_from = [row for row in result["rows"] if row["part"] == "validation"]
    if chosen_from:
        head = ["validation, seed 0", *(f"CRPS, {task}" for task in (*tasks, "a tenth hidden")), "seconds"]
        lines += ["", *table_head(head)]
    for row in chosen_from:
        crps = [number(row[task]["crps"], 4) for task in (*tasks, "a tenth hidden")]
        lines.append(line([row["name"], *crps, number(row["seconds"], 0)]))
    sizes = ", ".join(f"{count} {part}" for part, count in result["stays"].items())
    return [*lines, "", f"Stays: {sizes}."]


def called(name: str, result: dict[str, Any]) -> str:
    """Whose numbers these are."""
    return f"here: {name}" if name == result["best"] else name


# ---------------------------------------------------------------------- cells


def by_name(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Rows that share a name, in the order of their first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["name"], []).append(row)
    return list(groups.items())


def each(rows: Sequence[Row], score: str, digits: int = 3, factor: float = 1.0) -> str:
    """A score of each row, once where all are alike; nothing where there is none."""
    found = [number(factor * row[score], digits) for row in rows if score in row]
    return found[0] if len(set(found)) == 1 else " ".join(found)


def figure(values: Sequence[float], digits: int = 3) -> str:
    """The mean."""
    return number(sum(values) / len(values), digits)


def number(value: float, digits: int = 3) -> str:
    """Without a zero before the point."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def spoken(variable: str) -> str:
    """A variable's name as a heading."""
    return {"ph": "pH"}.get(variable, variable.replace("_", " "))


def line(cells: Iterable[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def table_head(cells: Sequence[str]) -> list[str]:
    """The first two rows of a table."""
    return [line(cells), f"|{'---|' * len(cells)}"]
