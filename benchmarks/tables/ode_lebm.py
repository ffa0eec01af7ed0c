"""Predictions of ODE-LEBM and of what it is made of, and the page that shows them.

    python -m benchmarks.tables.ode_lebm                   train what has no result yet, then write the page
    python -m benchmarks.tables.ode_lebm --study spiral    one study only
    python -m benchmarks.tables.ode_lebm --page            only the page

A study is a list of runs of `benchmarks.studies.ode_lebm`. Results are kept, one entry a run, in
benchmarks/results/tables_ode_lebm_<study>.json; delete one to train again.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.tables._page import PAGE, README, RESULTS, write_between
from benchmarks.tables._study import command_of, parser_of, scores_of

PROGRAM = "benchmarks.studies.ode_lebm"
SEEDS = ("0", "1", "2")
SHARES = ("0.1", "0.2", "0.3", "0.5")
WAYS = {
    "Latent ODE": ("--prior", "gaussian", "--inference", "svi"),
    "energy prior alone": ("--prior", "energy", "--inference", "svi"),
    "chains alone": ("--prior", "gaussian", "--inference", "langevin"),
    "ODE-LEBM": ("--prior", "energy", "--inference", "langevin"),
}
ENDS = ("Latent ODE", "ODE-LEBM")
GUIDED = ("--test-starts", "guide")
Options = tuple[str, ...]


def product(data: Options, ways: Sequence[str], seeds: Sequence[str]) -> list[tuple[str, Options]]:
    """A label and options for each way and seed."""
    return [(way, (*data, *WAYS[way], "--seed", seed)) for seed, way in itertools.product(seeds, ways)]


def sinusoids(learn: str) -> list[tuple[str, Options]]:
    """Trained for each share of observed points; where training sees all points one model serves all shares."""
    runs = []
    for seed, way, share in itertools.product(SEEDS, ENDS, SHARES):
        options = ("--data", "sinusoids", "--learn", learn, "--share", share, *WAYS[way], "--seed", seed)
        test = () if seed == SEEDS[0] else GUIDED  # from noise is tried with one seed
        runs.append((f"{way}, {share}", (*options, *test)))
    return runs


def with_ode_rnn(learn: str) -> list[tuple[str, Options]]:
    """The Latent ODE with the encoder that it was published with, once."""
    once = ("--encoder", "ode_rnn", *GUIDED)
    of_rnn = sinusoids(learn)[: len(SHARES)]
    return [(label.replace("ODE,", "ODE (ODE-RNN),"), (*options, *once)) for label, options in of_rnn]


def walkers() -> list[tuple[str, Options]]:
    """Each body once; chains from noise are tried with the first."""
    bodies = {"hopper": (), "swimmer": GUIDED, "cheetah": GUIDED}
    return [
        run
        for body, test in bodies.items()
        for run in product(("--data", "mujoco", "--walker", body, *test), ENDS, SEEDS[:1])
    ]


LADDER = ("--data", "sinusoids", "--learn", "all", "--test-steps", "20", "50", "100", "200", "500", "1000")
COLD = ("--data", "sinusoids", "--learn", "all", "--start", "cold", "--effort", "2", "--test-steps", "20", "100")
STUDIES: dict[str, list[tuple[str, Options]]] = {
    "spiral": product(("--data", "spiral"), tuple(WAYS), SEEDS),
    "sinusoids_all": sinusoids("all") + with_ode_rnn("all"),
    "sinusoids_observed": sinusoids("observed"),
    "digits": product(("--data", "digits"), tuple(WAYS), SEEDS),
    "steps": [("ODE-LEBM", (*LADDER, *WAYS["ODE-LEBM"], "--seed", "0", "--test-chains", "4"))],
    "cold": [("ODE-LEBM", (*COLD, *WAYS["ODE-LEBM"], "--seed", "0"))],
    "balls": product(("--data", "balls"), ENDS, SEEDS[:1]),
    "walkers": walkers(),
}
TITLES = {
    "spiral": "Spirals: 500 points given the first 100 (1000 to train, 200 to test)",
    "sinusoids_all": "Irregular sinusoids, training sees all 100 points",
    "sinusoids_observed": "Irregular sinusoids, training sees the observed points only",
    "digits": "Rotating digits of all classes: 45 frames given 15",
    "steps": "Irregular sinusoids: error against Langevin steps at test time",
    "cold": "Irregular sinusoids by cold chains of 20 steps alone, as published",
    "balls": "A ball with a friction of its own: 40 frames given 20",
    "walkers": "Falling walkers: 100 steps given 50",
}
SINUSOIDS_PUBLISHED = {
    "Latent ODE (ODE-RNN)": ("0.0713", "0.0311", "0.0303", "0.0246"),
    "ODE-LEBM": ("0.0700", "0.0304", "0.0266", "0.0233"),
}
PUBLISHED = {
    "spiral": "Published, all 500: Latent ODE 22.76, energy prior alone 17.92, chains alone 8.33, ODE-LEBM 1.36. Equal "
    "steps for all four, half of the usual number. All have the restart term, in an earlier form without the density "
    "of the state that is carried along, which is not of the paper: without it the four ended at 4.6 to 5.6 after half "
    "as many steps. Seeds differ as much as the four ways, so that "
    "three of them tell no order, not the paper's either. The nearest training series is better than all. Draws"
    " of the energy prior lie nearer to unseen series than those of N(0, I) and of a Gaussian fitted to "
    "posterior draws.",
    "sinusoids_all": "Published: "
    + "; ".join(f"{name} {' / '.join(scores)}" for name, scores in SINUSOIDS_PUBLISHED.items())
    + ". The raw nearest neighbour is far below these. Here the encoder learns last to do with few points, and chains "
    "start at the best of 64 of its draws. An ODE-RNN (one seed) needs no chain to be ahead of the nearest neighbour "
    "from 0.2 on. Draws of the energy prior by chains of training length from N(0, I) are useless; by ten times "
    "longer ones they lie nearer to unseen series than a Gaussian fitted to posterior draws of the same model, but not "
    "nearer than one fitted to those of the Latent ODE.",
    "sinusoids_observed": "The paper does not say which points its training sees; learning from observed points is the "
    "harder of the two, while the nearest neighbour sees training series whole. ODE-LEBM is ahead of it from 0.3 on, "
    "the Latent ODE from 0.5 on. With one point in ten ODE-LEBM has about half the error of the Latent ODE or "
    "less in each seed, after as many steps and twice the time.",
    "digits": "T = 15 counts frames 1 to 15, which are seen, T = 45 counts frames 16 to 45. Published, on MNIST: "
    "Latent ODE 0.015 (T = 15) and 0.039 (T = 45), energy prior alone 0.031, "
    "chains alone 0.025, ODE-LEBM 0.020 and 0.024 with NMI 0.576. Our digits are others: compare the "
    "order. Half of the usual steps.",
    "steps": "One point in five seen; four chains from the encoder's best draws and from noise.",
    "cold": "One point in five seen at test time, all in training; twice the usual steps. The loss falls for some "
    "1500 steps and stays: 20 steps from noise do not find what they would have to teach. Chains are adjusted, with a "
    "step size of each series. Unadjusted ones, as published, learned fast with steps of 0.03 and then ran off as the "
    "networks sharpened (in other trials most of them froze), and hardly at all in 800 steps with 0.02.",
    "balls": "Published: Latent ODE 0.0178 / 0.0199, ODE-LEBM 0.0099 / 0.0159 with R2 0.62 of the friction. Half of "
    "the usual steps. Both follow the ball while it is seen; in the 20 frames after that it is sharp in "
    "a wrong place, and the mean image is better (0.033 and 0.036 against 0.023). The friction is found in the state "
    "rather than in the dynamic part.",
    "walkers": "Published T = 50 / T = 100: hopper 0.0097 / 0.0145 and 0.0076 / 0.0138 (ODE-LEBM), swimmer 5.8e-5 / "
    "6.3e-5 and 3.0e-6 / 4.9e-6, cheetah 0.0112 / 0.0087 and 0.0081 / 0.0079. Initial states and "
    "units of swimmer and cheetah are not published, so compare with the trivial predictors. Bodies come to rest: the "
    "last seen state, which makes no error in the first 50 steps, is as good on the hopper and better on the others. "
    "Half of the usual steps.",
}


# of the last run of a study: the file that the program writes, and what it shows
PICTURES = {
    "digits": (
        "fits.png",
        "A digit that turns: true frames, mean of chains, one chain; forecast after the red line",
    ),
    "steps": ("steps.png", "Mean squared error against Langevin steps at test time, from the encoder and from noise"),
    "balls": (
        "fits.png",
        "A ball that bounces: true frames, mean of chains, one chain; forecast after the red line",
    ),
    "cold": (
        "learning_cold.png",
        "Minus log densities, acceptance and step size against training steps",
    ),
}


def picture_of(study: str) -> Path:
    """Where the picture of a study is kept."""
    return PAGE.parent / "_static" / f"ode_lebm_{study}.png"


def path_of(study: str) -> Path:
    """Where the results of a study are kept."""
    return RESULTS / f"tables_ode_lebm_{study}.json"


def read(study: str) -> list[dict]:
    """The runs there are."""
    path = path_of(study)
    return json.loads(path.read_text()) if path.exists() else []


def run(study: str, scratch: Path, effort: str) -> None:
    """Make the runs that are missing, and keep the scores of each with its command."""
    for label, options in STUDIES[study]:
        options = (*options, "--effort", effort) if effort != "1" else options
        command = command_of(PROGRAM, options)
        records = read(study)
        if any(record["command"] == command for record in records):
            continue
        out = scratch / folder(options)
        record = scores_of(PROGRAM, options, out) | {"label": label}
        if study in PICTURES:
            shutil.copy(out / PICTURES[study][0], picture_of(study))
        path_of(study).write_text(json.dumps([*records, record], indent=1) + "\n")


def folder(options: Options) -> str:
    """One for each training: runs that differ in the test only share it."""
    words, is_training = [], True
    for word in options:
        if word.startswith("--"):
            is_training = not (word.startswith("--test-") or (word == "--share" and "all" in options))
        if is_training:
            words.append(word.strip("-"))
    return "-".join(words).replace(".", "_")


def figure(values: Sequence[float]) -> str:
    """A mean to three digits, and the standard deviation over seeds where there are several; nothing for no value."""
    if not values:
        return ""
    mean = statistics.fmean(values)
    decimals = 2 if mean == 0 else min(8, max(0, 2 - math.floor(math.log10(abs(mean)))))
    return f"{mean:.{decimals}f}" + (f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else "")


def parts(record: Mapping) -> tuple[str, str]:
    """The way of a run, and its share of seen points, which is empty where runs do not differ in that."""
    way, _, share = record["label"].partition(", ")
    return way, share


def cells(record: Mapping) -> dict[tuple[str, str], float]:
    """Errors by row and column. Where runs differ in the share of seen points that is the column."""
    way, share = parts(record)
    asked = list(next(iter(record["trivial"].values())))
    columns = {share: asked[0]} if share else {name: name for name in asked}
    found = {}
    for column, name in columns.items():
        for start, scores in record["errors"].items():
            shown = ("mean of chains",) if start.endswith(" 0 steps") else tuple(scores[name])
            found |= {(f"{way}: {start}, {estimator}", column): scores[name][estimator] for estimator in shown}
        found |= {(predictor, column): scores[name] for predictor, scores in record["trivial"].items()}
    return found


def by_place(records: Sequence[Mapping]) -> dict[tuple[str, str], list[float]]:
    """The values of all seeds by row and column."""
    values: dict[tuple[str, str], list[float]] = {}
    for record in records:
        for place, value in cells(record).items():
            values.setdefault(place, []).append(value)
    return values


def table(records: Sequence[Mapping]) -> list[str]:
    """Mean errors over seeds, one row for each way, start and estimator, and one for each trivial predictor."""
    values = by_place(records)
    columns = list(dict.fromkeys(column for _, column in values))
    trivial = {predictor: None for record in records for predictor in record["trivial"]}
    rows = [row for row in dict.fromkeys(row for row, _ in values) if row not in trivial]
    lines = ["| predictor | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in (*rows, *trivial):
        found = [values.get((row, column), []) for column in columns]
        lines.append(f"| {row} | " + " | ".join(figure(part[:1] if row in trivial else part) for part in found) + " |")
    return lines


def uses(records: Sequence[Mapping]) -> list[str]:
    """What else the latents were good for, by way; of several shares of seen points, with the fewest and the most."""
    records = [record for record in records if parts(record)[1] in ("", SHARES[0], SHARES[-1])]
    labels = list(dict.fromkeys(record["label"] for record in records))
    names = list(dict.fromkeys(name for record in records for name in record.get("uses", {})))
    if not names:
        return []
    lines = ["", "| use | " + " | ".join(labels) + " |", "|---" * (len(labels) + 1) + "|"]
    for name in names:
        row = []
        for label in labels:
            row.append(figure([r["uses"][name] for r in records if r["label"] == label and name in r.get("uses", {})]))
        text = name.replace("|", "\\|")  # a bar would end the cell
        lines.append(f"| {text} | " + " | ".join(row) + " |")
    return lines


def durations(records: Sequence[Mapping]) -> str:
    """Mean seconds of training, by way."""
    seconds: dict[str, list[float]] = {}
    for record in records:
        seconds.setdefault(parts(record)[0], []).append(record["processor_seconds"])
    return ", ".join(f"{way} {statistics.fmean(found):.0f} s" for way, found in seconds.items())


def seeds_of(records: Sequence[Mapping]) -> str:
    """How many trainings a row is of, and what stands behind ±."""
    runs = Counter((record["label"], record.get("walker")) for record in records)
    fewest, most = min(runs.values()), max(runs.values())
    if most == 1:
        return "One seed."
    others = "" if fewest == most else "; rows without it have one seed"
    return f"Means over test series and {most} seeds, ± the standard deviation over the seeds{others}."


def command_of_study(study: str, record: Mapping) -> str:
    """What to type for all runs of a study, with the effort that was asked of them."""
    *_, name, value = record["command"].split()
    asked = f" {name} {value}" if name == "--effort" else ""
    return f"python -m benchmarks.tables.ode_lebm --study {study}{asked}"


def section(study: str) -> list[str]:
    """One study on the page."""
    records = read(study)
    lines = [f"### {TITLES[study]}", ""]
    groups: dict[str, list[dict]] = {}
    for record in records:
        groups.setdefault(record["walker"] if study == "walkers" else "", []).append(record)
    lines += [
        f"`{command_of_study(study, records[-1])}`, such as `{records[-1]['command']}`; processor time to train: "
        f"{durations(records)}. {seeds_of(records)} {PUBLISHED[study]}",
        "",
    ]
    if study in PICTURES:
        image, text = picture_of(study).name, PICTURES[study][1]
        lines += [f"```{{image}} _static/{image}", f":alt: {text}", ":width: 100%", "```", ""]
    for name, group in groups.items():
        lines += [*([f"{name}:", ""] if name else []), *table(group), *uses(group), ""]
    return lines


def summary(records: Sequence[Mapping]) -> list[str]:
    """The table of the README: sinusoids of which training saw all points."""
    rows = {
        "Latent ODE, encoder alone": "Latent ODE: guide, 0 steps, mean of chains",
        "Latent ODE, mean of 32 chains": "Latent ODE: guide, 60 steps, mean of chains",
        "Latent ODE, chains weighted by energy": "Latent ODE: guide, 60 steps, weighted by energy",
        "Latent ODE (ODE-RNN), encoder alone": "Latent ODE (ODE-RNN): guide, 0 steps, mean of chains",
        "Latent ODE (ODE-RNN), mean of 32 chains": "Latent ODE (ODE-RNN): guide, 60 steps, mean of chains",
        "ODE-LEBM, mean of 32 chains": "ODE-LEBM: guide, 60 steps, mean of chains",
        "ODE-LEBM, chains weighted by energy": "ODE-LEBM: guide, 60 steps, weighted by energy",
        "nearest training series": "nearest training series",
        "training mean": "training mean",
    }
    values = by_place(records)
    lines = [
        "Irregular sinusoids, all 100 points from a share of them, by",
        "`python -m benchmarks.studies.ode_lebm --learn all --share 0.1`: mean squared error over test series, of",
        "three seeds with ± their standard deviation, of one seed without; chains take 60 Langevin steps from the",
        "encoder's best draws.",
        "[All scores](docs/results.md), other data and other uses, by `python -m benchmarks.tables.ode_lebm`.",
        "",
        "| predictor | " + " | ".join(SHARES) + " |",
        "|---" * (len(SHARES) + 1) + "|",
    ]
    for name, row in rows.items():
        found = [values.get((row, share), []) for share in SHARES]
        cells = [figure(part[:1] if row == name else part) for part in found]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, scores in SINUSOIDS_PUBLISHED.items():
        lines.append(f"| {name}, published | " + " | ".join(scores) + " |")
    return lines


def write_pages() -> None:
    """Write this model's part of docs/results.md, and of the README."""
    lines = [line for study in STUDIES if read(study) for line in section(study)]
    write_between(PAGE, "ode_lebm", lines[:-1])
    if read("sinusoids_all"):
        write_between(README, "ode_lebm", summary(read("sinusoids_all")))


def main() -> None:
    """Train what has no result, then write the page."""
    parser = parser_of(__doc__, STUDIES)
    parser.add_argument("--effort", default="1", help="training steps, as a share of the usual ones")
    options = parser.parse_args()
    if not options.page:
        for study in options.study or STUDIES:
            run(study, options.scratch, options.effort)
    write_pages()


if __name__ == "__main__":
    main()
