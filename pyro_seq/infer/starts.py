"""Where joint chains start: at draws of a fit, with their spread as the first mass matrix, or near 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pyro.infer.autoguide.initialization import init_to_uniform, init_to_value
from pyro.infer.mcmc.adaptation import BlockMassMatrix
from torch import Tensor
from torch.distributions import biject_to

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.posterior import Posterior

_NUM_DRAWS = 100  # of a fit, for the spread
_RADII = (2.0, 0.5, 0.1)  # of the cubes around 0 that starts are drawn from; the first is Pyro's and Stan's
_NUM_TRIES = 3  # draws of a fit, for each chain

Strategy = Callable[[dict], Tensor]


def starting_draws(
    posterior: Posterior, data: Sequences, sites: Mapping[str, dict], num_chains: int, seed: int
) -> dict[str, Tensor]:
    """Draws of the latent `sites` of a model by a fit, as `ChainRun` holds them.

    Raises:
        DataError: When the fit is not one of the same model and series.
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
    """Ways to find a start for one chain, to be tried in turn until one has a finite density."""
    if start is None:
        yield from (init_to_uniform(radius=radius) for radius in _RADII)
    else:
        for attempt in range(_NUM_TRIES):
            index = chain + attempt * num_chains
            yield init_to_value(values={name: draws[index] for name, draws in start.items()})


def variances(start: Mapping[str, Tensor], sites: Mapping[str, dict]) -> dict[str, Tensor]:
    """Variance of each entry of each site over draws, as real numbers; 1 where there is no spread."""
    found = {}
    for name, draws in start.items():
        real = biject_to(sites[name]["fn"].support).inv(draws)
        spread = real.reshape(len(real), -1).var(0)
        found[name] = torch.where(spread.isfinite() & (spread > 0), spread, 1.0)
    return found


class KnownMassMatrix(BlockMassMatrix):
    """Pyro's mass matrix, which begins at given variances in place of 1 and is adapted from there.

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
