"""Emission of overdispersed counts."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._arguments import is_positive, require
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.counts import NegativeBinomialCounts
from pyro_seq.nn.counts import log_rates, require_counts
from pyro_seq.nn.emission import Emission
from pyro_seq.nn.exposure import keep_exposure, require_exposures, take_rates, under_exposure
from pyro_seq.nn.saved_state import shape_by_data, take_shape
from pyro_seq.nn.units import Standardise

_FLOOR = 1e-6  # of the dispersion; counts below a hundred thousand are then practically Poisson


@rebuildable
class NegativeBinomialEmission(Emission):
    r"""Counts that vary more than independent events (overdispersion), such as sales, visits and gene reads.

    .. math::
        \log \lambda = \log m + \min(c / m, 1)\, g(s), \qquad
        \mathbb E[x] = \lambda, \quad \mathrm{Var}[x] = \lambda + \alpha \lambda^2

    with mean m and deviation c of each variable in training, as in `PoissonEmission`. The dispersion :math:`\alpha`,
    one number per variable, is learned; if the latents explain all variation of the rate, it falls to its floor of
    1e-6, and the counts are Poisson distributed.

    Args:
        decoder: Maps positions (batch, dim) to g (batch, \*obs); by default the model's.
        initial_dispersion: Initial dispersion :math:`\alpha`, above 1e-6.
        exposure: Name or number of the column of ``data.inputs`` that multiplies :math:`\lambda`, as in
            `PoissonEmission`.

    Raises:
        DataError: When `initial_dispersion` is not above 1e-6, or `exposure` is neither a name nor a number.
    """

    exposure: str | int | None = None

    def __init__(
        self,
        decoder: nn.Module | None = None,
        *,
        initial_dispersion: float = 0.1,
        exposure: str | int | None = None,
    ) -> None:
        super().__init__(decoder)
        keep_exposure(self, exposure)
        is_above = is_positive(initial_dispersion) and initial_dispersion > _FLOOR
        require(is_above, "initial_dispersion", f"a number above {_FLOOR:g}", initial_dispersion)
        self.units = Standardise()
        self.log_dispersion = nn.Parameter(torch.tensor(math.log(initial_dispersion - _FLOOR)))
        shape_by_data(self, "log_dispersion")

    @property
    def dispersion(self) -> Tensor:
        r"""The dispersion :math:`\alpha`, one number per variable."""
        return _FLOOR + self.log_dispersion.exp()

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Negative binomial with mean rates around those of training, given `decoded` (..., \*obs)."""
        return NegativeBinomialCounts(log_rates(decoded, self.units), self.dispersion, validate_args=False)

    @property
    def raw_inputs(self) -> tuple[str | int, ...]:
        """The exposure."""
        return () if self.exposure is None else (self.exposure,)

    def under_inputs(self, law: Any, data: Sequences, steps: slice) -> dist.TorchDistribution:
        """The law of counts at the exposures of some steps, from the law at exposure 1."""
        return under_exposure(law, self.exposure, data, steps)

    def check(self, data: Sequences) -> None:
        """Refuse values that are not counts, and exposures that are not positive."""
        require_counts(data, "NegativeBinomialEmission")
        if self.exposure is not None:
            require_exposures(self.exposure, data)

    def adapt(self, data: Sequences) -> None:
        """Set mean and deviation from the observed entries; with an exposure, those of rates."""
        take_rates(self.units, data, self.exposure)
        take_shape(self, self.units.unit.shape)
