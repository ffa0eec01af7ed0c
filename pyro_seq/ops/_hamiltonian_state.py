"""The state of Hamiltonian chains, and statistics of a step."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class HamiltonianState(NamedTuple):
    """Positions of the chains, with energy and gradient.

    Attributes:
        value: Positions, (chain, entry).
        energy: Potential there, (chain,).
        gradient: Gradient of the potential there, (chain, entry).
    """

    value: Tensor
    energy: Tensor
    gradient: Tensor


class HamiltonianStep(NamedTuple):
    """Statistics of a step.

    Attributes:
        acceptance: Probability of taking the end of the path, (chain,).
        hamiltonian: Potential plus kinetic energy at the start of the path, (chain,).
        is_divergent: Whether the Hamiltonian became non-finite or rose by more than 1000, (chain,).
        proposal: End of the path, (chain, entry).
        momentum: Momentum there, in units of the scale, (chain, entry).
        duration: Length of the path, in units of the scale.
        num_steps: Number of leapfrog steps.
    """

    acceptance: Tensor
    hamiltonian: Tensor
    is_divergent: Tensor
    proposal: Tensor
    momentum: Tensor
    duration: float
    num_steps: int
