"""Emission of counts of independent events."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.counts import PoissonCounts
from pyro_seq.nn.counts import log_rates, require_counts
from pyro_seq.nn.emission import Emission
from pyro_seq.nn.exposure import keep_exposure, require_exposures, take_rates, under_exposure
from pyro_seq.nn.units import Standardise


@rebuildable
class PoissonEmission(Emission):
    r"""Counts of independent events, such as calls, photons and cases.

    .. math::
        x \sim \mathrm{Poisson}(\lambda), \qquad \log \lambda = \log m + \min(c / m, 1)\, g(s)

    with mean m and deviation c of each variable in training: the initial rate is that of training. Given the latents,
    the variance of counts equals their rate; for counts that vary more, use `NegativeBinomialEmission`.

    If counts come from periods, populations or areas of different size, pass that size as the `exposure` e; counts are
    then :math:`\mathrm{Poisson}(e \lambda)`, where m and c are the mean and deviation of x / e.

    Args:
        decoder: Maps positions (batch, dim) to g (batch, \*obs); by default the model's.
        exposure: Name or number of the column of ``data.inputs`` that multiplies the rate, not standardised; it must be
            positive at all steps, including the horizon. No other part reads this column, and `input_dim` does not
            count it.

    Raises:
        DataError: When `exposure` is neither a name nor a number.
    """

    exposure: str | int | None = None

    def __init__(self, decoder: nn.Module | None = None, *, exposure: str | int | None = None) -> None:
        super().__init__(decoder)
        keep_exposure(self, exposure)
        self.units = Standardise()

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Poisson with rates around those of training, given `decoded` (..., \*obs)."""
        return PoissonCounts(log_rates(decoded, self.units), validate_args=False)

    @property
    def raw_inputs(self) -> tuple[str | int, ...]:
        """The exposure."""
        return () if self.exposure is None else (self.exposure,)

    def under_inputs(self, law: Any, data: Sequences, steps: slice) -> dist.TorchDistribution:
        """The law of counts at the exposures of some steps, from the law at exposure 1."""
        return under_exposure(law, self.exposure, data, steps)

    def check(self, data: Sequences) -> None:
        """Refuse values that are not counts, and exposures that are not positive."""
        require_counts(data, "PoissonEmission")
        if self.exposure is not None:
            require_exposures(self.exposure, data)

    def adapt(self, data: Sequences) -> None:
        """Set mean and deviation from the observed entries; with an exposure, those of rates."""
        take_rates(self.units, data, self.exposure)
