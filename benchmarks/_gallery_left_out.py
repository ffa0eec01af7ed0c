"""Pictures of leaving out: the Nile by a local level, whose two parameters a grid holds, so that all is known exactly.

Leave-one-out and leave-future-out densities by importance weights (PSIS) from draws of the posterior, beside the
integrals over the grid that they stand for.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import arviz as az
import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch import Tensor

import pyro_seq as ps
from pyro_seq import _style as style
from pyro_seq.diagnostics.arviz import container
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.nn.components import Level
from pyro_seq.ops.kalman import leave_one_out_log_density

NUM_CHAINS, NUM_DRAWS = 4, 500  # of the posterior on the grid, independent of each other
HIGH_K = 0.7  # above, importance weights are not to be trusted
FIRST = 30  # years that the first forecast knows
BOUNDS = (-1.5, 0.15), (0.9, 0.75), (49, 37)  # lower, upper, sizes of the grid, in coordinates


class Grid(NamedTuple):
    """The posterior of two parameters on a grid, and what is said of each year.

    Attributes:
        path: Law of the series at each point, batch (point, 1).
        values: The series, (1, time, 1).
        prior: Log density of the prior, (point,), up to a constant.
        others: Log density of each year given all others, (point, time).
        past: The same given those before, 0 at the first, (point, time); it adds up to the log likelihood.
    """

    path: LinearGaussian
    values: Tensor
    prior: Tensor
    others: Tensor
    past: Tensor

    @property
    def log_posterior(self) -> Tensor:
        """Up to a constant, (point,)."""
        return self.prior + self.past.sum(-1)


@torch.no_grad()
def nile_grid() -> Grid:
    """Filter and smoother at all points."""
    years = ps.datasets.nile()
    data = ps.Sequences(years.values.double(), times=years.times)
    model = ps.StructuralSeries(Level()).double()
    model.take_units(data)
    axes = (torch.linspace(*ends, dtype=torch.float64) for ends in zip(*BOUNDS, strict=True))
    coordinates = torch.cartesian_prod(*axes)
    path = model.path(coordinates[:, None], data)
    arguments = path._arguments(data.values)
    others = leave_one_out_log_density(*arguments[:2], path.smooth(data.values), arguments[2])[:, 0]
    moments, (values, parameters, _) = path.filter(data.values), arguments
    ahead = torch.distributions.Normal(
        moments.predicted_means[..., 0],
        (moments.predicted_covs[..., 0, 0] + parameters.observation_cov[..., 0, 0]).sqrt(),
        validate_args=False,
    )
    past = torch.cat([torch.zeros_like(others[:, :1]), ahead.log_prob(values[..., 0])[:, 0, 1:]], -1)
    return Grid(path, data.values, -0.5 * coordinates.square().sum(-1), others, past)


def exact_left_out(grid: Grid) -> Tensor:
    r"""Log density of each year given all others, (time,): :math:`\int p(y_t | y_{-t}, \theta) p(\theta | y_{-t})`."""
    without = grid.log_posterior[:, None] - grid.others
    return grid.log_posterior.logsumexp(0) - without.logsumexp(0)


def exact_ahead(grid: Grid) -> Tensor:
    """Log density of each year given those before, (time,), 0 at the first."""
    known = (grid.prior[:, None] + grid.past.cumsum(-1)).logsumexp(0)
    return known.diff(prepend=grid.prior.logsumexp(0)[None])


def draws_of(log_density: Tensor, seed: int, count: int = NUM_CHAINS * NUM_DRAWS) -> Tensor:
    """Points of the grid, drawn independently, (draw,)."""
    generator = torch.Generator().manual_seed(seed)
    return log_density.softmax(0).multinomial(count, replacement=True, generator=generator)


def by_arviz(log_likelihood: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """PSIS-LOO of ArviZ: the log density of each unit when it is left out, and its Pareto k."""
    array = log_likelihood.unflatten(0, (NUM_CHAINS, -1)).numpy()
    whole = {"log_likelihood": xr.Dataset({"x": (("chain", "draw", "year"), array)})}
    whole["posterior"] = xr.Dataset({"theta": (("chain", "draw"), array[..., 0])})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large k, which is what is shown
        found = az.loo(container(whole), pointwise=True, reff=1.0)  # draws are independent
    values = found["loo_i"] if "loo_i" in found else found["elpd_i"]
    return np.asarray(values), np.asarray(found["pareto_k"])


@torch.no_grad()
def likelihoods(grid: Grid, draws: Tensor, seed: int) -> dict[str, Tensor]:
    """Three log densities of each year that one might hand over, (draw, time)."""
    one = grid.path.parameters
    parameters = one._replace(
        **{
            name: getattr(one, name)[draws]
            for name in ("transition_cov", "observation_cov")
            if len(getattr(one, name)) > 1
        }
    )
    path = LinearGaussian(parameters, grid.path.num_steps, batch_shape=torch.Size((len(draws), 1)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        levels = path.sample_states(grid.values.expand(len(draws), -1, -1, -1), 1)[0, :, 0, :, 0]
    noise = parameters.observation_cov[..., 0, 0].sqrt().reshape(-1, 1)
    return {
        "given all other years": grid.others[draws],
        "given its level": torch.distributions.Normal(levels, noise).log_prob(grid.values[0, :, 0]),
        "given the past": grid.past[draws],  # of the first year nothing
    }


def plot_left_out() -> Figure:
    """Errors of three PSIS-LOO estimates of each year, and their Pareto k."""
    grid = nile_grid()
    exact = exact_left_out(grid).numpy()
    years = 1871 + np.arange(len(exact))
    figure = style.new_figure(7.6, 2.6)
    errors, shapes = figure.subplots(1, 2)
    for (name, density), colour in zip(
        likelihoods(grid, draws_of(grid.log_posterior, 1), 2).items(), style.SERIES, strict=False
    ):
        first = int(bool((density[:, 0] == 0).all()))
        found, high = by_arviz(density[:, first:])
        off = found - exact[first:]
        errors.plot(
            years[first:], off, ".", color=colour, markersize=3.5, label=f"{name}: off by {off.sum():.2f} in all"
        )
        shapes.plot(years[first:], high, ".", color=colour, markersize=3.5)
    errors.axhline(0, color=style.TRUTH, linewidth=0.8)
    shapes.axhline(HIGH_K, color=style.TRUTH, linewidth=0.8, linestyle=(0, (4, 3)))
    errors.set_ylim(top=2.6)
    style.tidy(errors, title=f"LOO of a year, less the exact one ({exact.sum():.1f} in all)", x="year", y="nats")
    style.tidy(shapes, title="Pareto k", x="year")
    style.add_legend(errors, loc="upper center", ncols=1)
    return figure


class Ahead(NamedTuple):
    """Leave-future-out by importance weights, of the years from `FIRST` on: log densities, Pareto k, and the refits."""

    density: np.ndarray
    shapes: np.ndarray
    refits: list[int]


def ahead_by_weights(grid: Grid, seed: int) -> Ahead:
    """Each year given those before, from draws given more years, the last first; drawn anew where k is high."""
    until = grid.past.shape[-1]
    draws = draws_of(grid.log_posterior, seed)
    density, shapes, refits = [], [], []
    for year in reversed(range(FIRST, until)):
        weights, shape = psis(-grid.past[draws, year:until].sum(-1))
        if shape > HIGH_K:
            until, draws = year, draws_of(grid.prior + grid.past[:, :year].sum(-1), seed + year)
            weights = torch.full((len(draws),), -math.log(len(draws)), dtype=torch.float64)
            refits.append(year)
        density.append(float((weights + grid.past[draws, year]).logsumexp(0)))
        shapes.append(shape)
    return Ahead(np.array(density[::-1]), np.array(shapes[::-1]), refits)


def psis(log_ratios: Tensor) -> tuple[Tensor, float]:
    """Smoothed log weights that add up to 1, and their Pareto k."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights, shape = az.psislw(log_ratios.numpy())
    return torch.as_tensor(weights), float(shape)


