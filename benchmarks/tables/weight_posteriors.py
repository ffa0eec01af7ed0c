"""What posteriors of a random field know outside of the data, and the section of the page that shows it.

    python -m benchmarks.tables.weight_posteriors          run the study where there is no result, then write the page
    python -m benchmarks.tables.weight_posteriors --page   only docs/results.md

The result is kept in benchmarks/results/tables_weight_posteriors.json; delete it to run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.tables._page import PAGE, RESULTS, ROOT, write_between
from benchmarks.tables._study import command_of

PROGRAM = "benchmarks.studies.weight_posteriors"
RESULT = RESULTS / "tables_weight_posteriors.json"
PICTURE = "weight_posteriors.png"


def run(scratch: Path, options: Sequence[str]) -> None:
    """Run the study, on from what is there of it, and keep its scores with the command and its picture."""
    subprocess.run([sys.executable, "-m", PROGRAM, *options, "--out", str(scratch)], cwd=ROOT, check=True)
    record = json.loads((scratch / "scores.json").read_text()) | {"command": command_of(PROGRAM, options)}
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    shutil.copy(scratch / PICTURE, PAGE.parent / "_static" / PICTURE)


def table(rows: Sequence[Mapping], place: str) -> list[str]:
    """Scores in one place."""
    lines = [f"| {place} | MSE | CRPS | 50 % interval covers | 90 % interval covers | its width |", "|---" * 6 + "|"]
    for row in rows:
        scores = row[place]
        error, crps = (_figure(scores, name) for name in ("mse", "crps"))
        shares = [f"{100 * scores[key]:.0f} %" if key in scores else "" for key in ("coverage_50", "coverage_90")]
        width = f"{scores['width_90']:.3f}" if "width_90" in scores else ""
        lines.append(f"| {row['method']} | {error} | {crps} | {shares[0]} | {shares[1]} | {width} |")
    return lines


def _figure(scores: Mapping, name: str) -> str:
    spread = f" ± {scores[name + '_sd']:.4f}" if f"{name}_sd" in scores else ""
    return f"{scores[name]:.4f}{spread}"


def section(record: Mapping) -> list[str]:
    """The study on the page."""
    seeds = max(row.get("seeds", 0) for row in record["rows"])
    shares = [100 * row["outside"]["coverage_90"] for row in record["rows"] if "seeds" in row]
    low, high = min(shares), max(shares)
    of_seeds = "One seed." if seeds == 1 else f"Means over {seeds} seeds, ± the standard deviation over them."
    lines = [
        f"`{record['command']}`: ten noisy swings of a pendulum, of up to 1.2 radians, teach a network of 65 weights "
        f"the acceleration; {record['steps']} steps of each fit. Forecasts of 39 frames given one, which is exact, for "
        f"{record['num_test']} further swings *inside* that range, and for {record['num_test']} *outside*, of 1.6 to "
        f"1.95 radians. {of_seeds} The true field shows what nobody can beat. Inside, "
        f"all are nearly as good. Outside, all are too sure: their 90 % intervals hold {low:.0f} to {high:.0f} %. Five "
        "networks from five starts hold the most and have the nearest mean; among the three families of the posterior, "
        "Gaussians around one network each, these runs tell no order.",
        "",
        f"```{{image}} _static/{PICTURE}",
        ":alt: Intervals of 90 % of one swing inside and one outside of the data, by each method",
        ":width: 100%",
        "```",
        "",
    ]
    for place in ("inside", "outside"):
        lines += [*table(record["rows"], place), ""]
    return lines[:-1]


def main() -> None:
    """Run what has no result, then write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the section only")
    parser.add_argument(
        "--scratch", type=Path, default=ROOT / "results" / "weight_posteriors", help="folder of the run"
    )
    parser.add_argument("--seeds", default="3", help="number of seeds; what the folder holds is kept")
    options = parser.parse_args()
    if not options.page and not RESULT.exists():
        run(options.scratch, ["--seeds", options.seeds])
    write_between(PAGE, "weight_posteriors", section(json.loads(RESULT.read_text())))


if __name__ == "__main__":
    main()
