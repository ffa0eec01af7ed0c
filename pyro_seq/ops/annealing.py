"""Annealed importance sampling: the normalising constant of a known density times a factor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq.errors import DataError
from pyro_seq.ops.langevin import MALA, LangevinState, initial_state, run, step

Function = Callable[[Tensor], Tensor]

_GAIN = 0.2  # of log step size per shortfall of the particles' mean acceptance


class LogPartition(NamedTuple):
    """An estimate of log Z for each target, ``(*target)`` throughout.

    Attributes:
        value: The estimate, from the base to the target. Its exponential is unbiased, so it tends to be below log Z.
        upper: The same from draws of the target back to the base: tends to be above log Z if those draws are good.
        error: Standard error of `value` over the particles, reliable if `effective_size` is not small.
        effective_size: Effective number of particles, from the weights.
    """

    value: Tensor
    upper: Tensor
    error: Tensor
    effective_size: Tensor


@torch.no_grad()
def annealed_log_partition(
    log_base: Function,
    energy: Function,
    start: Tensor,
    num_temperatures: int,
    generator: torch.Generator,
    *,
    sampler: MALA | None = None,
) -> LogPartition:
    r"""Estimate :math:`\log Z = \log \int e^{-E(z)} p_0(z)\, dz` by annealed importance sampling, in both directions.

    .. math::
        p_k \propto p_0\, e^{-\beta_k E}, \qquad
        \log w = -\sum_k (\beta_{k+1} - \beta_k)\, E(z_k), \qquad \hat Z = \overline{w}

    with one step of MALA at each inverse temperature :math:`\beta_k`, which rise quadratically from 0 to 1. Step sizes
    are adapted to the mean acceptance of the particles. The reverse run starts from resampled particles after
    `num_temperatures` steps at :math:`\beta = 1`. The two estimates agree if there are enough temperatures; a gap
    between them means there are too few.

    Cost: five gradients of the energy per temperature.

    Args:
        log_base: Normalised log density of the base, ``(particle, *target)``.
        energy: Energies ``(particle, *target)`` of values ``(particle, *target, dim)``.
        start: Independent draws of the base, ``(particle, *target, dim)``.
        num_temperatures: Steps from the base to the target.
        generator: Source of noise, on the device of `start`.
        sampler: Initial step size and target acceptance. Default: ``MALA(0.4)``.

    Returns:
        The estimates, ``(*target)``.

    References:
        Neal (2001), Annealed importance sampling.
        Grosse, Ghahramani, Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte Carlo.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> base = torch.distributions.Normal(torch.zeros(1, dtype=torch.float64), 1.0)
        >>> start = torch.randn(2000, 1, generator=generator, dtype=torch.float64)
        >>> log_base = lambda z: base.log_prob(z).sum(-1)
        >>> result = annealed_log_partition(log_base, lambda z: z.square().sum(-1), start, 50, generator)
        >>> bool((result.value + 0.5 * torch.tensor(3.0).log()).abs() < 0.05)
        True
    """
    sampler = MALA(0.4) if sampler is None else sampler
    whole_number(num_temperatures, "num_temperatures", 1)
    if start.ndim < 2 or len(start) < 2:
        raise DataError(f"`start` must be (particle, ..., dim) with two or more particles. Got {tuple(start.shape)}.")
    betas = [(k / num_temperatures) ** 2 for k in range(num_temperatures + 1)]
    forward, state = _anneal(log_base, energy, start, betas, generator, sampler, sampler.step_size)
    drawn = _resampled(state.value, forward, generator)
    whole = partial(_tempered, log_base, energy, 1.0)
    settled = run(whole, drawn, sampler, num_temperatures, generator, step_size=state.step_size[0]).state
    backward, _ = _anneal(log_base, energy, settled.value, betas[::-1], generator, sampler, state.step_size[0])
    size = (2 * forward.logsumexp(0) - (2 * forward).logsumexp(0)).exp()
    error = (1 / size - 1 / len(start)).clamp(min=0).sqrt()
    return LogPartition(_log_mean(forward), -_log_mean(backward), error, size)


def _anneal(
    log_base: Function,
    energy: Function,
    value: Tensor,
    betas: list[float],
    generator: torch.Generator,
    sampler: MALA,
    step_size: float | Tensor,
) -> tuple[Tensor, LangevinState]:
    """Log weights (particle, ...) of particles carried along the inverse temperatures, and their final positions."""
    log_weight = torch.zeros_like(energy(value))
    for beta, following in itertools.pairwise(betas):
        log_weight = log_weight - (following - beta) * energy(value)
        potential = partial(_tempered, log_base, energy, following)
        state = initial_state(potential, value, step_size)
        noise = torch.randn(value.shape, dtype=value.dtype, device=value.device, generator=generator)
        level = torch.rand(log_weight.shape, dtype=value.dtype, device=value.device, generator=generator)
        state = step(potential, state, sampler, noise, level)
        value = state.value
        step_size = state.step_size[0] * (_GAIN * (state.acceptance.mean(0) - sampler.target_accept)).exp()
    return log_weight, state


def _tempered(log_base: Function, energy: Function, beta: float, value: Tensor) -> Tensor:
    return beta * energy(value) - log_base(value)


def _resampled(value: Tensor, log_weight: Tensor, generator: torch.Generator) -> Tensor:
    """Particles (particle, ..., dim) drawn by their weights, separately for each target."""
    flat = log_weight.reshape(len(log_weight), -1).softmax(0).T
    index = torch.multinomial(flat, len(log_weight), replacement=True, generator=generator).T
    return value.gather(0, index.reshape(log_weight.shape)[..., None].expand_as(value))


def _log_mean(log_weight: Tensor) -> Tensor:
    return log_weight.logsumexp(0) - math.log(len(log_weight))
