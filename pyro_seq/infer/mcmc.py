"""``MCMC``: draws from the exact posterior of the latents, by Pyro's Hamiltonian kernels or by Langevin chains."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol

import pyro
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel

from pyro_seq._arguments import keep_whole, require
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.infer.chains import ChainRun, Chains, latent_sites, require_whole
from pyro_seq.infer.joint_chains import joint_chains
from pyro_seq.infer.starts import starting_draws
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import Posterior, StoredPosterior, reading
from pyro_seq.training.trainer import Trainer


class Kernel(Protocol):
    """Options of a transition kernel, with a method that runs its chains."""

    def chains(self, model: SequenceModel, data: Sequences, plan: ChainRun) -> Chains:
        """Run all chains on a model whose parameters are frozen."""
        ...


@dataclass(frozen=True, kw_only=True)
class NUTS:
    """The no-U-turn sampler: Hamiltonian paths of adaptive length, with step sizes adapted in the warm-up.

    One joint path moves all series, so the stiffest series sets its cost: up to 2^max_tree_depth gradients per draw.

    Args:
        target_accept: Target acceptance rate for the step size; closer to 1 for fewer divergences.
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

    def build(self, model: SequenceModel, **options: Any) -> MCMCKernel:
        """The kernel for one chain; `options` are further options of Pyro's kernel, such as ``init_strategy``."""
        return pyro.infer.NUTS(
            model.model,
            target_accept_prob=self.target_accept,
            max_tree_depth=self.max_tree_depth,
            full_mass=self.full_mass,
            max_plate_nesting=1,
            **options,
        )

    def chains(self, model: SequenceModel, data: Sequences, plan: ChainRun) -> Chains:
        """Run joint chains one after another."""
        return joint_chains(self.build, model, data, plan)


@dataclass(frozen=True, kw_only=True)
class HMC:
    """Hamiltonian Monte Carlo with paths of fixed length and step sizes adapted in the warm-up.

    Args:
        path_length: Length of a path in units of the adapted scale (2 pi is a full turn); Pyro's default if None.
        target_accept: Target acceptance rate for the step size.
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

    def build(self, model: SequenceModel, **options: Any) -> MCMCKernel:
        """The kernel for one chain; `options` are further options of Pyro's kernel, such as ``init_strategy``."""
        return pyro.infer.HMC(
            model.model,
            trajectory_length=self.path_length,
            target_accept_prob=self.target_accept,
            full_mass=self.full_mass,
            max_plate_nesting=1,
            **options,
        )

    def chains(self, model: SequenceModel, data: Sequences, plan: ChainRun) -> Chains:
        """Run joint chains one after another."""
        return joint_chains(self.build, model, data, plan)


@dataclass(frozen=True)
class MCMC:
    """Sample all latents, including global ones, with the model's parameters held fixed.

    The draws are exact up to Monte Carlo error and need no guide; but MCMC runs on the whole data set, its draws do not
    apply to other series, and it does not train: networks keep their weights. `ChEES` moves all latents jointly, all
    chains at once; `NUTS` and `HMC` do so one chain after another; `Langevin` runs separate chains for the latents of
    every series, all at once.

    Args:
        kernel: `ChEES`, `NUTS`, `HMC` or `Langevin` with its options.
        num_samples: Draws kept from each chain.
        warmup_steps: Adaptation steps before the first draw; they are dropped.
        num_chains: Independent chains from different starts; judging convergence needs at least two.
        start: A fit of the same model and series, such as one by `SVI`: each chain starts at one of its draws, with
            steps scaled initially by the spread of the draws in each direction. Without it, joint chains start near 0
            in the unconstrained space. Chains started from one fit may all miss a mode that the fit misses.

    Ctrl-C ends the run and returns the draws so far: those of all finished chains, or of the unfinished first chain.

    Example:
        >>> guide = fit(model, data, SVI(num_steps=2_000))  # doctest: +SKIP
        >>> method = MCMC(NUTS(), num_samples=500, warmup_steps=500, start=guide)  # doctest: +SKIP
        >>> posterior = fit(model, data, method)  # doctest: +SKIP
    """

    kernel: Kernel
    _: KW_ONLY
    num_samples: int
    warmup_steps: int
    num_chains: int = 1
    start: Posterior | None = None

    def __post_init__(self) -> None:
        if not callable(getattr(self.kernel, "chains", None)) or isinstance(self.kernel, type):
            raise DataError(f"`kernel` must be a kernel object such as `NUTS()`. Got {self.kernel!r}.")
        keep_whole(self, 0, "warmup_steps")
        keep_whole(self, 1, "num_samples", "num_chains")
        is_fit = self.start is None or (
            callable(getattr(self.start, "draws", None)) and not isinstance(self.start, type)
        )
        require(is_fit, "start", "what `fit` returned, or absent", self.start)

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
            if self.start is not None:
                sites = latent_sites(model, data)
                plan = plan._replace(start=starting_draws(self.start, data, sites, self.num_chains, seed))
            chains = self.kernel.chains(model, data, plan)
        return StoredPosterior(model, data, *chains)


def _require_probability(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise DataError(f"`{name}` must lie between 0 and 1. Got {value!r}.")
