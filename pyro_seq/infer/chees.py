"""``ChEES``: a kernel of ``MCMC`` whose Hamiltonian chains of all latents move as one batch and adapt together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_seq._arguments import keep_whole, require
from pyro_seq._random import mixed_seed
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.infer.chains import ChainRun, Chains, warn_of_interrupt
from pyro_seq.infer.joint_target import JointTarget
from pyro_seq.infer.starts import joint_starts
from pyro_seq.model import SequenceModel
from pyro_seq.ops._hamiltonian_scale import scale_of
from pyro_seq.ops.hamiltonian import HamiltonianState, HamiltonianStep, PathAdaptation, hamiltonian_step

_NOISE = 1  # stream of random numbers


@dataclass(frozen=True, kw_only=True)
class ChEES:
    """Hamiltonian Monte Carlo with many chains at once, which jointly adapt a shared path length.

    All chains form one batch of the model: a leapfrog step of 16 chains costs about one gradient, while `NUTS` runs one
    chain after another. They move all latents jointly, including shared ones, and adapt together in the warm-up: a
    diagonal or dense mass matrix to the spread of all draws, the path length to the distance moved (the ChEES
    criterion), and the step size to the acceptance rate. Use at least 8 chains, preferably 16 or more.

    Statistics are kept as ``posterior.sample_stats``, (chain, draw): `acceptance_rate`, `lp`, `energy`, `step_size`,
    `n_steps`, `diverging`.

    Args:
        target_accept: Target acceptance rate for the step size; closer to 1 for fewer divergences.
        full_mass: Adapt a dense mass matrix rather than a diagonal one.
        max_leapfrogs: Longest path, in leapfrog steps.

    Example:
        >>> method = MCMC(ChEES(), num_samples=500, warmup_steps=500, num_chains=16, start=guide)  # doctest: +SKIP

    References:
        Hoffman, Radul and Sountsov (2021), An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian Monte
        Carlo.
    """

    target_accept: float = 0.8
    full_mass: bool = False
    max_leapfrogs: int = 200

    def __post_init__(self) -> None:
        require(0.0 < self.target_accept < 1.0, "target_accept", "between 0 and 1", self.target_accept)
        keep_whole(self, 1, "max_leapfrogs")

    def chains(self, model: SequenceModel, data: Sequences, plan: ChainRun) -> Chains:
        """Run all chains."""
        if plan.num_chains < 2:
            raise DataError(
                f"`num_chains` must be at least 2 for `ChEES`, whose chains adapt to each other; 16 are a good number. "
                f"Got {plan.num_chains}. Raise it, or take `NUTS`."
            )
        target = JointTarget(model, data)
        state = joint_starts(target, plan)
        adaptation = PathAdaptation(
            self._first_scale(target, plan, state),
            plan.warmup_steps,
            target_accept=self.target_accept,
            is_dense=self.full_mass,
            most_leapfrogs=self.max_leapfrogs,
        )
        generator = torch.Generator().manual_seed(mixed_seed(plan.seed, _NOISE))
        for _ in tqdm(range(plan.warmup_steps), desc="warm-up", unit="step", disable=not plan.has_progress):
            before = state
            state, step = _moved(target, state, adaptation, generator)
            adaptation.update(before, state, step)
        rows: list[tuple[Tensor, ...]] = []
        try:
            for _ in tqdm(range(plan.num_samples), desc="draw", unit="step", disable=not plan.has_progress):
                state, step = _moved(target, state, adaptation, generator)
                size, count = (
                    torch.full_like(state.energy, number) for number in (adaptation.step_size, step.num_steps)
                )
                rows.append(
                    (state.value, step.acceptance, -state.energy, step.hamiltonian, size, count, step.is_divergent)
                )
        except KeyboardInterrupt:
            if not rows:
                raise
            warn_of_interrupt(plan.num_chains, len(rows), plan)
        draws, *columns = (torch.stack(column, 1) for column in zip(*rows, strict=True))
        names = ("acceptance_rate", "lp", "energy", "step_size", "n_steps", "diverging")
        return Chains(target.split(draws), target.shared, dict(zip(names, columns, strict=True)))

    def _first_scale(self, target: JointTarget, plan: ChainRun, state: HamiltonianState) -> Tensor:
        """Scale of the first steps: the spread of the fit that chains start from, else 1."""
        if plan.start is None:
            return torch.ones_like(state.value[0])
        return scale_of(target.join(plan.start), is_dense=self.full_mass)


def _moved(
    target: JointTarget, state: HamiltonianState, adaptation: PathAdaptation, generator: torch.Generator
) -> tuple[HamiltonianState, HamiltonianStep]:
    noise = torch.randn(state.value.shape, dtype=state.value.dtype, generator=generator).to(state.value.device)
    uniform = torch.rand(state.energy.shape, dtype=state.energy.dtype, generator=generator).to(state.energy.device)
    leapfrogs = adaptation.next_leapfrogs()
    return hamiltonian_step(target, state, adaptation.scale, adaptation.step_size, leapfrogs, noise, uniform)
