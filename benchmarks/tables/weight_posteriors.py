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
# what the figures say
READING = [
    "Inside, all are nearly as good, and near the best there is. Outside, the three families of guides are too sure, "
    "and one network more so: a Gaussian around one network knows of what lies beyond the data how that network goes "
    "on. These seeds tell no order among the families. Chains by `ChEES` find many networks; their field is the "
    "nearest, and their intervals hold more than they say, as the prior is wider than the truth. An ensemble of five "
    "comes near for a twentieth of the time. The figures of `SGLD` are not of its stationary law, as R-hat says: in "
    "one seed 18 effective draws.",
    "",
]


def run(scratch: Path, options: Sequence[str]) -> None:
    """Run the study, on from what is there of it, and keep its scores with the command and its picture."""
    subprocess.run([sys.executable, "-m", PROGRAM, *options, "--out", str(scratch)], cwd=ROOT, check=True)
    record = json.loads((scratch / "scores.json").read_text()) | {"command": command_of(PROGRAM, options)}
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    shutil.copy(scratch / PICTURE, PAGE.parent / "_static" / PICTURE)


def table(rows: Sequence[Mapping], place: str) -> list[str]:
    """Scores in one place."""
    lines = [
        f"| {place} | MSE | CRPS | 50 % interval covers | 90 % interval covers | its width | error of the field | "
        "width of its 90 % interval |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        scores = row[place]
        error, crps = (_figure(scores, name) for name in ("mse", "crps"))
        shares = [f"{100 * scores[key]:.0f} %" if key in scores else "" for key in ("coverage_50", "coverage_90")]
        others = [f"{scores[key]:.3f}" if key in scores else "" for key in ("width_90", "field_error", "field_width")]
        lines.append("| " + " | ".join([row["method"], error, crps, *shares, *others]) + " |")
    return lines


def mixing(rows: Sequence[Mapping]) -> list[str]:
    """What each fit took, and how well chains mixed: of all seeds and places the worst."""
    lines = [
        "| | seeds | processor seconds | largest R-hat of the field inside | fewest effective draws | a second | "
        "divergences |",
        "|---" * 7 + "|",
    ]
    for row in [row for row in rows if "seconds" in row]:
        figures = ["", "", "", ""]
        if "rhat" in row:
            ess, speed = row["ess"], row["ess_per_second"]
            figures = [f"{row['rhat']:.3f}", f"{ess:.0f}", f"{speed:.2f}", f"{row['diverging']:.0f}"]
        lines.append("| " + " | ".join([row["method"], f"{row['seeds']}", f"{row['seconds']:.0f}", *figures]) + " |")
    return lines


def _figure(scores: Mapping, name: str) -> str:
    spread = f" ± {scores[name + '_sd']:.4f}" if f"{name}_sd" in scores else ""
    return f"{scores[name]:.4f}{spread}"


def section(record: Mapping) -> list[str]:
    """The study on the page."""
    seeds = max(row.get("seeds", 0) for row in record["rows"])
    of_seeds = (
        "One seed."
        if seeds == 1
        else "Means over seeds, ± the standard deviation over them; the last table counts them."
    )
    lines = [
        f"`{record['command']}`: {record['num_train']} swings of a pendulum, of up to 1.2 radians, 12 frames each with "
        "noise of 0.15, teach a network of 33 weights the acceleration; weights have the prior N(0, 0.25). "
        f"{record['steps']} steps of each fit. Chains start at draws of the mean field, whose time counts: 12 of "
        "`ChEES` with 250 draws after a warm-up of 200, and 12 of `SGLD` on half of the swings a step, of 2500 steps "
        f"after 1000. Forecasts of 23 frames given one, which is exact, for {record['num_test']} further swings "
        f"*inside* that range, and for {record['num_test']} *outside*, of 1.6 to 1.95 radians. The field is looked at, "
        f"at rest, in 13 places inside and 6 outside. {of_seeds} The true field shows what nobody can beat.",
        "",
        *READING,
        f"```{{image}} _static/{PICTURE}",
        ":alt: Intervals of 90 % of one swing inside and one outside of the data, by each method",
        ":width: 100%",
        "```",
        "",
    ]
    for place in ("inside", "outside"):
        lines += [*table(record["rows"], place), ""]
    return [*lines, *mixing(record["rows"])]


def main() -> None:
    """Run what has no result, then write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the section only")
    parser.add_argument(
        "--scratch", type=Path, default=ROOT / "results" / "weight_posteriors", help="folder of the run"
    )
    parser.add_argument("--seeds", default="3", help="number of seeds; what the folder holds is kept")
    parser.add_argument("--chain-seeds", help="fewer for ChEES, which takes longest")
    options = parser.parse_args()
    if not options.page and not RESULT.exists():
        fewer = [] if options.chain_seeds is None else ["--chain-seeds", options.chain_seeds]
        run(options.scratch, ["--seeds", options.seeds, *fewer])
    write_between(PAGE, "weight_posteriors", section(json.loads(RESULT.read_text())))


if __name__ == "__main__":
    main()
