"""Emission of counts that vary more than independent events do."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._arguments import is_positive, require
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.counts import NegativeBinomialCounts
from pyro_seq.nn.counts import log_rates, require_counts
from pyro_seq.nn.emission import Emission
from pyro_seq.nn.saved_state import shape_by_data, take_shape
from pyro_seq.nn.units import Standardise

_FLOOR = 1e-6  # of the dispersion, at which counts below a hundred thousand are Poisson's


@rebuildable
class NegativeBinomialEmission(Emission):
    r"""Counts that vary more than independent events do, such as sales, visits and reads of genes.

    .. math::
        \log \lambda = \log m + \min(c / m, 1)\, g(s), \qquad
        \mathbb E[x] = \lambda, \quad \mathrm{Var}[x] = \lambda + \alpha \lambda^2

    with mean m and deviation c of each variable in training, as in `PoissonEmission`. The dispersion :math:`\alpha`,
    one number for each variable, is learned; where the latents explain all but the chance of single events it falls to
    its floor of 1e-6, and the counts are Poisson's.

    Args:
        decoder: Maps positions (batch, dim) to g (batch, \*obs); by default the model's.
        initial_dispersion: Dispersion :math:`\alpha` at the start, above 1e-6.

    Raises:
        DataError: When `initial_dispersion` is not above 1e-6.
    """

    def __init__(self, decoder: nn.Module | None = None, *, initial_dispersion: float = 0.1) -> None:
        super().__init__(decoder)
        is_above = is_positive(initial_dispersion) and initial_dispersion > _FLOOR
        require(is_above, "initial_dispersion", f"a number above {_FLOOR:g}", initial_dispersion)
        self.units = Standardise()
        self.log_dispersion = nn.Parameter(torch.tensor(math.log(initial_dispersion - _FLOOR)))
        shape_by_data(self, "log_dispersion")

    @property
    def dispersion(self) -> Tensor:
        r"""The dispersion :math:`\alpha`, one number for each variable."""
        return _FLOOR + self.log_dispersion.exp()

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Negative binomial with mean rates around those of training, by `decoded` (..., \*obs)."""
        return NegativeBinomialCounts(log_rates(decoded, self.units), self.dispersion, validate_args=False)

    def check(self, data: Sequences) -> None:
        """Refuse what is no count."""
        require_counts(data, "NegativeBinomialEmission")

    def adapt(self, data: Sequences) -> None:
        """Take mean and deviation from the observed entries."""
        self.units.adapt(data)
        take_shape(self, self.units.unit.shape)
