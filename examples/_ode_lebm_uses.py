"""What latents of `ode_lebm_langevin.py` are good for besides prediction: detection, description, generation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from _ode_lebm_scores import decoded
from _ode_lebm_tasks import Task
from torch import Tensor

import pyro_seq as ps
from pyro_seq import metrics
from pyro_seq.distributions.energy_drift import energy_drift
from pyro_seq.infer.energies import energies

Infer = Callable[[ps.Sequences], Tensor]  # series -> joint vectors (chain, series, latent)
MOST_TRAINED = 500  # training series whose latents a regression is fitted to


# ---------------------------------------------------------------------- detection


def shuffled(data: ps.Sequences, seed: int = 3) -> ps.Sequences:
    """The seen steps of each series in a random order, at the times of the others."""
    data = data.seen()
    generator = torch.Generator().manual_seed(seed)
    source = torch.arange(data.num_steps).repeat(len(data), 1)
    for row, is_seen in zip(source, data.step_mask, strict=True):
        steps = is_seen.nonzero()[:, 0]
        row[steps] = steps[torch.randperm(len(steps), generator=generator)]
    rows = torch.arange(len(data))[:, None]
    return ps.Sequences(data.values[rows, source], mask=data.mask[rows, source], times=data.times)


def roughness(data: ps.Sequences) -> Tensor:
    """Mean squared difference of a seen step and the one before it, (series,): a detector that needs no model."""
    scores = []
    for values, is_seen in zip(data.values, data.step_mask, strict=True):
        scores.append(values[is_seen].diff(dim=0).square().mean() if is_seen.sum() > 1 else values.new_zeros(()))
    return torch.stack(scores)


def detection(model: ps.ODELEBM, task: Task, infer: Infer) -> dict[str, float]:
    """Area under the curve of energies at inferred latents, for test series with shuffled steps against the others."""
    usual, strange = task.given.seen(), shuffled(task.given)
    scores = {}
    for name, data in (("usual", usual), ("strange", strange)):
        found = energies(model, data, {"initial": infer(data)})
        parts = {"prior energy": found.prior, "joint energy": found.joint, "misfit": found.joint - found.prior}
        scores[name] = {key: value.mean(0) for key, value in parts.items()} | {"roughness, no model": roughness(data)}
    return {f"AUROC, {key}": metrics.auroc(scores["usual"][key], scores["strange"][key]) for key in scores["usual"]}


# ---------------------------------------------------------------------- description


def part(model: ps.ODELEBM, latents: Tensor, site: str) -> Tensor:
    """The mean over chains of a part of the joint vector, (series, entry)."""
    state = model.flow.state_dim
    parts = {"initial": slice(0, None), "static": slice(state, state + model.static_dim)}
    parts["dynamic"] = slice(state + model.static_dim, None)
    return latents.mean(0)[:, parts[site]]


def description(model: ps.ODELEBM, task: Task, infer: Infer) -> dict[str, float]:
    """What a part of the latents tells of what the series were made from."""
    if task.target is None:
        return {}
    site, name = task.target
    latents, truth = infer(task.given.seen()), task.test.context[name]
    if name == "label":
        raw = task.given.seen().values.mean(1).flatten(1)
        return {
            f"NMI, {site} part": metrics.cluster_nmi(part(model, latents, site), truth),
            "NMI, whole vector": metrics.cluster_nmi(latents.mean(0), truth),
            "NMI, mean image": metrics.cluster_nmi(raw, truth),
        }
    few = task.complete[:MOST_TRAINED]
    fitted = infer(task.train[:MOST_TRAINED])
    known = few.context[name]
    return {
        f"R2 of {name}, {kind}": metrics.linear_r2(part(model, fitted, kind), known, part(model, latents, kind), truth)
        for kind in dict.fromkeys((site, "initial"))
    }


# ---------------------------------------------------------------------- generation


def prior_draws(model: ps.ODELEBM, grid: ps.Sequences, num_steps: int | None, seed: int = 4) -> Tensor:
    """Vectors (series, latent) from the prior, by chains of so many steps under an energy."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(len(grid), model.dim, generator=generator)
    if model.energy is None:
        return start
    return model.prior(grid).run(start, num_steps, generator=generator).state.value


def distance(left: Tensor, right: Tensor) -> float:
    """Mean over series on the left of the mean squared difference to the nearest on the right."""
    nearest = metrics.nearest_series(ps.Sequences(right), ps.Sequences(left))
    return float(metrics.mse(nearest, left))


def generation(model: ps.ODELEBM, task: Task, latents: Tensor) -> dict[str, float]:
    """Decoded draws of the prior beside unseen series, and prior chains beside posterior draws `latents`.

    A good prior has both distances near those of real training series; ten times longer chains change nothing.
    """
    if not task.has_grid:
        return {}
    grid = task.test.first(min(task.complete.num_steps, task.test.num_steps))
    real, trained = grid.values, task.complete.values[:, : grid.num_steps]
    scores = {
        "unseen to nearest training series": distance(real, trained),
        "training series to nearest unseen": distance(trained, real),
    }
    count = None if model.energy is None else model.energy.num_steps
    lengths = {"": count} if count is None else {"": count, ", 10 times longer chains": 10 * count}
    scores["posterior: |z|"] = float(latents.norm(dim=-1).mean())
    for note, num_steps in lengths.items():
        vectors = prior_draws(model, grid, num_steps)
        drawn = decoded(model, grid, vectors[None]).means[0]
        scores |= {
            f"draw of the prior to nearest unseen{note}": distance(drawn, real),
            f"unseen to nearest draw of the prior{note}": distance(real, drawn),
            f"prior: |z|{note}": float(vectors.norm(dim=-1).mean()),
        }
        if model.energy is not None:
            drift = energy_drift(model.energy, latents, vectors, loc=0.0, scale=1.0)
            scores |= {f"energy gap{note}": drift.gap, f"largest deviation{note}": drift.deviation}
    return scores
