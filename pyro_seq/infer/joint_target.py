"""All latents of a model as one vector of real numbers a chain, and their posterior as an energy over many chains."""

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
from pyro_seq.errors import NumericalError
from pyro_seq.infer.chains import global_names, latent_sites
from pyro_seq.infer.series_target import lenient
from pyro_seq.model import SequenceModel, is_local, is_random


class _Site(NamedTuple):
    transform: Transform  # from real numbers to the support
    shape: torch.Size  # of a draw, with the series where it has them
    real_shape: torch.Size


class JointTarget:
    r"""Posterior of all latents given all series, as an energy over vectors of real numbers.

    .. math::
        U(u) = -\log p(w) - \sum_i \log p(x_i, z_i \mid w) - \log \Big|\frac{\partial (w, z)}{\partial u}\Big|,
        \qquad (w, z) = T(u)

    with latents w that all series share and z_i of series i. Many chains are one vectorised trace of the model, so
    that a gradient of 16 of them costs little more than one of a single chain. An energy that is not finite stays with
    its own chain. The normaliser of an energy-based prior does not depend on the latents and is left out. Freeze the
    parameters around many calls (`posterior.reading`).

    Args:
        model: All of its latent sites must be continuous.
        data: Series to condition on. Of a minibatch the sum over its series stands for that over all: it counts
            ``total / num_series`` times.

    Attributes:
        sites: The latent sites of a trace of the model, by name.
        shared: Names of those that all series share.
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
        """Energies (chain,) of vectors (chain, entry)."""
        try:
            return self._energies(vector)
        except (NumericalError, torch.linalg.LinAlgError):  # of one chain, which must not stop the others
            if len(vector) > 1:
                return torch.cat([self(part) for part in vector.split(1)])
            return vector.sum(-1) * torch.nan  # with a graph, because its gradient is asked for

    def _energies(self, vector: Tensor) -> Tensor:
        values, log_det = self.split(vector)
        known = {name: value[:, None] if name in self.shared else value for name, value in values.items()}
        with unnormalised(), lenient():
            trace = poutine.trace(poutine.condition(self.model.model, data=known)).get_trace(self.data)
        total, weight = log_det, self.data.total / self.data.num_series
        for site in trace.nodes.values():
            if not is_random(site):
                continue
            terms = site["fn"].log_prob(site["value"])
            if is_local(site):
                terms = weight * terms.expand(len(vector), self.data.num_series)
            total = total + torch.atleast_2d(terms).sum(-1)
        return -total

    def split(self, vector: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        r"""Sites (..., \*draw) of vectors (..., entry), and the log volume ratio (...)."""
        lead = vector.shape[:-1]
        values, log_det = {}, vector.new_zeros(lead)
        for (name, site), flat in zip(self._sites.items(), vector.split(self._sizes, -1), strict=True):
            real = flat.reshape(lead + site.real_shape)
            values[name] = site.transform(real)
            terms = site.transform.log_abs_det_jacobian(real, values[name])
            log_det = log_det + terms.reshape(*lead, -1).sum(-1)
        return values, log_det

    def join(self, values: Mapping[str, Tensor]) -> Tensor:
        r"""Vectors (draw, entry) of sites (draw, \*draw)."""
        parts = [site.transform.inv(values[name]).flatten(1) for name, site in self._sites.items()]
        return torch.cat(parts, -1)
