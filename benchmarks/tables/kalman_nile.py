"""The flow of the Nile by maximum likelihood, SVI and NUTS, and the section of the page that shows it.

    python -m benchmarks.tables.kalman_nile          run the study where there is no result, then write the page
    python -m benchmarks.tables.kalman_nile --page   only docs/results.md

The result is kept in benchmarks/results/tables_kalman_nile.json; delete it to run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.tables._page import PAGE, RESULTS, ROOT, write_between
from benchmarks.tables._study import command_of

PROGRAM = "benchmarks.studies.kalman_nile"
RESULT = RESULTS / "tables_kalman_nile.json"
METHODS = {"ML": "maximum likelihood", "SVI": "SVI", "NUTS": "NUTS"}
COLUMNS = {"rhat": ".4f", "ess": ".0f", "divergences": "d", "loo": ".1f"}


def run(scratch: Path) -> None:
    """Run the study, and keep its scores with the command."""
    subprocess.run([sys.executable, "-m", PROGRAM, "--all", "--out", str(scratch)], cwd=ROOT, check=True)
    record = json.loads((scratch / "scores.json").read_text()) | {"command": command_of(PROGRAM, ["--all"])}
    RESULT.write_text(json.dumps(record, indent=1) + "\n")


def variances(row: Mapping) -> str:
    """The maximum, or means with intervals."""
    if "interval" not in row:
        return ", ".join(f"{value:.1f}" if value >= 0.05 else "0" for value in row["variances"])
    pairs = zip(row["variances"], row["interval"], strict=True)
    return ", ".join(f"{mean:.0f} [{low:.0f}, {high:.0f}]" for mean, (low, high) in pairs)


def section(record: Mapping) -> list[str]:
    """The study on the page."""
    lines = [
        f"`{record['command']}`: variances of the noise of the observation, the level and the slope, in the flow's "
        "unit squared; posterior means with 90 % intervals, four chains of 600 draws, one seed. The maxima equal those "
        f"of statsmodels. {record.get('note', '')}".strip(),
        "",
        "| data and model | method | variances | R-hat | ESS | divergences | leave-one-out |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, rows in record["fits"].items():
        name = ", ".join(reversed(title.split(", ")))
        for row in [row for row in rows if row["method"] in METHODS]:
            cells = [f"{row[key]:{kind}}" if key in row else "" for key, kind in COLUMNS.items()]
            lines.append(f"| {name} | {METHODS[row['method']]} | {variances(row)} | " + " | ".join(cells) + " |")
            name = ""
    lines += ["", "The hidden years:", "", "| predictor | RMSE | CRPS | 90 % interval covers |", "|---|---|---|---|"]
    for row in record["hidden years"]:
        share = f"{100 * row['coverage_90']:.0f} %" if "coverage_90" in row else ""
        lines.append(f"| {row['predictor']} | {row['rmse']:.1f} | {row['crps']:.1f} | {share} |")
    return lines


def main() -> None:
    """Run what has no result, then write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the section only")
    parser.add_argument("--scratch", type=Path, default=ROOT / "results" / "kalman_nile", help="folder of the run")
    options = parser.parse_args()
    if not options.page and not RESULT.exists():
        run(options.scratch)
    write_between(PAGE, "kalman_nile", section(json.loads(RESULT.read_text())))


if __name__ == "__main__":
    main()
