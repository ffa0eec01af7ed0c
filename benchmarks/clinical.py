"""Clinical tables: simulated stays in raw units, one of mixed kinds, and the Latent ODE's protocol on real stays.

    python -m benchmarks.clinical vitals       hidden entries of six variables in their own units
    python -m benchmarks.clinical mixed        nine variables of five kinds over one latent path
    python -m benchmarks.clinical physionet    PhysioNet 2012, whose folder is named by PYRO_SEQ_DATA
    python -m benchmarks.clinical --page       only the tables of the page

Results are kept in benchmarks/results/clinical_<study>.json, and the tables of docs/tutorials/clinical_records.md are
made of them. On real stays the model is chosen by the CRPS of validation stays, unless ``--candidates`` names one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pyro_seq as ps
from benchmarks._clinical_page import path_of, write_page
from pyro_seq import metrics
from pyro_seq.datasets import PHYSIONET_2012_VARIABLES, intensive_care_stays, physionet_2012
from pyro_seq.datasets._scaling import training_range
from pyro_seq.predict.evaluate import baselines
from pyro_seq.training.schedules import Cosine

Factory = Callable[[], ps.SequenceModel]
QUIET = ps.Trainer(progress=False, accelerator="cpu")
CONTINUOUS = 6  # the first so many variables of the simulated stays are real numbers
KINDS = {"normal": slice(0, 4), "log-normal": slice(4, 6), "count": [6], "yes or no": [7], "class": slice(8, 11)}
VITALS_STEPS, MIXED_STEPS, PHYSIONET_STEPS, OWN_STEPS, LATENT_ODE_STEPS = 100, 300, 150, 80, 400
FIRST_DAY, NUM_DRAWS = 24.0, 50
DESCRIPTORS = ("Age", "Gender", "Height", "ICUType")


@dataclasses.dataclass(frozen=True)
class Unmeasured:
    """See what was measured, and fill in what was not, which simulated stays know.

    Args:
        mask: Where something was measured, (series, time, obs).
    """

    mask: Tensor

    def given(self, data: ps.Sequences) -> ps.Sequences:
        """What was measured."""
        return data.hide(~self.mask)

    def predict(self, posterior: ps.Posterior, given: ps.Sequences, **options: Any) -> ps.Prediction:
        """Impute."""
        return ps.impute(posterior, given, **options)

    def scored(self, data: ps.Sequences) -> Tensor:
        """What was not measured."""
        return ~self.mask


def without_gaps(data: ps.Sequences, num_columns: int = 11) -> tuple[ps.Sequences, Unmeasured]:
    """The whole truth of simulated stays, and the task of filling in what was not measured."""
    columns = list(range(num_columns))
    whole = dataclasses.replace(narrowed(data, columns), values=data.context["whole"][..., columns], mask=None)
    return whole, Unmeasured(data.entry_mask[..., columns])


def narrowed(data: ps.Sequences, columns: list[int]) -> ps.Sequences:
    """Some of the variables."""
    labels = data.labels.of_variables(columns)
    values, mask = data.values[..., columns], data.entry_mask[..., columns]
    return dataclasses.replace(data, values=values, mask=mask, labels=labels)


def svi(num_steps: int, learning_rate: float) -> ps.SVI:
    """How all models are fitted."""
    schedule = Cosine(num_steps)
    return ps.SVI(num_steps=num_steps, batch_size=64, learning_rate=learning_rate, schedule=schedule, clip_norm=50.0)


def latent_ode(num_entries: int, emission: ps.Emission | None = None, dim: int = 10) -> ps.ODELEBM:
    """A Latent ODE with default parts; on a grid of its own, for times crowd."""
    flow = ps.Flow(dim, order=1, solver=ps.RK4(step_size=0.2, is_dense=True))
    encoder = ps.ODERNNEncoder((num_entries,), dim)
    return ps.ODELEBM((num_entries,), dim, flow=flow, encoder=encoder, emission=emission)


def fitted(make: Factory, train: ps.Sequences, method: ps.SVI, seed: int) -> tuple[ps.Posterior, float]:
    """A posterior, and the seconds of processor time that its training took."""
    torch.manual_seed(seed)
    start = time.process_time()
    posterior = ps.fit(make(), train, method, seed=seed, trainer=QUIET)
    return posterior, time.process_time() - start


# ---------------------------------------------------------------------- simulated, six variables


def vitals(options: argparse.Namespace) -> dict[str, Any]:
    """Share of the variance of each variable that is left unexplained where nothing was measured."""
    rows = []
    for seed in options.seeds:
        sizes = {"num_train": 32, "num_test": 8} if options.smoke else {}
        train, _, test = intensive_care_stays(missing=0.73, num_validation=0, seed=seed, **sizes)
        whole, task = without_gaps(test, CONTINUOUS)
        train = narrowed(train, list(range(CONTINUOUS)))
        rows += [
            {"name": name, "seed": seed} | unexplained(values, None, whole, task)
            for name, values in baselines(train, whole, task).items()
        ]
        models: dict[str, tuple[Factory, ps.SVI, bool]] = {
            "dynamic factors": (
                lambda: ps.DynamicFactors((CONTINUOUS,), 6, input_dim=4),
                svi(4 if options.smoke else VITALS_STEPS, 0.05),
                True,
            ),
            "latent ODE": (
                lambda: latent_ode(CONTINUOUS),
                svi(4 if options.smoke else LATENT_ODE_STEPS, 0.01),
                False,
            ),
        }
        for name, (make, method, has_inputs) in models.items():
            if name not in options.models:
                continue
            shown, asked = (part.with_static_as_inputs() if has_inputs else part for part in (train, whole))
            posterior, seconds = fitted(make, shown, method, seed)
            filled = ps.impute(posterior, task.given(asked), num_samples=100, seed=seed)
            rows.append(
                {"name": name, "seed": seed, "seconds": seconds} | unexplained(filled.mean, filled.samples, whole, task)
            )
            print(json.dumps(rows[-1]), flush=True)
    return {"rows": rows, "variables": list(whole.labels.variables or ()), "missing": 0.73}


def unexplained(mean: Tensor, draws: Tensor | None, whole: ps.Sequences, task: Unmeasured) -> dict[str, Any]:
    """Squared errors as shares of the variance, by variable and on average, and what 90 % intervals hold."""
    hidden = task.scored(whole)
    errors = metrics.mse(mean, whole.values, mask=hidden, keep=(2,)) / whole.values.var((0, 1))
    found: dict[str, Any] = {"shares": errors.tolist(), "share": float(errors.mean())}
    if draws is not None:
        found["coverage"] = float(metrics.coverage(draws, whole.values, 0.9, mask=hidden))
    return found


# ---------------------------------------------------------------------- simulated, mixed kinds


def columns() -> ps.ColumnsEmission:
    """An emission for each kind."""
    parts = [ps.GaussianEmission(), ps.LogNormalEmission(), ps.PoissonEmission(), ps.BernoulliEmission()]
    return ps.ColumnsEmission(list(zip(KINDS.values(), [*parts, ps.CategoricalEmission(3)], strict=True)))


def mixed(options: argparse.Namespace) -> dict[str, Any]:
    """Scores by kind of one latent path, with an emission for each kind and with normal noise for all."""
    rows = []
    sizes = {"num_train": 32, "num_test": 8} if options.smoke else {}
    for seed in options.seeds:
        train, _, test = intensive_care_stays(num_validation=0, seed=seed, **sizes)
        whole, task = without_gaps(test)
        for name, values in baselines(train, whole, task).items():
            rows.append({"name": name, "seed": seed} | by_kind(values, None, None, whole, task))
        few = 4 if options.smoke else None
        models: dict[str, tuple[Factory, ps.SVI]] = {
            "kinds": (lambda: latent_ode(11, columns()), svi(few or MIXED_STEPS, 0.01)),
            "normal": (lambda: latent_ode(11), svi(few or MIXED_STEPS, 0.01)),
            "factors": (lambda: ps.DynamicFactors((11,), 8, input_dim=4), svi(few or VITALS_STEPS, 0.05)),
        }
        for name, (make, method) in models.items():
            shown, asked = (part.with_static_as_inputs() if name == "factors" else part for part in (train, whole))
            posterior, seconds = fitted(make, shown, method, seed)
            densities = ps.evaluate(posterior, asked, task, seed=seed).table()["log_score"].to_numpy()
            filled = ps.impute(posterior, task.given(asked), num_samples=100, seed=seed)
            scores = by_kind(filled.mean, filled.samples, densities, whole, task)
            rows.append({"name": name, "seed": seed, "seconds": seconds} | scores)
            print(json.dumps(rows[-1]), flush=True)
    return {"rows": rows}


def by_kind(
    mean: Tensor, draws: Tensor | None, densities: np.ndarray | None, whole: ps.Sequences, task: Unmeasured
) -> dict[str, Any]:
    """For each kind a score: shares of the variance, CRPS and log score of counts, Brier scores."""
    hidden, values = task.scored(whole), whole.values
    errors = metrics.mse(mean, values, mask=hidden, keep=(2,))
    shares = errors / values.var((0, 1))
    ranked = metrics.crps(mean[None] if draws is None else draws, values, mask=hidden, keep=(2,))
    found = {
        "normal": float(shares[KINDS["normal"]].mean()),
        "log-normal": float(shares[KINDS["log-normal"]].mean()),
        "count": float(ranked[6]),
        "yes or no": float(errors[7]),
        "class": float(errors[KINDS["class"]].sum()),
    }
    if densities is not None:
        found |= {"count, log score": float(densities[6])}
    return found


# ---------------------------------------------------------------------- PhysioNet 2012


def stays(options: argparse.Namespace) -> tuple[ps.Sequences, ps.Sequences, ps.Sequences]:
    """Training stays hourly, validation and test stays at a resolution of six minutes, in units as published.

    Of 37 variables: age, sex, height and type of unit are left out, as in the paper. The unit of a variable is from all
    stays, the test among them, as in the paper, and one of scores only: models take units of their own from training.
    """
    number = 60 if options.smoke else options.stays
    shares = {"validation_share": 0.05, "test_share": 0.2}
    fine, hourly = (
        physionet_2012(minutes_per_step=minutes, num_series=number, normalise=False, **shares) for minutes in (6, 60)
    )
    kept = [column for column, name in enumerate(PHYSIONET_2012_VARIABLES) if name not in DESCRIPTORS]
    assert fine.validation is not None
    whole = (fine.train, fine.validation, fine.test)
    rows = torch.cat([torch.where(part.entry_mask, part.values, torch.nan)[..., kept].flatten(0, 1) for part in whole])
    low, divisor = map(torch.from_numpy, training_range(rows.numpy(), divide_by_maximum=True))

    def scaled(part: ps.Sequences) -> ps.Sequences:
        chosen = narrowed(part, kept)
        return dataclasses.replace(chosen, values=((chosen.values - low) / divisor).float())

    return scaled(hourly.train), scaled(fine.validation), scaled(fine.test)


def physionet(options: argparse.Namespace) -> dict[str, Any]:
    """The published tasks: reconstruct what was seen of two days, and the second day given the first."""
    train, validation, test = stays(options)
    rows: list[dict[str, Any]] = []
    steps = 4 if options.smoke else None
    candidates: dict[str, tuple[Factory, ps.SVI]] = {
        "6 factors and one for each variable": (
            lambda: ps.DynamicFactors((37,), 6, has_own_factors=True),
            svi(steps or OWN_STEPS, 0.1),
        ),
        "12 factors": (lambda: ps.DynamicFactors((37,), 12), svi(steps or PHYSIONET_STEPS, 0.08)),
        "24 factors": (lambda: ps.DynamicFactors((37,), 24), svi(steps or PHYSIONET_STEPS, 0.08)),
        "latent ODE": (lambda: latent_ode(37, dim=20), svi(steps or LATENT_ODE_STEPS, 0.01)),
    }
    candidates = {name: candidates[name] for name in options.candidates or candidates}
    found, fits = {}, {}
    for name, (make, method) in candidates.items() if len(candidates) > 1 else ():
        fits[name] = posterior, seconds = fitted(make, train, method, options.seeds[0])
        scores = {task: scored(posterior, validation, task, 0) for task in TASKS}
        found[name] = sum(score["crps"] for score in scores.values())
        rows.append({"name": name, "part": "validation", "seconds": seconds, "seed": options.seeds[0]} | scores)
        print(json.dumps(rows[-1]), flush=True)
    best = min(found, key=lambda name: found[name], default=next(iter(candidates)))
    make, method = candidates[best]
    for seed in options.seeds:
        is_there = seed == options.seeds[0] and best in fits
        posterior, seconds = fits[best] if is_there else fitted(make, train, method, seed)
        scores = {task: scored(posterior, test, task, seed) for task in TASKS}
        rows.append({"name": best, "part": "test", "seconds": seconds, "seed": seed} | scores)
        print(json.dumps(rows[-1]), flush=True)
    for task in TASKS:
        given, asked = shown(test, task)
        for name, values in ps.predict.baselines.point_predictions(train, given).items():
            row = {"name": name, "part": "test", task: of_entries(values, None, test, asked)}
            rows.append(row)
    sizes = {part: len(data) for part, data in (("train", train), ("validation", validation), ("test", test))}
    return {"rows": rows, "best": best, "stays": sizes}


TASKS = ("interpolation", "extrapolation", "a tenth hidden")


def shown(data: ps.Sequences, task: str) -> tuple[ps.Sequences, Tensor]:
    """What a task shows, and which entries it asks for."""
    if task == "interpolation":  # as published: of the entries that are shown
        return data, data.entry_mask
    if task == "extrapolation":
        is_late = data.times > FIRST_DAY
        return data.hide(is_late), data.entry_mask & is_late[..., None]
    hide = ps.Imputation(0.1, num_kept=0, seed=7, is_by_entry=True)
    return hide.given(data), hide.scored(data)


def scored(posterior: ps.Posterior, data: ps.Sequences, task: str, seed: int) -> dict[str, float]:
    """Scores of one task, a few stays of about the same length at a time."""
    given, asked = shown(data, task)
    verb = ps.reconstruct if task == "interpolation" else ps.impute
    draws = data.values.new_zeros(NUM_DRAWS, *data.values.shape)
    mean = torch.zeros_like(data.values)
    for some in data.lengths.argsort().split(50):
        length = int(data.lengths[some].max())
        found = verb(posterior, given[some].first(length), num_samples=NUM_DRAWS, seed=seed)
        mean[some, :length], draws[:, some, :length] = found.mean, found.samples
    return of_entries(mean, draws, data, asked)


def of_entries(mean: Tensor, draws: Tensor | None, data: ps.Sequences, asked: Tensor) -> dict[str, float]:
    """Errors as published, a mean over stays and variables in which a variable without entries counts 0, and plain."""
    errors = (mean - data.values).square() * asked
    count = asked.sum(1)
    found = {
        "mse, published": float((errors.sum(1) / count.clamp(min=1)).mean()),
        "mse": float(errors.sum() / count.sum()),
    }
    truth, predicted = data.values[asked][:, None, None], (mean[None] if draws is None else draws)[:, asked]
    found["crps"] = float(metrics.crps(predicted[..., None, None], truth))
    if draws is not None:
        found["coverage"] = float(metrics.coverage(predicted[..., None, None], truth, 0.9))
    return found


STUDIES = {"vitals": vitals, "mixed": mixed, "physionet": physionet}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], help="all when absent")
    parser.add_argument("--page", action="store_true", help="write the page only")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=["dynamic factors", "latent ODE"], help="of the study vitals")
    parser.add_argument("--stays", type=int, default=None, help="of PhysioNet, the first so many; all when absent")
    parser.add_argument(
        "--candidates", nargs="+", default=[], help="of PhysioNet, such as '12 factors'; all when absent"
    )
    parser.add_argument("--smoke", action="store_true", help="a few steps; keeps no result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for study in [] if options.page else options.studies or list(STUDIES):
        result = STUDIES[study](options)
        if not options.smoke:
            path_of(study).write_text(json.dumps(result, indent=1) + "\n")
    if not options.smoke:
        write_page()


if __name__ == "__main__":
    main()
