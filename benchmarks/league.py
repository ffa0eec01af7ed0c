"""Which model for which data? Every model at one recipe and an equal training time, on data of seven kinds.

``python -m benchmarks.league --seconds 120`` trains each model on each data set with three seeds, Adam at the learning
rate that its page recommends, falling along a cosine over as many steps as take that much processor time, and scores
forecasts and imputation beside what needs no training. Each result goes to ``results/league.json`` at once, and a run
goes on from there; ``--page`` prints the tables alone. Nothing is chosen by looking at test data: there is one recipe.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

import pyro_seq as ps
from benchmarks._gpu_rows import write_json
from benchmarks._structural_cases import co2
from pyro_seq import datasets
from pyro_seq.nn.components import Seasonal, SmoothTrend
from pyro_seq.training.schedules import Cosine

RESULTS = Path(__file__).parent / "results" / "league.json"
QUIET = ps.Trainer(progress=False, accelerator="cpu")
BATCH, DRAWS, SEEDS = 32, 50, (0, 1, 2)
PROBE = 5  # steps that tell how long one takes
YEAR = 52
SCORES = ("mse", "crps", "coverage_90")

Make = Callable[[ps.Sequences], ps.SequenceModel]


class Entrant(NamedTuple):
    """A model, how it is made for some data, and its learning rate."""

    make: Make
    learning_rate: float


class Field(NamedTuple):
    """A data set, its two tasks, and what cannot enter."""

    load: Callable[[], datasets.Splits]
    forecast: ps.Forecasting
    impute: ps.Imputation
    period: int | None = None
    absent: tuple[str, ...] = ()


def kalman_vae(data: ps.Sequences) -> ps.KalmanVAE:
    """On one grid in discrete time, elsewhere in continuous time."""
    if data.times.ndim == 1 and bool((data.times.diff() - data.times.diff()[0]).abs().max() < 1e-6):
        return ps.KalmanVAE(data.obs_shape, 2, 4, input_dim=inputs_of(data))
    return ps.KalmanVAE(data.obs_shape, 2, 4, dynamics=ps.ContinuousDynamics(2, 4, 3))


def inputs_of(data: ps.Sequences) -> int:
    """Number of known inputs."""
    return 0 if data.inputs is None else data.inputs.shape[-1]


def latent_ode(data: ps.Sequences) -> ps.ODELEBM:
    """With an encoder that reads the whole series, from its end."""
    size = inputs_of(data)
    encoder = ps.RNNEncoder(data.obs_shape, 8, input_dim=size)
    return ps.ODELEBM(data.obs_shape, 8, flow=ps.Flow(8, order=1, input_dim=size), encoder=encoder)


ENTRANTS = {
    "ODE2VAE": Entrant(lambda data: ps.ODE2VAE(data.obs_shape, 6, flow=ps.Flow(6, input_dim=inputs_of(data))), 3e-3),
    "Latent ODE": Entrant(latent_ode, 5e-3),
    "KalmanVAE": Entrant(kalman_vae, 7e-3),
    "RecurrentVAE": Entrant(lambda data: ps.RecurrentVAE(data.obs_shape, 8, input_dim=inputs_of(data)), 3e-3),
    "SRVP": Entrant(lambda data: ps.SRVP(data.obs_shape), 1e-3),
    "DynamicFactors": Entrant(lambda data: ps.DynamicFactors(data.obs_shape, min(8, data.obs_shape[0] + 2)), 5e-2),
    "StructuralSeries": Entrant(lambda _: ps.StructuralSeries(SmoothTrend() + Seasonal(365.25 / 7, harmonics=2)), 5e-2),
}


def co2_windows() -> datasets.Splits:
    """Three years a series, with the weeks that are missing; the last ten years are for testing."""
    whole = co2()
    starts = range(0, whole.num_steps - 3 * YEAR, YEAR // 2)
    windows = [whole.take_steps(torch.arange(start, start + 3 * YEAR)) for start in starts]
    grid = torch.arange(3.0 * YEAR)
    series = [ps.Sequences(each.values.float(), mask=each.entry_mask, times=grid) for each in windows]
    last = sum(start + 3 * YEAR <= whole.num_steps - 10 * YEAR for start in starts)
    first_test = sum(start < whole.num_steps - 10 * YEAR for start in starts)
    return datasets.Splits(stacked(series[:last]), None, stacked(series[first_test:]))


def stacked(parts: list[ps.Sequences]) -> ps.Sequences:
    """Series of one grid side by side."""
    values, mask = (torch.cat([getattr(part, name) for part in parts]) for name in ("values", "entry_mask"))
    return ps.Sequences(values, mask=mask, times=parts[0].times)


def walking() -> datasets.Splits:
    """Every fifth frame."""
    frames = torch.arange(0, 300, 5)
    return datasets.Splits(*(part.take_steps(frames) for part in datasets.cmu_walking()))


def stays() -> datasets.Splits:
    """Six vital signs and laboratory values of simulated stays, in deviations of the training entries."""
    splits = datasets.intensive_care_stays(num_validation=0)
    names = splits.train.labels.variables[:6]
    train, test = (part.select(variables=names, static=[]) for part in (splits.train, splits.test))
    units = ps.Standardise()
    units.adapt(train)
    scaled = (dataclasses.replace(part, values=units(part.values)) for part in (train, test))
    return datasets.Splits(next(scaled), None, next(scaled))


VECTORS = ("DynamicFactors", "StructuralSeries")
FIELDS = {
    "rotating digits": Field(
        lambda: datasets.rotating_digits(num_test_steps=16), ps.Forecasting(5), ps.Imputation(0.4), absent=VECTORS
    ),
    "three balls": Field(
        lambda: datasets.bouncing_balls(num_train=300, num_test=30, num_steps=15, size=16),
        ps.Forecasting(5),
        ps.Imputation(0.4),
        absent=VECTORS,
    ),
    "pendulum with torque": Field(
        lambda: datasets.torque_pendulum(num_train=300, num_validation=0, num_test=50),
        ps.Forecasting(5),
        ps.Imputation(0.4),
        absent=(*VECTORS, "SRVP"),  # which gets its inputs by a transition of one's own
    ),
    "intensive-care stays": Field(
        stays,
        ps.Forecasting(24),
        ps.Imputation(0.3, num_kept=0, is_by_entry=True),
        absent=("SRVP", "RecurrentVAE", "StructuralSeries"),
    ),
    "walking": Field(walking, ps.Forecasting(15), ps.Imputation(0.4), absent=("SRVP", "StructuralSeries")),
    "irregular sinusoids": Field(
        lambda: datasets.irregular_sinusoids(num_train=400, num_test=100, num_steps=60),
        ps.Forecasting(30),
        ps.Imputation(0.7),
        absent=("SRVP", "StructuralSeries"),
    ),
    "CO2, three years a series": Field(
        co2_windows, ps.Forecasting(2 * YEAR), ps.Imputation(0.4), period=YEAR, absent=("SRVP",)
    ),
}


def fitted(entrant: Entrant, data: ps.Sequences, seed: int, seconds: float) -> tuple[Any, dict]:
    """A fit that takes so much processor time, and what it took."""

    def fit(num_steps: int) -> tuple[Any, float]:
        torch.manual_seed(seed)
        method = ps.SVI(
            num_steps=num_steps,
            batch_size=min(BATCH, data.num_series),
            learning_rate=entrant.learning_rate,
            schedule=Cosine(num_steps),
            clip_norm=10.0,
        )
        start = time.process_time()
        posterior = ps.fit(entrant.make(data), data, method, seed=seed, trainer=QUIET)
        return posterior, time.process_time() - start

    fit(1)  # what only the first fit of a process does
    short, long = (fit(steps)[1] for steps in (PROBE, 3 * PROBE))
    of_steps = max(long - short, long / 2)  # the rest is what each fit costs once
    num_steps = max(1, round(2 * PROBE * seconds / of_steps))
    posterior, used = fit(num_steps)
    size = sum(parameter.numel() for parameter in posterior.model.parameters())
    return posterior, {"num_steps": num_steps, "seconds": used, "parameters": size}


def tasks_of(field: Field) -> dict[str, Any]:
    """By name."""
    return {"forecast": field.forecast, "imputation": field.impute}


def run(name: str, model: str, seed: int, seconds: float) -> dict:
    """One cell: a model on a data set by one seed."""
    field = FIELDS[name]
    splits = field.load()
    posterior, cost = fitted(ENTRANTS[model], splits.train, seed, seconds)
    scores = {}
    for task, what in tasks_of(field).items():
        found = ps.evaluate(posterior, splits.test, what, num_samples=DRAWS).means()
        scores[task] = {key: found[key] for key in SCORES}
    return cost | scores


def trivial(name: str) -> dict:
    """What needs no training, by name and task."""
    field = FIELDS[name]
    splits, rows = field.load(), {}
    for task, what in tasks_of(field).items():
        period = field.period if task == "forecast" else None
        for scores in ps.evaluate_baselines(splits.train, splits.test, what, period=period):
            found = scores.means()
            rows.setdefault(scores.name, {})[task] = {key: found[key] for key in SCORES}
    return rows


def cells(fields: Iterable[str], models: Iterable[str], seeds: Iterable[int]) -> Iterable[tuple[str, str, int]]:
    """Seed by seed, so that a run that ends early has all models."""
    for seed in seeds:
        for field in fields:
            yield from ((field, model, seed) for model in models if model not in FIELDS[field].absent)


def play(results: dict, key: str, job: Callable[[], dict], path: Path) -> None:
    """Run what there is no result of yet, and keep it; an error is a result, too."""
    if key in results:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results[key] = job()
    except (ps.PyroSeqError, RuntimeError) as error:
        results[key] = {"error": f"{type(error).__name__}: {error}"[:300]}
    write_json(path, results)
    print(key, results[key].get("error") or "done", flush=True)


def lines(results: dict, field: str) -> list[str]:
    """The table of one data set, the best first."""
    by_model: dict[str, list[dict]] = {}
    for key, result in results.items():
        place, model, *_ = key.split(" | ")
        if place == field and model != "baselines" and "error" not in result:
            by_model.setdefault(model, []).append(result)
    rows = [(model, found) for model, found in by_model.items()]
    rows += [(name, [found]) for name, found in results.get(f"{field} | baselines", {}).items() if name != "error"]
    rows.sort(key=lambda row: mean_of(row[1], "forecast", "mse"))
    head = ["", "forecast MSE", "CRPS", "90 % holds", "imputation MSE", "CRPS", "90 % holds", "steps", "seeds"]
    table = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name, found in rows:
        figures = [text(found, task, score) for task in ("forecast", "imputation") for score in SCORES]
        steps = f"{statistics.mean(each['num_steps'] for each in found):.0f}" if "num_steps" in found[0] else ""
        table.append("| " + " | ".join([name, *figures, steps, str(len(found)) if steps else ""]) + " |")
    return table


def mean_of(found: list[dict], task: str, score: str) -> float:
    """Over seeds; infinite where there is none, so that it comes last."""
    values = [each[task][score] for each in found if task in each]
    return statistics.mean(values) if values and all(map(math.isfinite, values)) else math.inf


def text(found: list[dict], task: str, score: str) -> str:
    """Mean over seeds, with their standard deviation."""
    values = [each[task][score] for each in found if task in each]
    if not values or not all(map(math.isfinite, values)):
        return ""
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3g}{spread}"


def main(arguments: list[str] | None = None) -> None:
    """Play what is asked for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="processor time of each training")
    parser.add_argument("--fields", nargs="+", choices=list(FIELDS), default=list(FIELDS))
    parser.add_argument("--models", nargs="+", choices=list(ENTRANTS), default=list(ENTRANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of results; a run goes on from it")
    parser.add_argument("--page", action="store_true", help="print the tables of what there is")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    if not options.page:
        for field in options.fields:
            play(results, f"{field} | baselines", lambda field=field: trivial(field), options.results)
        for cell in cells(options.fields, options.models, options.seeds):
            key = " | ".join([*map(str, cell), f"{options.seconds:g} s"])
            play(results, key, lambda cell=cell: run(*cell, options.seconds), options.results)
    for field in options.fields:
        print(f"\n{field}\n\n" + "\n".join(lines(results, field)))


if __name__ == "__main__":
    main()
