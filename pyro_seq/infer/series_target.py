"""The latents of each series as one unconstrained vector, and their posterior as an energy, for Langevin chains."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Distribution, biject_to
from torch.distributions.transforms import Transform

from pyro_seq._nonfinite import passing_nonfinite
from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.distributions.energy_based import unnormalised
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.infer.chains import global_names, latent_sites
from pyro_seq.model import SequenceModel, is_local, local_log_prob, local_parameters, over_samples, series_log_prob


@contextmanager
def lenient() -> Iterator[None]:
    """Context manager for latents that may be extreme: a non-finite value of one chain does not raise for all."""
    with local_parameters(), pyro.validation_enabled(False), passing_nonfinite():
        yield


class SharedLatents(UnsupportedError):
    """Raised when series share latents that no guide draws."""


class _Site(NamedTuple):
    transform: Transform  # from unconstrained values to the support
    real_shape: torch.Size
    event_shape: torch.Size


class SeriesTarget:
    r"""Posterior of the latents of each series given its data, as an energy over unconstrained vectors.

    .. math::
        U_i(u) = -\log p\big(x_i, z_i\big) - \log \Big|\frac{\partial z_i}{\partial u}\Big|, \qquad z_i = T(u)

    There is one target per series and chain: series are independent given the parameters, so one call evaluates
    thousands of targets. A non-finite energy affects only its chain: Pyro's validation and the errors of fixed-step
    solvers are switched off. The normaliser of an energy-based prior does not depend on the latents and is left out.

    Cost: one vectorised trace of the model per call; `model.prepare` runs once. Freeze the parameters around repeated
    calls (`posterior.reading`), otherwise each call builds a graph for their gradients too.

    Args:
        model: The model; all its latent sites must be continuous, and inside the plate ``series`` unless the guide
            draws the others.
        data: Series to condition on.
        num_shared: Number of draws, by the guide with the global random state, of the latents that all series share:
            one per chain; the posterior is conditional on them. With 0 such latents are not allowed.

    Attributes:
        shared: These draws by site, (chain, 1, event).

    Raises:
        UnsupportedError: When a site is discrete, or shared by all series without a guide to draw it, or there are no
            latent sites.
    """

    def __init__(self, model: SequenceModel, data: Sequences, *, num_shared: int = 0) -> None:
        self.model = model
        with torch.no_grad(), isolated_rng(0), lenient():
            self.data = model.prepare(data)
            sites = latent_sites(model, self.data)
        shared = sorted(global_names(sites))
        if shared and not (num_shared and model.has_guide):
            raise SharedLatents(
                f"Langevin chains are run for each series apart, but {type(model).__name__} has latents that all "
                f"series share: {shared}. These have no posterior of a single series: use `MCMC(NUTS(), ...)`, which "
                "moves all latents together, replace them by parameters, or fit by `SVI` and `refine` the rest."
            )
        self.shared = self._drawn_by_guide(shared, num_shared) if shared else {}
        self._sites: dict[str, _Site] = {}
        for name in (name for name in sites if name not in self.shared):
            site = sites[name]
            transform, event = biject_to(site["fn"].support), site["fn"].event_shape
            self._sites[name] = _Site(transform, transform.inverse_shape(event), event)
        self.num_entries = sum(site.real_shape.numel() for site in self._sites.values())

    @property
    def index(self) -> Tensor:
        """Places of the series in their data set."""
        return self.data.index

    @property
    def global_sites(self) -> frozenset[str]:
        """Names of the sites that all series share."""
        return frozenset(self.shared)

    def on(self, data: Sequences) -> SeriesTarget:
        """The same target for other data with the same number of steps; the model's sites are not read again."""
        target = copy.copy(self)
        with torch.no_grad(), lenient():
            target.data = self.model.prepare(data)
        return target

    def __call__(self, vector: Tensor) -> Tensor:
        """Energies (..., series) of vectors (..., series, entry)."""
        values, log_det = self.split(vector)
        with unnormalised(), lenient():
            return -(series_log_prob(self.model, self.data, values | self.shared) + log_det)

    def emission(self, vector: Tensor) -> Distribution:
        """Distribution of the observations given vectors (..., series, entry), time in its event."""
        values, _ = self.split(vector)
        with unnormalised(), lenient():
            trace = poutine.trace(poutine.condition(self.model.model, data=values | self.shared)).get_trace(self.data)
        return trace.nodes["x"]["fn"]

    def split(self, vector: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        r"""Sites (..., series, \*event) of vectors (..., series, entry), and the log volume ratio (..., series)."""
        lead = vector.shape[:-1]
        values, log_det = {}, vector.new_zeros(lead)
        sizes = [site.real_shape.numel() for site in self._sites.values()]
        for (name, site), flat in zip(self._sites.items(), vector.split(sizes, -1), strict=True):
            real = flat.reshape(lead + site.real_shape)
            values[name] = site.transform(real)
            terms = site.transform.log_abs_det_jacobian(real, values[name])
            log_det = log_det + terms.reshape(*lead, -1).sum(-1)
        return values, log_det

    def join(self, values: Mapping[str, Tensor]) -> Tensor:
        r"""Vectors (..., series, entry) of sites (..., series, \*event)."""
        missing = self._sites.keys() - values.keys()
        if missing:
            raise DataError(f"`values` must have every latent site, {sorted(self._sites)}. Missing: {sorted(missing)}.")
        parts = []
        for name, site in self._sites.items():
            value = values[name]
            lead = value.shape[: value.ndim - len(site.event_shape)]
            if value.shape[len(lead) :] != site.event_shape or lead[-1:] != (self.data.num_series,):
                raise DataError(
                    f"`values[{name!r}]` must be (..., series {self.data.num_series}, *{tuple(site.event_shape)}). "
                    f"Got {tuple(value.shape)}."
                )
            parts.append(site.transform.inv(value).reshape(*lead, -1))
        return torch.cat(parts, -1)

    def draw(self, num_chains: int, *, from_guide: bool, num_candidates: int = 1) -> Tensor:
        r"""Vectors (chain, series, entry) drawn from the guide or the prior with the global random state.

        Each vector is picked from `num_candidates` draws z with probability proportional to
        :math:`p(x_i, z) / q(z)`: sampling importance resampling (Rubin, 1988).
        """
        return picked(lambda: self._proposed(num_chains, from_guide), self._weight, num_candidates)

    def _drawn_by_guide(self, names: list[str], num_draws: int) -> dict[str, Tensor]:
        """One draw per chain of the latents that all series share, (chain, 1, event)."""
        with torch.no_grad(), lenient():
            trace = poutine.trace(over_samples(self.model.guide, num_draws)).get_trace(self.data)
        return {name: trace.nodes[name]["value"] for name in names}

    @torch.no_grad()
    def _proposed(self, num_chains: int, from_guide: bool) -> tuple[Tensor, Tensor]:
        """Drawn vectors (chain, series, entry) and the log densities of their sites."""
        method = poutine.condition(self.model.guide if from_guide else self.model.model, data=self.shared)
        method = poutine.block(method, hide_fn=is_observed)
        with unnormalised(), lenient():
            trace = poutine.trace(over_samples(method, num_chains)).get_trace(self.data)
            density = torch.as_tensor(local_log_prob(trace))
        values = {
            name: trace.nodes[name]["value"].expand(num_chains, self.data.num_series, *site.event_shape)
            for name, site in self._sites.items()
            if name in trace.nodes and is_local(trace.nodes[name])
        }
        return self.join(values).detach().clone(), density

    @torch.no_grad()
    def _weight(self, vector: Tensor, density: Tensor) -> Tensor:
        """Log importance weights of drawn vectors."""
        return -self(vector) - self.split(vector)[1] - density


def picked(
    propose: Callable[[], tuple[Tensor, Tensor]], weigh: Callable[[Tensor, Tensor], Tensor], num_candidates: int
) -> Tensor:
    """Vectors picked from `num_candidates` proposals, each with its density, by their log importance weights."""
    best, density = propose()
    if num_candidates == 1:
        return best
    highest = _perturbed(weigh(best, density))
    for _ in range(num_candidates - 1):
        vector, density = propose()
        weight = _perturbed(weigh(vector, density))
        best = torch.where((weight > highest)[..., None], vector, best)
        highest = torch.maximum(weight, highest)
    return best


def _perturbed(weight: Tensor) -> Tensor:
    """Log weights plus Gumbel noise: the index of the maximum is a draw with probabilities given by the weights."""
    noise = -torch.empty_like(weight).exponential_().log()
    return (weight + noise).nan_to_num(nan=-torch.inf)


def is_observed(site: dict) -> bool:
    """Whether a Pyro message is of an observed site."""
    return site.get("is_observed", False)
