"""Where Hamiltonian chains are, and what a step says of itself."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class HamiltonianState(NamedTuple):
    """Where the chains are.

    Attributes:
        value: Positions, (chain, entry).
        energy: Potential there, (chain,).
        gradient: Gradient of the potential there, (chain, entry).
    """

    value: Tensor
    energy: Tensor
    gradient: Tensor


class HamiltonianStep(NamedTuple):
    """What a step says of itself.

    Attributes:
        acceptance: Probability of taking the end of the path, (chain,).
        hamiltonian: Energy and kinetic energy at the start of the path, (chain,).
        is_divergent: Where the Hamiltonian left the finite numbers or rose by more than 1000, (chain,).
        proposal: End of the path, (chain, entry).
        momentum: Momentum there, in units of the scale, (chain, entry).
        duration: Length of the path, in units of the scale.
        num_steps: Leapfrog steps that it took.
    """

    acceptance: Tensor
    hamiltonian: Tensor
    is_divergent: Tensor
    proposal: Tensor
    momentum: Tensor
    duration: float
    num_steps: int
