"""All latents of a model as one unconstrained vector per chain, and their posterior as an energy over many chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.transforms import Transform

from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.distributions.energy_based import unnormalised
from pyro_seq.errors import DataError, NumericalError
from pyro_seq.infer.chains import global_names, latent_sites
from pyro_seq.infer.series_target import SeriesTarget, SharedLatents, is_observed, lenient, picked
from pyro_seq.model import SequenceModel, is_local, is_random, over_samples


class _Site(NamedTuple):
    transform: Transform  # from unconstrained values to the support
    shape: torch.Size  # of a draw, including the series for per-series sites
    real_shape: torch.Size


class JointTarget:
    r"""Posterior of all latents given all series, as an energy over unconstrained vectors.

    .. math::
        U(u) = -\log p(w) - \sum_i \log p(x_i, z_i \mid w) - \log \Big|\frac{\partial (w, z)}{\partial u}\Big|,
        \qquad (w, z) = T(u)

    with latents w that all series share and z_i of series i. All chains are one vectorised trace of the model, so a
    gradient of 16 chains costs little more than a gradient of one. A non-finite energy affects only its chain. The
    normaliser of an energy-based prior does not depend on the latents and is left out. Freeze the parameters around
    repeated calls (`posterior.reading`).

    Args:
        model: The model; all its latent sites must be continuous.
        data: Series to condition on.

    Attributes:
        sites: The latent sites of a trace of the model, by name.
        shared: Names of the sites that all series share.
        num_entries: Length of a vector.
    """

    def __init__(self, model: SequenceModel, data: Sequences) -> None:
        self.model = model
        with torch.no_grad(), isolated_rng(0), lenient():
            self.data = model.prepare(data)
            self.sites = latent_sites(model, self.data)
        self.shared = global_names(self.sites)
        self._sites: dict[str, _Site] = {}
        for name, site in self.sites.items():
            transform, shape = biject_to(site["fn"].support), site["value"].shape
            self._sites[name] = _Site(transform, shape, transform.inverse_shape(shape))
        self._sizes = [site.real_shape.numel() for site in self._sites.values()]
        self.num_entries = sum(self._sizes)

    def __call__(self, vector: Tensor) -> Tensor:
        """Energies (...) of vectors (..., entry)."""
        flat = vector.reshape(-1, self.num_entries)
        return self.energies(self.parts(flat), self.data).reshape(vector.shape[:-1])

    def energies(self, real: Mapping[str, Tensor], data: Sequences) -> Tensor:
        r"""Energies (chain,) of unconstrained sites (chain, \*real draw), for `data` returned by `model.prepare`.

        For a minibatch the sum over its series is multiplied by ``total / num_series`` to estimate the sum over all.
        """
        try:
            return self._energies(real, data)
        except (NumericalError, torch.linalg.LinAlgError):  # one chain must not stop the others
            first = next(iter(real.values()))
            if len(first) == 1:
                return torch.cat([value.flatten(1) for value in real.values()], 1).sum(1) * torch.nan  # with a graph
            chains = ({name: value[chain : chain + 1] for name, value in real.items()} for chain in range(len(first)))
            return torch.cat([self.energies(chain, data) for chain in chains])

    def _energies(self, real: Mapping[str, Tensor], data: Sequences) -> Tensor:
        common, total = self.constrained({name: value for name, value in real.items() if name in self.shared}, 1)
        values, log_det = self.constrained({name: value for name, value in real.items() if name not in common}, 1)
        known = values | {name: value[:, None] for name, value in common.items()}
        weight, shape = data.total / data.num_series, (len(next(iter(real.values()))), data.num_series)
        total = total + weight * log_det
        with unnormalised(), lenient():
            trace = poutine.trace(poutine.condition(self.model.model, data=known)).get_trace(data)
            for site in (site for site in trace.nodes.values() if is_random(site)):
                terms = site["fn"].log_prob(site["value"])
                total = total + (weight * terms.expand(shape) if is_local(site) else torch.atleast_2d(terms)).sum(-1)
        return -total

    def parts(self, vector: Tensor) -> dict[str, Tensor]:
        r"""Unconstrained sites (..., \*real draw) of vectors (..., entry)."""
        pieces = zip(self._sites.items(), vector.split(self._sizes, -1), strict=True)
        return {name: flat.reshape(flat.shape[:-1] + site.real_shape) for (name, site), flat in pieces}

    def constrained(self, real: Mapping[str, Tensor], num_axes: int) -> tuple[dict[str, Tensor], Tensor]:
        r"""Sites (..., \*draw) of unconstrained sites with `num_axes` leading axes, and the log volume ratio (...)."""
        values, log_det = {}, torch.zeros(())
        for name, value in real.items():
            transform = self._sites[name].transform
            values[name] = transform(value)
            terms = transform.log_abs_det_jacobian(value, values[name])
            log_det = log_det + terms.reshape(*terms.shape[:num_axes], -1).sum(-1)
        return values, log_det

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        r"""Sites (..., \*draw) of vectors (..., entry)."""
        return self.constrained(self.parts(vector), vector.ndim - 1)[0]

    def real(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Unconstrained sites (draw, \*real draw) of sites (draw, \*draw).

        Raises:
            DataError: When a site is missing or has another shape.
        """
        missing = sorted(self._sites.keys() - values.keys())
        if missing:
            raise DataError(f"`values` must have every latent site, {sorted(self._sites)}. Missing: {missing}.")
        for name, site in self._sites.items():
            if values[name].shape[1:] != site.shape:
                raise DataError(
                    f"`values[{name!r}]` must be (chain, *{tuple(site.shape)}). Got {tuple(values[name].shape)}."
                )
        return {name: site.transform.inv(values[name]) for name, site in self._sites.items()}

    def join(self, values: Mapping[str, Tensor]) -> Tensor:
        r"""Vectors (draw, entry) of sites (draw, \*draw)."""
        return torch.cat([value.flatten(1) for value in self.real(values).values()], -1)


