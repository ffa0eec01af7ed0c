"""``MCMC``: draws from the exact posterior of the latents, by Pyro's Hamiltonian kernels or by Langevin chains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol

import pyro
import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from pyro.ops.integrator import register_exception_handler
from torch import Tensor

from pyro_seq._arguments import keep_whole
from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, NumericalError, UnsupportedError
from pyro_seq.infer.chains import ChainRun, Chains, global_names, latent_sites, require_whole
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import StoredPosterior, reading
from pyro_seq.training.trainer import Trainer

# a path that runs to where a model breaks down is rejected, as Pyro does for singular matrices
register_exception_handler("pyro_seq", lambda error: isinstance(error, NumericalError), warn_on_overwrite=False)


class Kernel(Protocol):
    """Options of a transition kernel, and how its chains are run."""

    def chains(self, model: SequenceModel, data: Sequences, plan: ChainRun) -> Chains:
        """Run all chains on a model whose parameters are frozen."""
        ...


@dataclass(frozen=True, kw_only=True)
class NUTS:
    """The no-U-turn sampler: Hamiltonian paths that end by themselves, with steps adapted in the warm-up.

    One joint path moves all series, so its cost is that of the stiffest one: up to 2^max_tree_depth gradients a draw.

    Args:
        target_accept: Acceptance that the step size is adapted to; nearer 1 for fewer divergences.
        max_tree_depth: Largest number of doublings of a path.
        full_mass: Adapt a dense mass matrix rather than a diagonal one.

    References:
        Hoffman and Gelman (2014), The no-U-turn sampler.
    """

    target_accept: float = 0.8
    max_tree_depth: int = 10
    full_mass: bool = False

    def __post_init__(self) -> None:
        _require_probability("target_accept", self.target_accept)
        keep_whole(self, 1, "max_tree_depth")

    def build(self, model: SequenceModel) -> MCMCKernel:
        """The kernel, for one chain."""
        return pyro.infer.NUTS(
            model.model,
            target_accept_prob=self.target_accept,
            max_tree_depth=self.max_tree_depth,
            full_mass=self.full_mass,
            max_plate_nesting=1,
        )

    def chains(self, model: SequenceModel, data: Sequences, plan: ChainRun) -> Chains:
        """Run joint chains, one after another."""
        return _joint_chains(self.build, model, data, plan)


@dataclass(frozen=True, kw_only=True)
class HMC:
    """Hamiltonian Monte Carlo with paths of fixed length and steps adapted in the warm-up.

    Args:
        path_length: Length of a path in the unit of the adapted scale, 2 pi being a full turn; Pyro's when absent.
        target_accept: Acceptance that the step size is adapted to.
        full_mass: Adapt a dense mass matrix rather than a diagonal one.

    References:
        Neal (2011), MCMC using Hamiltonian dynamics.
    """

    path_length: float | None = None
    target_accept: float = 0.8
    full_mass: bool = False

    def __post_init__(self) -> None:
        _require_probability("target_accept", self.target_accept)
        if self.path_length is not None and not self.path_length > 0:
            raise DataError(f"`path_length` must be positive. Got {self.path_length!r}.")

    def build(self, model: SequenceModel) -> MCMCKernel:
        """The kernel, for one chain."""
        return pyro.infer.HMC(
            model.model,
            trajectory_length=self.path_length,
            target_accept_prob=self.target_accept,
            full_mass=self.full_mass,
            max_plate_nesting=1,
        )

    def chains(self, model: SequenceModel, data: Sequences, plan: ChainRun) -> Chains:
        """Run joint chains, one after another."""
        return _joint_chains(self.build, model, data, plan)


@dataclass(frozen=True)
class MCMC:
    """Sample all latents, global ones included, given the model's parameters as they are.

    Exact up to Monte Carlo error, and without a guide; but it runs on the whole data set, says nothing about other
    series, and does not train: networks keep the weights they have. `NUTS` and `HMC` move all latents jointly, one
    chain after another; `Langevin` runs chains of every series' own latents, all at once.

    Args:
        kernel: `NUTS`, `HMC` or `Langevin` with its options.
        num_samples: Draws kept from each chain.
        warmup_steps: Steps of adaptation before, which are dropped.
        num_chains: Independent chains, from different starts; two or more let convergence be judged.

    Example:
        >>> posterior = fit(model, data, MCMC(NUTS(), num_samples=500, warmup_steps=500))  # doctest: +SKIP
    """

    kernel: Kernel
    _: KW_ONLY
    num_samples: int
    warmup_steps: int
    num_chains: int = 1

    def __post_init__(self) -> None:
        if not callable(getattr(self.kernel, "chains", None)) or isinstance(self.kernel, type):
            raise DataError(f"`kernel` must be a kernel object such as `NUTS()`. Got {self.kernel!r}.")
        keep_whole(self, 0, "warmup_steps")
        keep_whole(self, 1, "num_samples", "num_chains")

    def run(
        self, model: SequenceModel, data: Sequences, *, validation: Sequences | None, seed: int, trainer: Trainer
    ) -> StoredPosterior:
        """Run the chains; called by `fit`."""
        require_whole(data, "MCMC")
        if validation is not None:
            raise UnsupportedError(
                "MCMC has no use for `validation`: its draws belong to the fitted series. Leave it out."
            )
        model.take_units(data)
        plan = ChainRun(self.num_samples, self.warmup_steps, self.num_chains, seed, trainer.progress)
        with reading(model):
            chains = self.kernel.chains(model, data, plan)
        return StoredPosterior(model, data, *chains)


def _joint_chains(
    build: Callable[[SequenceModel], MCMCKernel], model: SequenceModel, data: Sequences, plan: ChainRun
) -> Chains:
    """Chains of all latents together, by Pyro."""
    sites, draws, stats = latent_sites(model, data), [], []
    for chain in range(plan.num_chains):
        with isolated_rng(plan.seed, chain):
            drawn, figures = _joint_chain(build(model), data, plan)
        draws.append(drawn)
        stats.append(figures)
    return Chains(
        {name: torch.stack([drawn[name] for drawn in draws]) for name in sites},
        global_names(sites),
        {name: torch.stack([figures[name] for figures in stats]) for name in stats[0]},
    )


def _joint_chain(kernel: MCMCKernel, data: Sequences, plan: ChainRun) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    monitor = _Monitor(kernel)
    run = pyro.infer.MCMC(
        kernel,
        num_samples=plan.num_samples,
        warmup_steps=plan.warmup_steps,
        disable_progbar=not plan.has_progress,
        hook_fn=monitor,
    )
    try:
        run.run(data)
    except ValueError as error:
        if "initial params" not in str(error):
            raise
        raise NumericalError(
            "No starting point with a finite density was found. Check the scale of the data and of the noise."
        ) from error
    return {name: value.detach() for name, value in run.get_samples().items()}, monitor.figures()


class _Monitor:
    """Records what a kernel says of itself at each draw.

    The energy is the Hamiltonian of the path that led to the draw, at its start: minus the log density of the draw
    before, and the kinetic energy of the new momentum. Along the path it stays the same up to the solver's error.
    """

    def __init__(self, kernel: Any) -> None:
        self.rows: list[tuple[float, float, float, float, bool]] = []
        self.divergences = 0
        self.energy = math.nan
        draw_momentum = kernel._sample_r

        def watched(name: str) -> Any:
            momentum, unscaled = draw_momentum(name)
            self.energy = float(kernel._kinetic_energy(unscaled) + kernel._potential_energy_last)
            return momentum, unscaled

        kernel._sample_r = watched

    def __call__(self, kernel: Any, samples: dict[str, Tensor], stage: str, step: int) -> None:
        if not stage.startswith("Sample"):  # a kernel counts no divergence in its warm-up
            return
        # Pyro keeps the running mean of the acceptance; its increments are the acceptance of each draw
        mean, count = kernel._mean_accept_prob, len(self.rows) + 1
        diverged = len(kernel._divergences) > self.divergences
        self.divergences = len(kernel._divergences)
        potential, step_size = float(kernel._potential_energy_last), float(kernel.step_size)
        self.rows.append((mean * count, potential, self.energy, step_size, diverged))

    def figures(self) -> dict[str, Tensor]:
        sums, potentials, energies, steps, diverged = (torch.tensor(column) for column in zip(*self.rows, strict=True))
        accepted = sums.double().diff(prepend=sums.new_zeros(1).double())
        return {
            "acceptance_rate": accepted.clamp(0.0, 1.0).float(),
            "lp": -potentials,
            "energy": energies,
            "step_size": steps,
            "diverging": diverged,
        }


def _require_probability(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise DataError(f"`{name}` must lie between 0 and 1. Got {value!r}.")
