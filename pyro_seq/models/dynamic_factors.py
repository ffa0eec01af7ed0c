"""Dynamic factors: a few hidden processes that drive all variables of a table, at any times."""

from __future__ import annotations

from typing import ClassVar

import pyro
import torch
from torch import Tensor, nn

from pyro_seq._arguments import axis_sizes, is_positive, require, whole_number
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.factors_given_series import FactorsGivenSeries
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.ornstein_uhlenbeck import OrnsteinUhlenbeck
from pyro_seq.errors import ShapeError
from pyro_seq.model import SequenceModel
from pyro_seq.nn.emission import GaussianEmission
from pyro_seq.ops.kalman import LinearGaussianParameters


@rebuildable
class DynamicFactors(SequenceModel):
    r"""A table of variables over time, driven by a few factors that come and go, each at its own pace.

    Generative model::

        factors         ~ OrnsteinUhlenbeck(timescales)             independent, of variance 1, in continuous time
        x_t | factors_t ~ Normal(bias + loadings factors_t, noise)  each variable in its own unit and with its own noise

    Guide::

        factors | x     = the exact posterior, by Kalman filter and smoother

    The bound is therefore the evidence itself, training is maximum likelihood, and predictions are exact: of hidden
    entries, of whole hidden steps, and of the future. Times may be irregular, any entry may be missing, and variables
    may have any units. Use it first for a clinical or sensor table; `ODELEBM` or `ODE2VAE` pay where the dynamics are
    no mixture of fading factors.

    Cost: one filter pass a step, linear in time and in variables, cubic in the number of factors.

    Args:
        obs_shape: ``(variables,)``.
        num_factors: Number of factors.
        shortest, longest: Timescales at the start, from the shortest to the longest, evenly in logarithm, in typical
            intervals of the training data; all are learned.

    Raises:
        ShapeError: When an observation is no vector.
        DataError: When a size or a timescale is out of range.

    Example:
        >>> model = DynamicFactors(obs_shape=(5,), num_factors=3)
        >>> [round(time, 1) for time in model.timescales.tolist()]
        [1.0, 5.5, 30.0]

    References:
        Durbin, Koopman, "Time series analysis by state space methods", 2nd edition, 2012, section 3.7.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"factors": ("time", "factor")}

    def __init__(
        self, obs_shape: tuple[int, ...], num_factors: int = 8, *, shortest: float = 1.0, longest: float = 30.0
    ) -> None:
        super().__init__()
        obs_shape = axis_sizes(obs_shape, "obs_shape")
        if len(obs_shape) != 1:
            raise ShapeError(
                f"`obs_shape` must be (variables,): factors drive a table. Got {obs_shape}. For images use "
                "`KalmanVAE`, `ODE2VAE` or `SRVP`."
            )
        self.obs_shape, self.num_factors = obs_shape, whole_number(num_factors, "num_factors", 1)
        require(is_positive(shortest), "shortest", "a positive number", shortest)
        require(is_positive(longest) and longest >= shortest, "longest", "a number from `shortest` on", longest)
        self.shortest, self.longest = shortest, longest
        ends = torch.tensor([shortest, longest]).log()
        self.log_timescales = nn.Parameter(torch.linspace(float(ends[0]), float(ends[1]), num_factors))
        loadings = nn.Linear(num_factors, obs_shape[0])
        with torch.no_grad():
            loadings.weight.normal_(0.0, 0.3)
            loadings.bias.zero_()
        self.emission = GaussianEmission(loadings)

    @property
    def timescales(self) -> Tensor:
        """Times (factor,) after which the correlation of a factor with itself is 1 / e, in units of `time_scale`."""
        return self.log_timescales.exp()

    @property
    def reads_series(self) -> bool:
        """False: the guide is exact, whatever is hidden."""
        return False

    def model(self, data: Sequences) -> None:
        """Draw the factors, and emit all variables from them."""
        self.bind()
        with self.series(data):
            factors = self.sample_path("factors", self.prior(data), data)
            self.observe(self.emission, factors, data)

    def guide(self, data: Sequences) -> None:
        """Draw the factors from their exact posterior."""
        self.bind()
        data = data.seen()
        with self.series(data):
            pyro.sample("factors", self.encode(data))

    def prior(self, data: Sequences) -> OrnsteinUhlenbeck:
        """Law of the factors at the seen steps: batch (series,), event (time, factor)."""
        correlation = self._correlation(data)
        return OrnsteinUhlenbeck(correlation, data.num_steps, valid=self.valid(data))

    def encode(self, data: Sequences) -> FactorsGivenSeries:
        """Posterior of the factors given the seen entries: batch (series,), event (time, factor)."""
        data = data.seen()
        units, loadings = self.emission.units, self.emission.decoder
        assert isinstance(loadings, nn.Linear)
        correlation = self._correlation(data)
        noise = (self.emission.scale / units.unit).expand(self.obs_shape)
        linear = LinearGaussianParameters(
            transition=correlation.diag_embed(),
            transition_cov=(1 - correlation.square()).diag_embed(),
            observation=loadings.weight,
            observation_cov=noise.square().diag_embed(),
            initial_mean=correlation.new_zeros(self.num_factors),
            initial_cov=torch.eye(self.num_factors, dtype=correlation.dtype, device=correlation.device),
        )
        mask = data.entry_mask
        values = torch.where(mask, units(data.values) - loadings.bias, 0.0)
        return FactorsGivenSeries(LinearGaussian(linear, data.num_steps, mask=mask), values, self.prior(data))

    def coords(self, data: Sequences) -> dict[str, list]:
        """Factors by number."""
        return {"factor": [f"factor_{number}" for number in range(self.num_factors)]}

    def _correlation(self, data: Sequences) -> Tensor:
        """Correlation of each step with the one before, (time, factor) or (series, time, factor)."""
        return torch.exp(-self.model_gaps(data)[..., None] / self.timescales)