class AllSeries:
    """All series as one target, in place of a `SeriesTarget`: vectors (..., 1, entry), energies (..., 1)."""

    def __init__(self, model: SequenceModel, data: Sequences) -> None:
        self.joint = JointTarget(model, data)
        self.data, self.num_entries = self.joint.data, self.joint.num_entries
        self.shared: dict[str, Tensor] = {}  # no latents are drawn by a guide
        self.global_sites = self.joint.shared
        self.index = torch.zeros(1, dtype=torch.long)

    def __call__(self, vector: Tensor) -> Tensor:
        """Energies (..., 1) of vectors (..., 1, entry)."""
        return self.joint(vector)

    def split(self, vector: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        r"""Sites (..., \*draw) of vectors (..., 1, entry), and the log volume ratio (..., 1)."""
        flat = vector.squeeze(-2)
        values, log_det = self.joint.constrained(self.joint.parts(flat), flat.ndim - 1)
        return values, log_det[..., None]

    def join(self, values: Mapping[str, Tensor]) -> Tensor:
        r"""Vectors (draw, 1, entry) of sites (draw, \*draw)."""
        return self.joint.join(values)[:, None]

    def draw(self, num_chains: int, *, from_guide: bool, num_candidates: int = 1) -> Tensor:
        """Vectors (chain, 1, entry) drawn from the guide or the prior with the global random state."""
        return picked(lambda: self._proposed(num_chains, from_guide), self._weight, num_candidates)

    @torch.no_grad()
    def _proposed(self, num_chains: int, from_guide: bool) -> tuple[Tensor, Tensor]:
        model, sites = self.joint.model, self.joint.sites
        program = poutine.block(model.guide if from_guide else model.model, hide_fn=is_observed)
        with unnormalised(), lenient():
            trace = poutine.trace(over_samples(program, num_chains)).get_trace(self.data)
            terms = [trace.nodes[name]["fn"].log_prob(trace.nodes[name]["value"]) for name in sites]
        density = sum(term.expand(num_chains, -1).sum(1) for term in terms)
        values = {name: trace.nodes[name]["value"].reshape(num_chains, *sites[name]["value"].shape) for name in sites}
        return self.join(values).clone(), torch.as_tensor(density)[:, None]

    @torch.no_grad()
    def _weight(self, vector: Tensor, density: Tensor) -> Tensor:
        return -self(vector) - self.split(vector)[1] - density


def langevin_target(model: SequenceModel, data: Sequences, num_shared: int) -> SeriesTarget | AllSeries:
    """Target of Langevin chains: each series separately, or all as one if they share latents that no guide draws.

    Args:
        model: The model.
        data: Series to condition on.
        num_shared: Number of draws, by the guide, of the latents that all series share; see `SeriesTarget`.
    """
    try:
        return SeriesTarget(model, data, num_shared=num_shared)
    except SharedLatents:
        if num_shared:  # there is no guide to draw them
            raise
    return AllSeries(model, data)
