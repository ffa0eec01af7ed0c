"""Emission of counts of independent events."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.counts import PoissonCounts
from pyro_seq.nn.counts import log_rates, require_counts
from pyro_seq.nn.emission import Emission
from pyro_seq.nn.units import Standardise


@rebuildable
class PoissonEmission(Emission):
    r"""Counts of events that come independently of each other, such as calls, photons and cases.

    .. math::
        x \sim \mathrm{Poisson}(\lambda), \qquad \log \lambda = \log m + \min(c / m, 1)\, g(s)

    with mean m and deviation c of each variable in training: the rate starts at that of training, whatever is counted.
    Given the latents, counts vary as their rate does; where they vary more, use `NegativeBinomialEmission`. There is no
    exposure: count over even intervals, or hand the time at risk to a model that takes inputs.

    Args:
        decoder: Maps positions (batch, dim) to g (batch, \*obs); by default the model's.
    """

    def __init__(self, decoder: nn.Module | None = None) -> None:
        super().__init__(decoder)
        self.units = Standardise()

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Poisson with rates around those of training, by `decoded` (..., \*obs)."""
        return PoissonCounts(log_rates(decoded, self.units), validate_args=False)

    def check(self, data: Sequences) -> None:
        """Refuse what is no count."""
        require_counts(data, "PoissonEmission")

    def adapt(self, data: Sequences) -> None:
        """Take mean and deviation from the observed entries."""
        self.units.adapt(data)
