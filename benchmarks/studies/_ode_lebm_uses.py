"""What latents of the study of ODE-LEBM are good for besides prediction: detection, description, generation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import pyro_seq as ps
from benchmarks.studies._ode_lebm_scores import decoded
from benchmarks.studies._ode_lebm_tasks import Task, energy_of
from pyro_seq import metrics
from pyro_seq.distributions.energy_drift import energy_drift
from pyro_seq.predict.energies import energies

Infer = Callable[[ps.Sequences], Tensor]  # series -> joint vectors (chain, series, latent)
MOST_CHAINS = 8  # of a series; predictions may take more
MOST_TRAINED = 300  # training series whose latents a regression or a Gaussian is fitted to


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


def detection(model: ps.ODELEBM, task: Task, infer: Infer, latents: Tensor) -> dict[str, float]:
    """Area under the curve of energies at inferred latents, for test series with shuffled steps against the others."""
    usual, strange = task.given.seen(), shuffled(task.given)
    scores = {}
    for name, data, drawn in (("usual", usual, latents), ("strange", strange, infer(strange))):
        found = energies(model, data, {"initial": drawn})
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


def description(model: ps.ODELEBM, task: Task, latents: Tensor, trained: Tensor) -> dict[str, float]:
    """What a part of the latents tells of what the series were made from."""
    if task.target is None:
        return {}
    site, name = task.target
    truth = task.test.context[name]
    if name == "label":
        raw = task.given.seen().values.mean(1).flatten(1)
        return {
            f"NMI, {site} part": metrics.cluster_nmi(part(model, latents, site), truth),
            "NMI, whole vector": metrics.cluster_nmi(latents.mean(0), truth),
            "NMI, mean image": metrics.cluster_nmi(raw, truth),
        }
    known = task.complete.context[name][: trained.shape[1]]
    return {
        f"R2 of {name}, {kind}": metrics.linear_r2(part(model, trained, kind), known, part(model, latents, kind), truth)
        for kind in dict.fromkeys((site, "initial"))
    }


# ---------------------------------------------------------------------- generation


def prior_draws(model: ps.ODELEBM, grid: ps.Sequences, num_steps: int | None, seed: int = 4) -> Tensor:
    """Vectors (series, latent) from the prior, by chains of so many steps under an energy."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(len(grid), model.dim, generator=generator)
    if energy_of(model) is None:
        return start
    return model.prior(grid).run(start, num_steps, generator=generator).state.value


def distance(left: Tensor, right: Tensor) -> float:
    """Mean over series on the left of the mean squared difference to the nearest on the right."""
    nearest = metrics.nearest_series(ps.Sequences(right), ps.Sequences(left))
    return float(metrics.mse(nearest, left))


def sources(model: ps.ODELEBM, grid: ps.Sequences, trained: Tensor, seed: int = 5) -> dict[str, Tensor]:
    """Vectors (series, latent) to decode: of the prior in several ways, and of two rivals that need no energy."""
    generator = torch.Generator().manual_seed(seed)
    found = {"prior": prior_draws(model, grid, None)}
    if energy_of(model) is not None:
        found["prior, 10 times longer chains"] = prior_draws(model, grid, 10 * energy_of(model).num_steps)
        pool = energy_of(model).chains.values[energy_of(model).chains.is_started]
        if len(pool):
            found["prior, pool of training"] = pool[torch.randint(len(pool), (len(grid),), generator=generator)]
    flat = trained.flatten(0, 1)
    if len(flat) > model.dim:
        factor = torch.linalg.cholesky(flat.T.cov() + 1e-6 * torch.eye(model.dim))
        noise = torch.randn(len(grid), model.dim, generator=generator)
        found["Gaussian fitted to posterior draws"] = flat.mean(0) + noise @ factor.T
    return found | {"posterior of training series": flat[: len(grid)]}


def generation(model: ps.ODELEBM, task: Task, latents: Tensor, trained: Tensor) -> dict[str, float]:
    """Decoded draws of the prior beside unseen series, and prior chains beside posterior draws.

    A good prior has both distances near those of real training series; ten times longer chains change nothing.
    """
    if not task.has_grid:
        return {}
    grid = task.test.first(min(task.complete.num_steps, task.test.num_steps))
    real, real_trained = grid.values, task.complete.values[:, : grid.num_steps]
    scores = {
        "nearest unseen to a training series": distance(real_trained, real),
        "nearest training series to an unseen": distance(real, real_trained),
    }
    for name, vectors in sources(model, grid, trained).items():
        drawn = decoded(model, grid[: len(vectors)], vectors[None]).emission_means[0]
        scores |= {
            f"{name}: nearest unseen to a draw": distance(drawn, real),
            f"{name}: nearest draw to an unseen": distance(real, drawn),
            f"{name}: |z|": float(vectors.norm(dim=-1).mean()),
        }
        if energy_of(model) is not None and name.startswith("prior"):
            drift = energy_drift(energy_of(model), latents, vectors, loc=0.0, scale=1.0)
            scores |= {f"{name}: energy gap": drift.gap, f"{name}: largest deviation": drift.deviation}
    return scores
