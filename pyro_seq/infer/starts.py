"""Starts of joint chains: draws of a fit, with their spread as the initial mass matrix, or points near 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pyro.infer.autoguide.initialization import init_to_uniform, init_to_value
from pyro.infer.mcmc.adaptation import BlockMassMatrix
from torch import Tensor
from torch.distributions import biject_to

from pyro_seq._random import mixed_seed
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, NumericalError
from pyro_seq.infer.chains import ChainRun
from pyro_seq.infer.joint_target import JointTarget
from pyro_seq.ops._langevin_state import all_finite
from pyro_seq.ops.hamiltonian import HamiltonianState, hamiltonian_state
from pyro_seq.posterior import Posterior

_NUM_DRAWS = 100  # draws of a fit, for the spread
_RADII = (2.0, 0.5, 0.1)  # half-widths of cubes around 0 to draw starts from; the first is the default of Pyro and Stan
_NUM_TRIES = 3  # draws of a fit per chain
_NUM_CUBES = 20  # draws from each cube
_STARTS = 0  # stream of random numbers

Strategy = Callable[[dict], Tensor]


def starting_draws(
    posterior: Posterior, data: Sequences, sites: Mapping[str, dict], num_chains: int, seed: int
) -> dict[str, Tensor]:
    """Draws of the latent `sites` of a model by a fit, as `ChainRun` holds them.

    Raises:
        DataError: When the fit is of another model or other series.
    """
    drawn = posterior.draws(data, max(_NUM_DRAWS, _NUM_TRIES * num_chains), seed=seed)
    missing = sorted(sites.keys() - drawn.keys())
    if missing:
        raise DataError(
            f"`start` must be a fit of the same model, with draws of {sorted(sites)}. Got {sorted(drawn)}, without "
            f"{missing}. Fit this model, by `SVI` for example."
        )
    draws = {}
    for name, site in sites.items():
        shape = site["value"].shape
        if drawn[name][0].numel() != shape.numel():
            raise DataError(
                f"`start` must be a fit of the same model and series. Its draws of {name!r} have the shape "
                f"{tuple(drawn[name].shape[1:])}, where {tuple(shape)} is needed."
            )
        draws[name] = drawn[name].reshape(-1, *shape).detach().to(site["value"])
    return draws


def strategies(start: Mapping[str, Tensor] | None, chain: int, num_chains: int) -> Iterator[Strategy]:
    """Strategies for the start of one chain, to try in turn until one gives a finite density."""
    if start is None:
        yield from (init_to_uniform(radius=radius) for radius in _RADII)
    else:
        for attempt in range(_NUM_TRIES):
            index = chain + attempt * num_chains
            yield init_to_value(values={name: draws[index] for name, draws in start.items()})


def variances(start: Mapping[str, Tensor], sites: Mapping[str, dict]) -> dict[str, Tensor]:
    """Variance of each unconstrained entry of each site over draws; 1 where there is no spread."""
    found = {}
    for name, draws in start.items():
        real = biject_to(sites[name]["fn"].support).inv(draws)
        spread = real.reshape(len(real), -1).var(0)
        found[name] = torch.where(spread.isfinite() & (spread > 0), spread, 1.0)
    return found


class KnownMassMatrix(BlockMassMatrix):
    """Pyro's mass matrix with given initial variances in place of 1; it is adapted from there.

    Args:
        known: Variance of each entry of each site, flat, by name.
    """

    def __init__(self, known: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._known = known

    def configure(
        self, mass_matrix_shape: Mapping[tuple[str, ...], Any], adapt_mass_matrix: bool = True, options: Any = None
    ) -> None:
        """Set the matrix up; called by a kernel of Pyro."""
        super().configure(mass_matrix_shape, adapt_mass_matrix, options=options or {})
        diagonals = {names: torch.cat([self._known[name] for name in names]) for names in mass_matrix_shape}
        self.inverse_mass_matrix = {
            names: diagonal if len(mass_matrix_shape[names]) == 1 else diagonal.diag()
            for names, diagonal in diagonals.items()
        }


def joint_starts(target: JointTarget, plan: ChainRun) -> HamiltonianState:
    """Starts of all chains; those without a finite density are drawn again, nearer to 0 or from other draws of the fit.

    Raises:
        NumericalError: When no valid start is found for a chain.
    """
    state = hamiltonian_state(target, _places(target, plan, 0))
    for attempt in range(1, _NUM_TRIES if plan.start else _NUM_CUBES * len(_RADII)):
        is_open = ~all_finite(state.energy, state.gradient)
        if not bool(is_open.any()):
            return state
        vectors = torch.where(is_open[:, None], _places(target, plan, attempt), state.value)
        state = hamiltonian_state(target, vectors)
    is_open = ~all_finite(state.energy, state.gradient)
    if bool(is_open.any()):
        raise no_start(int(is_open.nonzero()[0]), has_fit=plan.start is not None)
    return state


def _places(target: JointTarget, plan: ChainRun, attempt: int) -> Tensor:
    """Vectors (chain, entry) to try."""
    if plan.start is not None:
        chosen = torch.arange(plan.num_chains) + attempt * plan.num_chains
        return target.join({name: draws[chosen] for name, draws in plan.start.items()})
    like = target.data.values
    generator = torch.Generator().manual_seed(mixed_seed(plan.seed, _STARTS, attempt))
    cube = 2 * torch.rand(plan.num_chains, target.num_entries, dtype=like.dtype, generator=generator) - 1
    return _RADII[attempt // _NUM_CUBES] * cube.to(like.device)


def no_start(chain: int, *, has_fit: bool) -> NumericalError:
    """The error for a chain without a valid start."""
    tried, remedy = (
        (f"{_NUM_TRIES} draws of `start`", "Fit for longer, so that its draws lie where the density is finite")
        if has_fit
        else (
            "draws from cubes around 0",
            "Start where a fit is, `MCMC(..., start=fit(model, data, SVI(...)))`",
        )
    )
    return NumericalError(
        f"No starting point with a finite density was found for chain {chain}, among {tried}. {remedy}, or check the "
        "scale of the data and of the noise."
    )