def plot_future_left_out() -> Figure:
    """Each year given the past, exactly and by weights with their Pareto k; and beside leave-one-out."""
    grid = nile_grid()
    exact, left_out, found = exact_ahead(grid).numpy(), exact_left_out(grid).numpy(), ahead_by_weights(grid, 3)
    years = 1871 + np.arange(len(exact))
    figure = style.new_figure(7.6, 2.6)
    shapes, scores = figure.subplots(1, 2)
    shapes.plot(years[FIRST:], found.shapes, ".-", color=style.MODEL, markersize=3, linewidth=0.7, label="Pareto k")
    shapes.axhline(HIGH_K, color=style.TRUTH, linewidth=0.8, linestyle=(0, (4, 3)))
    for number, year in enumerate(found.refits):
        shapes.axvline(1871 + year, color=style.ACCENT, linewidth=0.9, label=None if number else "fitted anew")
    count = 1 + len(found.refits)
    style.tidy(shapes, title=f"{count} fits for {len(found.density)} forecasts, from the last year back", x="year")
    style.add_legend(shapes, loc="lower left", ncols=2)
    scores.plot(years[FIRST:], np.cumsum(left_out[FIRST:] - exact[FIRST:]), color=style.ACCENT, label="leave one out")
    scores.plot(
        years[FIRST:],
        np.cumsum(found.density - exact[FIRST:]),
        color=style.MODEL,
        label="leave the future out, by weights",
    )
    scores.axhline(0, color=style.TRUTH, linewidth=0.8)
    style.tidy(scores, title="log density of the years, summed, less that of forecasts", x="year", y="nats")
    style.add_legend(scores, loc="upper left")
    return figure
