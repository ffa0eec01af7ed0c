"""Scores of the study of ODE-LEBM: errors of predictions, and trivial predictors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import pyro_seq as ps
from benchmarks.studies._ode_lebm_tasks import Task
from pyro_seq import metrics
from pyro_seq.predict.energies import energies

# ---------------------------------------------------------------------- inference


def inferred(
    model: ps.ODELEBM,
    given: ps.Sequences,
    *,
    start: str,
    num_steps: int,
    num_chains: int,
    num_candidates: int = 1,
    seed: int = 0,
) -> Tensor:
    """Joint vectors (chain, series, latent) after so many Langevin steps from noise or the encoder's best draws."""
    if num_steps == 0:
        return ps.GuidePosterior(model).draws(given, num_chains, seed=seed)["initial"]
    kernel = ps.Langevin(start="guide", num_candidates=num_candidates) if start == "guide" else ps.Langevin()
    # a chain's only draw comes one step after its warm-up
    chains = ps.ChainPosterior(model, kernel, num_steps=num_steps - 1, num_chains=num_chains, spacing=1)
    return chains.draws(given, num_chains, seed=seed)["initial"]


def decoded(model: ps.ODELEBM, grid: ps.Sequences, latents: Tensor) -> ps.Prediction:
    """What the vectors (chain, series, latent) say at all times of `grid`, horizon included."""
    fixed = ps.StoredPosterior(model, grid.seen(), {"initial": latents[:, None]})
    count, size = len(latents), max(1, 2_000_000 // grid.values[0].numel() // len(grid))
    seen = ps.reconstruct(fixed, grid.seen(), num_samples=count, chunk_size=size)
    if not grid.horizon:
        return seen
    later = ps.forecast(fixed, grid, num_samples=count, chunk_size=size)
    parts = (
        torch.cat(pair, 2) for pair in ((seen.samples, later.samples), (seen.emission_means, later.emission_means))
    )
    return ps.Prediction(*parts, seen.latents, grid.times)


def errors(model: ps.ODELEBM, task: Task, latents: Tensor) -> dict[str, dict[str, float]]:
    """Mean squared errors by score and estimator: single chains, the mean of chains, their mean by joint density."""
    means = decoded(model, task.given, latents).emission_means
    found = energies(model, task.given, {"initial": latents})
    table = {}
    for name, mask in task.asked.items():
        table[name] = {
            "single chain": float(metrics.mse(means, task.truth, mask=mask).mean()),
            "mean of chains": float(metrics.mse(means.mean(0), task.truth, mask=mask)),
            "weighted by energy": float(metrics.mse(found.mean(means), task.truth, mask=mask)),
        }
    return table


# ---------------------------------------------------------------------- trivial predictors


def trivial(task: Task) -> dict[str, dict[str, float]]:
    """Errors of predictors that know nothing of dynamics."""
    predictions = {
        "training mean": training_mean(task.complete).expand_as(task.truth),
        "last value": last_value(task),
        "nearest training series": neighbour(task),
    }
    if task.truth.ndim == 3 and not task.given.horizon and task.has_grid:
        predictions["linear interpolation"] = interpolated(task.given)
    return {
        name: {score: float(metrics.mse(values, task.truth, mask=mask)) for score, mask in task.asked.items()}
        for name, values in predictions.items()
    }


def training_mean(train: ps.Sequences) -> Tensor:
    """The mean of each entry, (*obs,); 0 where it was never seen, as some measurements of few patients."""
    return train.values.sum((0, 1)) / train.entry_mask.sum((0, 1)).clamp(min=1)


def last_value(task: Task) -> Tensor:
    """The last seen value of each entry, carried on; the training mean before the first."""
    given = task.given
    seen = given.entry_mask
    steps = torch.arange(1, given.num_steps + 1).view(1, -1, *(1,) * len(given.obs_shape))
    last = (seen * steps).cummax(1).values
    values = given.values.gather(1, (last - 1).clamp(min=0)).where(last > 0, training_mean(task.complete))
    return torch.cat([values, values[:, -1:].expand(-1, given.horizon, *given.obs_shape)], 1)


def interpolated(given: ps.Sequences) -> Tensor:
    """Straight lines between the seen points of series of numbers, constant beyond them."""
    times, rows = given.times.expand(len(given), -1).numpy(), []
    for clock, values, seen in zip(times, given.values.numpy(), given.step_mask.numpy(), strict=True):
        columns = [np.interp(clock, clock[seen], column[seen]) for column in values.T]
        rows.append(np.stack(columns, -1))
    return torch.from_numpy(np.stack(rows)).to(given.values)


def neighbour(task: Task) -> Tensor:
    """The raw training series nearest to what is seen; where it ends, the one that begins most like its end."""
    if not task.has_grid:
        return hourly_neighbour(task)
    train, num_steps = task.complete, task.truth.shape[1]
    path = metrics.nearest_series(train, task.given.seen())
    overlap = train.num_steps // 2
    while path.shape[1] < num_steps:
        tail = ps.Sequences(path[:, -overlap:])
        path = torch.cat([path, metrics.nearest_series(train, tail)[:, overlap:]], 1)
    return path[:, :num_steps]


def hourly_neighbour(task: Task) -> Tensor:
    """The same for series with times of their own: compared hour by hour, and the mean where it was not measured."""
    train, given = (hourly(data) for data in (task.complete, task.given))
    filled = train.values.where(train.entry_mask, training_mean(task.complete))
    nearest = metrics.nearest_series(ps.Sequences(filled), given)
    hours = task.given.times.round().long().clamp(0, train.num_steps - 1)
    return nearest.gather(1, hours[..., None].expand(-1, -1, nearest.shape[-1]))


def hourly(data: ps.Sequences) -> ps.Sequences:
    """Values at whole hours 0 to 48 of a table with one row an hour at most."""
    hours = data.times.round().long()
    row = torch.where(data.step_mask, hours, 49)[..., None].expand_as(data.values)
    values = data.values.new_zeros(len(data), 50, *data.obs_shape).scatter(1, row, data.values)
    mask = torch.zeros_like(values, dtype=torch.bool).scatter(1, row, data.entry_mask)
    return ps.Sequences(values[:, :49], mask=mask[:, :49])
