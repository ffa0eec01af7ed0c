"""ODE2VAE the plain way: a trace by reverse passes inside the right-hand side, and a loop over the trajectories."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torchdiffeq import odeint

Solve = Callable[..., tuple[Tensor, Tensor]]


def three_eighths(function: Callable, state: tuple[Tensor, Tensor], times: Tensor) -> tuple[Tensor, Tensor]:
    """The 3/8 rule, which is what torchdiffeq 0.2.5 calls ``rk4``; (time, ...) each."""
    return odeint(function, state, times, method="rk4")


def classical(function: Callable, state: tuple[Tensor, Tensor], times: Tensor) -> tuple[Tensor, Tensor]:
    """The classical rule, one step an interval: the library's own, for comparisons to rounding error."""
    paths = ([state[0]], [state[1]])
    for start, end in itertools.pairwise(times):
        step, slopes = end - start, []
        for node in (0.0, 0.5, 0.5, 1.0):
            point = tuple(y + node * step * k for y, k in zip(state, slopes[-1], strict=True)) if slopes else state
            slopes.append(function(start + node * step, point))
        state = tuple(y + step / 6 * (a + 2 * b + 2 * c + d) for y, a, b, c, d in zip(state, *slopes, strict=True))
        for path, value in zip(paths, state, strict=True):
            path.append(value)
    return torch.stack(paths[0]), torch.stack(paths[1])


class AugmentedField:
    r"""Right-hand side of (z, log q): z' = (v, f(z)), log q' = - tr df/dv, the trace by one reverse pass an output.

    Args:
        weights: Flat weights (weight,), layer by layer, matrix before bias.
        sizes: Sizes of the layers.
    """

    def __init__(self, weights: Tensor, sizes: Sequence[int]) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []
        for size_in, size_out in itertools.pairwise(sizes):
            weight, weights = weights.tensor_split([size_in * size_out])
            bias, weights = weights.tensor_split([size_out])
            self.layers.append((weight.view(size_out, size_in), bias))

    def __call__(self, _: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            position, velocity = state[0].chunk(2, -1)
            velocity = velocity if velocity.requires_grad else velocity.requires_grad_()
            hidden = torch.cat([position, velocity], -1)
            for weight, bias in self.layers[:-1]:
                hidden = torch.tanh(nn.functional.linear(hidden, weight, bias))
            rate = nn.functional.linear(hidden, *self.layers[-1])
            trace = torch.zeros_like(state[1])
            for i in range(rate.shape[-1]):
                (row,) = torch.autograd.grad(rate[:, i].sum(), velocity, create_graph=True)
                trace = trace + row[:, i]
        return torch.cat([velocity, rate], -1), -trace


def trajectories(
    weights: Tensor, sizes: Sequence[int], initial: Tensor, log_initial: Tensor, times: Tensor, solve: Solve
) -> tuple[Tensor, Tensor]:
    """Paths and their log densities by a loop over the draws of the field.

    Args:
        weights: (draw, weight).
        sizes: Sizes of the field's layers.
        initial: (series, state), shared by all draws.
        log_initial: (series,).
        times: (time,).
        solve: `three_eighths` or `classical`.

    Returns:
        (draw, series, time, state) and (draw, series, time).
    """
    paths, densities = [], []
    for draw in weights:
        path, density = solve(AugmentedField(draw, sizes), (initial, log_initial), times)
        paths.append(path.transpose(0, 1))
        densities.append(density.transpose(0, 1))
    return torch.stack(paths), torch.stack(densities)


class Parts(NamedTuple):
    """All that is trained.

    Attributes:
        encoder: Images (batch, 1, 28, 28) to mean and log standard deviation of the state.
        decoder: Positions (batch, dim) to logits of images.
        loc: Mean of the field's weights.
        log_scale: Log standard deviation of the field's weights.
    """

    encoder: nn.Module
    decoder: nn.Module
    loc: nn.Parameter
    log_scale: nn.Parameter


def training_loss(parts: Parts, sizes: Sequence[int], images: Tensor, total: int, solve: Solve) -> Tensor:
    """Negative bound a series, with the path's divergence and the distance to the instant encoder; one draw.

    Args:
        parts: Networks and the field's posterior.
        sizes: Sizes of the field's layers.
        images: (series, time, 1, 28, 28).
        total: Number of series in the training set.
        solve: `three_eighths` or `classical`.
    """
    num_series, num_steps = images.shape[:2]
    field = Normal(parts.loc, parts.log_scale.exp())
    weights = field.rsample()
    loc, log_scale = parts.encoder(images[:, 0])
    start = Normal(loc, log_scale.exp())
    initial = start.rsample()
    times = 0.1 * torch.arange(num_steps, dtype=images.dtype)
    paths, densities = trajectories(weights[None], sizes, initial, start.log_prob(initial).sum(-1), times, solve)
    path, log_density = paths[0], densities[0]
    logits = parts.decoder(path[..., : sizes[-1]].flatten(0, 1)).view_as(images)
    # the logarithm of a sigmoid, as in the public code, is infinite in float32 at the logits of untrained networks
    cross_entropy = nn.functional.binary_cross_entropy_with_logits(logits, images, reduction="none")
    log_likelihood = -cross_entropy.flatten(1).sum(-1)
    prior = Normal(torch.zeros_like(loc), 1.0)
    divergence = kl_divergence(start, prior).sum(-1)
    log_prior = Normal(torch.zeros_like(path), 1.0).log_prob(path).sum(-1)
    path_divergence = (log_density - log_prior)[:, 1:].sum(-1)
    loc, log_scale = parts.encoder(images.flatten(0, 1))
    opinion = Normal(loc, log_scale.exp()).log_prob(path.flatten(0, 1)).sum(-1).view(num_series, num_steps)
    distance = (log_density - opinion).sum(-1)
    field_divergence = kl_divergence(field, Normal(torch.zeros_like(parts.loc), 1.0)).sum()
    return (divergence + path_divergence + distance - log_likelihood).mean() + field_divergence / total
