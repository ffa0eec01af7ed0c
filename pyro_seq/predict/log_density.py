"""The log density of the truth under the distributions that a verb draws observations from."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.replicate import Replicate


class LogDensity(Messenger):
    r"""While a verb runs inside it, scores `truth` under each distribution that the verb draws observations from.

    .. math::
        \log \hat p(x) = \log \frac1S \sum_{s=1}^S p\left(x \mid z^{(s)}\right)

    for each entry, with draws :math:`z^{(s)}` of the latents: no observations are drawn for it, so it is more precise
    than a density estimate from `Prediction.samples`. It is slightly too low on average, like any logarithm of a mean
    of draws.

    Args:
        truth: True values at all steps of the verb's grid, (series, time, \*obs).
        num_steps: Number of steps shown to the verb; the others are its horizon.
    """

    def __init__(self, truth: Tensor, num_steps: int) -> None:
        super().__init__()
        self._truth = {"x": truth[:, :num_steps], "x_future": truth[:, num_steps:]}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def entries(self, num_samples: int) -> Tensor | None:
        r"""Log density of each entry (series, time, \*obs), NaN without one; for a forecast only those of the horizon.

        None if observations were drawn from distributions without a density of single entries, or not exactly once per
        draw and step, as when a task fills gaps by copies of series.
        """
        wanted = [name for name, truth in self._truth.items() if truth.shape[1]]
        if "x" not in self._counts and "x_future" in wanted:
            wanted.remove("x")  # a forecast decodes no seen step
        if any(self._counts.get(name) != num_samples for name in wanted):
            return None
        return torch.cat([self._sums[name] for name in wanted], 1) - math.log(num_samples)

    def _pyro_post_sample(self, msg: dict[str, Any]) -> None:
        name = msg["name"]
        if name not in self._truth or msg["is_observed"]:
            return
        truth, drawn = self._truth[name], msg["value"]
        law = _by_entry(msg["fn"])
        if law.event_shape or drawn.shape[1:] != truth.shape:
            return
        try:
            density = law.log_prob(truth)
            has_density = law.support.check(truth)
        except NotImplementedError:
            return
        density = torch.where(has_density, density, torch.nan).expand(drawn.shape)
        total = density.logsumexp(0)
        self._sums[name] = torch.logaddexp(self._sums[name], total) if name in self._sums else total
        self._counts[name] = self._counts.get(name, 0) + len(drawn)


def _by_entry(law: dist.TorchDistribution) -> dist.TorchDistribution:
    """The distribution of single entries: without event axes and masks, or the marginals of a Gaussian path."""
    while isinstance(law, dist.Independent | MaskedDistribution | ExpandedDistribution):
        law = law.base_dist
    return law.entries() if isinstance(law, LinearGaussian | Replicate) else law
