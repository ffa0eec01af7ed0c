r"""Hamiltonian steps of many chains at once, with joint adaptation: ChEES-HMC.

A target over vectors x has the density :math:`\pi(x) \propto e^{-U(x)}`. With L the scale of its directions and
:math:`x = L u`, a path of n leapfrog steps of size :math:`\varepsilon` starts with a momentum
:math:`p \sim \mathcal N(0, I)`,

.. math::
    p \leftarrow p - \tfrac\varepsilon2 L^\top \nabla U(x), \qquad x \leftarrow x + \varepsilon L p, \qquad
    p \leftarrow p - \tfrac\varepsilon2 L^\top \nabla U(x),

and its end is accepted with the probability :math:`\min(1, e^{H - H'})`, :math:`H = U(x) + \tfrac12 p^\top p`. The mass
matrix, in other texts, is :math:`(L L^\top)^{-1}`. All chains take the same number of steps, so that one gradient of
the whole batch moves all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_seq.errors import ShapeError
from pyro_seq.ops._hamiltonian_adaptation import PathAdaptation
from pyro_seq.ops._hamiltonian_scale import across, along
from pyro_seq.ops._hamiltonian_state import HamiltonianState, HamiltonianStep
from pyro_seq.ops._langevin_state import Potential, all_finite, energy_and_gradient

__all__ = ["HamiltonianState", "HamiltonianStep", "PathAdaptation", "hamiltonian_state", "hamiltonian_step"]

HIGHEST_RISE = 1000.0  # of the Hamiltonian along a path; above it, the path diverged (as in Stan and Pyro)


def hamiltonian_state(potential: Potential, value: Tensor) -> HamiltonianState:
    """Evaluate the potential at the start of chains; the energy or gradient of some may not be finite."""
    return HamiltonianState(value.detach(), *energy_and_gradient(potential, value))


@torch.no_grad()
def hamiltonian_step(
    potential: Potential,
    state: HamiltonianState,
    scale: Tensor,
    step_size: float,
    num_steps: int,
    noise: Tensor,
    uniform: Tensor,
) -> tuple[HamiltonianState, HamiltonianStep]:
    """Take one path with every chain, with random numbers drawn by the caller.

    Cost: `num_steps` calls of the potential and its gradient, each of all chains.

    Args:
        potential: Energies (chain,) of vectors (chain, entry), the one used for the state.
        state: State of the chains.
        scale: Scale of each direction: standard deviations (entry,), or a lower triangular matrix (entry, entry).
        step_size: Size of a leapfrog step, in units of the scale.
        num_steps: Leapfrog steps, at least 1. May be random, but must not depend on the state.
        noise: Standard normal, (chain, entry).
        uniform: Uniform on [0, 1), (chain,).

    Returns:
        The next state, and statistics of the step.

    Raises:
        ShapeError: If the random numbers do not fit the state.

    Example:
        >>> potential = lambda x: 0.5 * x.square().sum(-1)
        >>> state = hamiltonian_state(potential, torch.zeros(8, 3))
        >>> state, step = hamiltonian_step(potential, state, torch.ones(3), 0.5, 4, torch.randn(8, 3), torch.rand(8))
        >>> state.value.shape, bool((step.acceptance > 0.5).all())
        (torch.Size([8, 3]), True)
    """
    for name, given, like in (("noise", noise, state.value), ("uniform", uniform, state.energy)):
        if given.shape != like.shape:
            raise ShapeError(f"`{name}` must have the shape {tuple(like.shape)}. Got {tuple(given.shape)}.")
    start = state.energy + 0.5 * noise.square().sum(-1)
    end, momentum = _path(potential, state, scale, step_size, num_steps, noise)
    rise = end.energy + 0.5 * momentum.square().sum(-1) - start
    is_divergent = ~(all_finite(rise, end.value, end.gradient) & (rise < HIGHEST_RISE))
    acceptance = torch.where(is_divergent, 0.0, (-rise).exp().clamp(max=1.0))
    is_taken = uniform < acceptance
    taken = [torch.where(_like(is_taken, new), new, old) for new, old in zip(end, state, strict=True)]
    step = HamiltonianStep(acceptance, start, is_divergent, end.value, momentum, step_size * num_steps, num_steps)
    return HamiltonianState(*taken), step


def _path(
    potential: Potential, state: HamiltonianState, scale: Tensor, step_size: float, num_steps: int, momentum: Tensor
) -> tuple[HamiltonianState, Tensor]:
    """End of a leapfrog path, and the momentum there."""
    for _ in range(num_steps):
        momentum = momentum - 0.5 * step_size * across(scale, state.gradient)
        state = hamiltonian_state(potential, state.value + step_size * along(scale, momentum))
        momentum = momentum - 0.5 * step_size * across(scale, state.gradient)
    return state, momentum


def _like(per_chain: Tensor, other: Tensor) -> Tensor:
    return per_chain.reshape(len(per_chain), *[1] * (other.ndim - 1))
