"""Hidden entries of intensive-care stays: `DynamicFactors` beside what needs no model, and two networks for points.

``python -m benchmarks.physionet`` takes the first 800 stays of PhysioNet 2012 (their folder is named by
``PYRO_SEQ_DATA``), hourly, the 36 variables that are measured over time, in deviations of the training entries; 540
stays train, 100 choose the number of factors and the noise, and of 160 a tenth of the observed entries is hidden and
filled. Rows with "recalibrated" have intervals by `pyro_seq.recalibrate` on the 100. ``--rivals`` adds SAITS and BRITS
of the package ``pypots``, which is no dependency of this one. Figures of each variable are in
``benchmarks/results/physionet.json`` beside those of the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pyro_seq as ps
from benchmarks._measure import RESULTS
from pyro_seq.datasets import PHYSIONET_2012_VARIABLES, physionet_2012
from pyro_seq.metrics import coverage, crps
from pyro_seq.training.schedules import Cosine

STAYS, SHARES, DESCRIPTORS, HOURS = 800, {"validation_share": 0.125, "test_share": 0.2}, 5, 48
QUIET = ps.Trainer(progress=False, accelerator="cpu")
TASK = ps.Imputation(0.1, num_kept=0, seed=7, is_by_entry=True)
FLOOR = 0.03  # of noise scales, in deviations of a variable
NOISES: dict[str, Callable[[], Any]] = {
    "Gaussian": ps.GaussianEmission,
    "Student-t": lambda: ps.StudentTEmission(minimum_scale=FLOOR),
    "unbounded Student-t": ps.StudentTEmission,
}
HEAD = "| test | MAE | RMSE | CRPS | 50 % covers | 90 % covers | seconds |\n|---|---|---|---|---|---|---|"


def stays() -> tuple[ps.Sequences, ps.Sequences, ps.Sequences]:
    """Training, validation and test stays in deviations of the training entries, of the variables over time."""
    splits = physionet_2012(minutes_per_step=60, num_series=STAYS, normalise=False, seed=0, **SHARES)
    parts = [splits.train, splits.validation, splits.test]
    values = splits.train.values[..., DESCRIPTORS:]
    mask = splits.train.entry_mask[..., DESCRIPTORS:]
    count = mask.sum((0, 1)).clamp(min=1)
    mean = (values * mask).sum((0, 1)) / count
    unit = (((values - mean) * mask).square().sum((0, 1)) / count).sqrt().clamp(min=1e-6)
    scaled = [
        ps.Sequences(
            torch.where(part.entry_mask, part.values, torch.nan)[..., DESCRIPTORS:].sub(mean).div(unit),
            times=part.times,
        )
        for part in parts
    ]
    return tuple(part[part.step_mask.any(1)] for part in scaled)


def method(num_steps: int) -> ps.SVI:
    """How all models are fitted."""
    return ps.SVI(num_steps=num_steps, batch_size=64, learning_rate=0.08, schedule=Cosine(num_steps))


def candidates(sizes: list[int], noises: list[str]) -> dict[str, Callable[[], ps.SequenceModel]]:
    """Models to choose from, by name."""
    return {
        f"{size} factors, {noise} noise": lambda size=size, noise=noise: ps.DynamicFactors(
            (36,), size, emission=NOISES[noise]()
        )
        for size in sizes
        for noise in noises
    }


def scores(name: str, mean: Tensor, draws: Tensor | None, test: ps.Sequences, seconds: float) -> dict[str, Any]:
    """Figures over all hidden entries alike, and for each variable."""
    hidden = TASK.scored(test)
    error = (mean - test.values)[hidden]
    found: dict[str, Any] = {
        "test": name,
        "MAE": float(error.abs().mean()),
        "RMSE": float(error.square().mean().sqrt()),
    }
    if draws is not None:
        at_hidden, truth = draws[:, hidden], test.values[hidden]  # one entry in fifty
        found["CRPS"] = float(crps(at_hidden, truth))
        found |= {f"{level}": float(coverage(at_hidden, truth, level)) for level in (0.5, 0.9)}
        bounds = torch.zeros(2, *test.values.shape)
        bounds[:, hidden] = at_hidden.quantile(torch.tensor([0.05, 0.95]), 0)
        found["variables"] = by_variable(*bounds, test)
    return found | {"seconds": seconds}


def by_variable(lower: Tensor, upper: Tensor, test: ps.Sequences) -> dict[str, tuple[int, float]]:
    """Hidden entries of each variable, and the share of them in their intervals."""
    hidden = TASK.scored(test)
    inside = (test.values >= lower) & (test.values <= upper) & hidden
    counts, held = hidden.sum((0, 1)).tolist(), inside.sum((0, 1)).tolist()
    names = PHYSIONET_2012_VARIABLES[DESCRIPTORS:]
    return {name: (n, share / n) for name, n, share in zip(names, counts, held, strict=True) if n}


def line(found: dict[str, Any]) -> str:
    """A line of the table."""
    figures = [f"{found[name]:.3f}" if name in found else "-" for name in ("MAE", "RMSE", "CRPS", "0.5", "0.9")]
    return " | ".join([f"| {found['test']}", *figures, f"{found['seconds']:.0f} |"])


def recalibrated(posterior: Any, validation: ps.Sequences, test: ps.Sequences, name: str) -> dict[str, Any]:
    """Intervals by what those of the validation stays hold."""
    start = time.perf_counter()
    widened = ps.recalibrate(posterior, validation, TASK, num_samples=100, is_pooled=True)
    intervals = widened.intervals(TASK.given(test))
    held = by_variable(intervals.lower, intervals.upper, test)
    share = sum(n * part for n, part in held.values()) / sum(n for n, _ in held.values())
    seconds = time.perf_counter() - start
    return {"test": name, "0.9": share, "factor": 1 + float(widened.margins), "variables": held, "seconds": seconds}


def hourly(data: ps.Sequences) -> np.ndarray:
    """The same on one grid of hours, NaN where nothing was seen, (stay, hour, variable)."""
    table = torch.full((len(data), HOURS + 1, *data.obs_shape), torch.nan)
    stay = torch.arange(len(data))[:, None].expand(data.mask.shape[:2])
    seen = data.step_mask
    values = torch.where(data.entry_mask, data.values, torch.nan)
    table[stay[seen], data.times[seen].round().long()] = values[seen]
    return table.numpy()


def rival(name: str, train: ps.Sequences, validation: ps.Sequences, test: ps.Sequences, seed: int) -> Tensor:
    """What a network of ``pypots`` fills in, on the grid of `test`."""
    from pypots.imputation import BRITS, SAITS
    from pypots.utils.random import set_random_seed

    set_random_seed(seed)
    sizes = {"n_steps": HOURS + 1, "n_features": 36, "batch_size": 32, "epochs": 100, "patience": 10, "device": "cpu"}
    if name == "SAITS":
        shape = {"n_layers": 2, "d_model": 128, "n_heads": 4, "d_k": 32, "d_v": 32, "d_ffn": 128, "dropout": 0.1}
        network = SAITS(**sizes, **shape)
    else:
        network = BRITS(**sizes, rnn_hidden_size=128)
    shown, truth = hourly(TASK.given(validation)), hourly(validation)
    network.fit({"X": hourly(train)}, {"X": shown, "X_ori": truth})
    filled = torch.as_tensor(network.impute({"X": hourly(TASK.given(test))})).reshape(len(test), HOURS + 1, 36)
    hours = test.times.round().long().clamp(max=HOURS)
    return filled[torch.arange(len(test))[:, None], hours].to(test.values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[12, 24, 36], help="numbers of factors to choose from")
    parser.add_argument("--noises", nargs="+", choices=list(NOISES), default=list(NOISES), help="to choose from")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rivals", nargs="*", choices=["SAITS", "BRITS"], default=[])
    options = parser.parse_args()
    train, validation, test = stays()
    print(f"stays {len(train)} / {len(validation)} / {len(test)}, hidden entries {int(TASK.scored(test).sum())}")
    choices = candidates(options.sizes, options.noises)
    best = next(iter(choices))
    if len(choices) > 1:
        chosen = ps.select(choices, train, method(options.steps), validation=validation, task=TASK, trainer=QUIET)
        print(chosen.table().round(4).to_string(index=False), flush=True)
        best = chosen.best
    rows: list[dict[str, Any]] = []

    def note(found: dict[str, Any]) -> None:
        rows.append(found)
        print(line(found), flush=True)
        (RESULTS / "physionet.json").write_text(json.dumps(rows, indent=1) + "\n")

    print(HEAD, flush=True)
    for name, values in ps.predict.evaluate.baselines(train, test, TASK).items():
        note(scores(name, values, None, test, 0.0))
    for seed in options.seeds:
        torch.manual_seed(seed)
        start = time.perf_counter()
        posterior = ps.fit(choices[best](), train, method(options.steps), seed=seed, trainer=QUIET)
        seconds = time.perf_counter() - start
        filled = ps.impute(posterior, TASK.given(test), num_samples=100, seed=seed)
        note(scores(f"{best}, seed {seed}", filled.mean, filled.samples, test, seconds))
        note(recalibrated(posterior, validation, test, f"the same, recalibrated, seed {seed}"))
    for name in options.rivals:
        for seed in options.seeds:
            start = time.perf_counter()
            values = rival(name, train, validation, test, seed)
            note(scores(f"{name}, seed {seed}", values, None, test, time.perf_counter() - start))


if __name__ == "__main__":
    main()
