"""Dynamic factors: a few hidden processes in continuous time that drive all variables of a table."""

from __future__ import annotations

from collections.abc import Mapping
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
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.model import SequenceModel
from pyro_seq.nn.emission import Emission, GaussianEmission
from pyro_seq.nn.known_inputs import require_inputs
from pyro_seq.nn.loadings import OwnLoadings
from pyro_seq.nn.student_t import StudentTEmission
from pyro_seq.nn.units import StandardiseInputs
from pyro_seq.ops.kalman import LinearGaussianParameters

_ROUNDS = 4  # of reweighting: any number gives a bound, a few give a tight one; training uses one, at half the cost


@rebuildable
class DynamicFactors(SequenceModel):
    r"""A table of variables over time, driven by a few factors, each with its own timescale.

    Generative model::

        factors         ~ OrnsteinUhlenbeck(timescales)             independent, of variance 1, in continuous time
        x_t | factors_t ~ Normal(bias + loadings (factors_t, inputs_t), noise)   each variable in its own unit

    Guide::

        factors | x     = the exact posterior, by Kalman filter and smoother

    The bound is therefore the evidence itself, training is maximum likelihood, and predictions of hidden entries, of
    whole hidden steps and of the future are exact. Times may be irregular, any entry may be missing, and variables may
    have any units.

    With ``emission=StudentTEmission(minimum_scale=0.07)`` outliers weigh less. The guide is then Gaussian: the exact
    posterior when the noise of each entry is weighted by `StudentTEmission.weights`. The weights are found in a few
    rounds of smoothing (one in training), and the bound lies below the evidence.

    With many factors the noise of a variable may shrink to zero (a Heywood case): one factor then equals this
    variable, and the other factors learn little from it. The emission's `minimum_scale` bounds the noise from below;
    factor analysis often takes 0.07 standard deviations, 0.005 of the variance.

    With ``has_own_factors=True`` each variable also has its own factor with its own timescale. Otherwise, a variable
    that is measured daily beside others measured hourly is explained mostly as noise, because the shared factors fit
    the variables with the most entries.

    For a clinical or sensor table, try this model first; `ODELEBM` or `ODE2VAE` are worthwhile if the dynamics are not
    a mixture of decaying factors.

    Cost: one filter pass per training step, linear in time and in variables, cubic in the number of factors (shared
    and own).

    Args:
        obs_shape: ``(variables,)``.
        num_factors: Number of shared factors.
        input_dim: Size of ``data.inputs``, which act on every variable directly, at the same step; repeat covariates
            of a whole series at each step.
        emission: `GaussianEmission` (default) or `StudentTEmission`. Its linear decoder is made here.
        shortest, longest: Range of the initial timescales, spaced evenly on a log scale (a single factor gets the
            middle), in typical intervals of the training data. All timescales are learned.
        has_own_factors: Give each variable one more factor, which starts with the longest timescale. These follow the
            shared factors in the path, and the decoder is then an `OwnLoadings`.

    Raises:
        ShapeError: When an observation is not a vector.
        DataError: When a size or a timescale is out of range, or the emission is of another kind.

    Example:
        >>> model = DynamicFactors(obs_shape=(5,), num_factors=3)
        >>> [round(time, 1) for time in model.timescales.tolist()]
        [1.0, 5.5, 30.0]

    References:
        Durbin, Koopman, "Time series analysis by state space methods", 2nd edition, 2012, section 3.7.
        Joreskog, "Some contributions to maximum likelihood factor analysis", Psychometrika 32, 1967, on the bound.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"factors": ("time", "factor")}
    has_inputs: bool = True
    has_own_factors: bool = False

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        num_factors: int = 8,
        *,
        input_dim: int = 0,
        emission: GaussianEmission | StudentTEmission | None = None,
        shortest: float = 1.0,
        longest: float = 30.0,
        has_own_factors: bool = False,
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
        start = torch.linspace(float(ends[0]), float(ends[1]), num_factors) if num_factors > 1 else ends.mean(0, True)
        require(isinstance(has_own_factors, bool), "has_own_factors", "True or False", has_own_factors)
        if has_own_factors:
            self.has_own_factors = True
            start = torch.cat([start, ends[1].expand(obs_shape[0])])
        self.log_timescales = nn.Parameter(start)
        self.input_dim = whole_number(input_dim, "input_dim", 0)
        self.input_units = StandardiseInputs(self.input_dim) if input_dim else None
        _require_normal(emission)
        self.emission = GaussianEmission() if emission is None else emission
        kind, make = (OwnLoadings, OwnLoadings) if has_own_factors else (nn.Linear, _loadings)
        if self.emission.decoder is None:
            self.emission.decoder = make(num_factors, obs_shape[0], input_dim)
        is_linear = isinstance(self.emission.decoder, kind)
        require(is_linear, "emission.decoder", f"absent, or an `{kind.__name__}`", self.emission.decoder)

    @property
    def timescales(self) -> Tensor:
        """Times (factor,) after which a factor's autocorrelation has fallen to 1 / e, in units of `time_scale`."""
        return self.log_timescales.exp()

    @property
    def reads_series(self) -> bool:
        """False: the guide is exact for any pattern of missing entries."""
        return False

    def model(self, data: Sequences) -> None:
        """Draw the factors and emit all variables from them."""
        self.bind()
        with self.series(data):
            factors = self.sample_path("factors", self.prior(data), data)
            self.observe(self.emission, self._with_inputs(factors, data), data)

    def guide(self, data: Sequences) -> None:
        """Draw the factors from their exact posterior."""
        self.bind()
        data = data.seen()
        with self.series(data):
            pyro.sample("factors", self.encode(data))

    def prior(self, data: Sequences) -> OrnsteinUhlenbeck:
        """Prior of the factors at the seen steps: batch (series,), event (time, factor)."""
        correlation = self._correlation(data)
        return OrnsteinUhlenbeck(correlation, data.num_steps, valid=self.valid(data))

    def encode(self, data: Sequences) -> FactorsGivenSeries:
        """Posterior of the factors given the seen entries: batch (series,), event (time, factor)."""
        data = data.seen()
        weights: Tensor | None = None
        if isinstance(self.emission, StudentTEmission):
            # With the weights held fixed, near their optimum, the bound's gradient is right.
            with torch.no_grad():
                weights = torch.ones_like(data.values)
                for _ in range(1 if self.training else _ROUNDS):
                    distances = self._given(data, weights).distances() / weights
                    weights = self.emission.weights(distances / self._noise.square())
        return self._given(data, weights)

    def check(self, data: Sequences) -> None:
        """Raise if the data have other observation shapes or inputs."""
        super().check(data)
        require_inputs(data, self.input_dim, "model")

    def marginal(self, data: Sequences, latents: Mapping[str, Tensor]) -> LinearGaussian:
        """Distribution of the series in the units of the data with the factors integrated out, batch (series,).

        The level of each variable, shifted by inputs, is its loading on an additional factor that is always 1.

        Raises:
            UnsupportedError: When the noise is heavy-tailed.
        """
        if not isinstance(self.emission, GaussianEmission):
            raise UnsupportedError(
                f"The law of a series under {type(self.emission).__name__} is not Gaussian. Use `forecast` and "
                "`impute(is_causal=True)`, or a model with `GaussianEmission()`."
            )
        data = data.seen()
        units, fading = self.emission.units, self._correlation(data)
        correlation = torch.cat([fading, torch.ones_like(fading[..., :1])], -1)
        level = units.restore(self._rows.bias if self.input_units is None else self._means(data))
        loadings = units.unit.expand(self.obs_shape)[:, None] * self._rows.weight[:, : self._size]
        is_level = torch.arange(self._size + 1, device=level.device) == self._size
        linear = LinearGaussianParameters(
            transition=correlation.diag_embed(),
            transition_cov=(1 - correlation.square()).diag_embed(),
            observation=torch.cat([loadings.expand(*level.shape, -1), level[..., None]], -1),
            observation_cov=self.emission.scale.expand(self.obs_shape).square().diag_embed(),
            initial_mean=is_level.to(level),
            initial_cov=(~is_level).to(level).diag_embed(),
        )
        return LinearGaussian(linear, data.num_steps, mask=data.entry_mask)

    def coords(self, data: Sequences) -> dict[str, list]:
        """Names of the factors: shared ones by number, own ones by variable."""
        own = data.labels.of("variables", self.obs_shape) if self.has_own_factors else []
        return {"factor": [f"factor_{number}" for number in range(self.num_factors)] + [f"own_{name}" for name in own]}

    @property
    def _size(self) -> int:
        """Number of factors, including own ones."""
        return len(self.log_timescales)

    @property
    def _noise(self) -> Tensor:
        """Noise scale of each variable in the variable's unit, (variable,)."""
        return (self.emission.scale / self.emission.units.unit).expand(self.obs_shape)

    def _given(self, data: Sequences, weights: Tensor | None) -> FactorsGivenSeries:
        """Posterior under Gaussian noise, whose precision is multiplied by `weights` (series, time, variable)."""
        correlation, loadings = self._correlation(data), self._rows.weight[:, : self._size]
        values = torch.where(data.entry_mask, self.emission.units(data.values) - self._means(data), 0.0)
        if weights is not None:  # an entry of weight w equals sqrt(w) times the entry with weight 1
            values, loadings = values * weights.sqrt(), loadings * weights.sqrt()[..., None]
        linear = LinearGaussianParameters(
            transition=correlation.diag_embed(),
            transition_cov=(1 - correlation.square()).diag_embed(),
            observation=loadings,
            observation_cov=self._noise.square().diag_embed(),
            initial_mean=correlation.new_zeros(self._size),
            initial_cov=torch.eye(self._size, dtype=correlation.dtype, device=correlation.device),
        )
        return FactorsGivenSeries(
            LinearGaussian(linear, data.num_steps, mask=data.entry_mask), values, self.prior(data)
        )

    @property
    def _rows(self) -> nn.Linear | OwnLoadings:
        assert isinstance(self.emission.decoder, nn.Linear | OwnLoadings)
        return self.emission.decoder

    def _means(self, data: Sequences) -> Tensor:
        """Standardised means when all factors are 0, (series, time, variable)."""
        nothing = data.values.new_zeros(*data.mask.shape[:2], self._size)
        return self._rows(self._with_inputs(nothing, data))

    def _with_inputs(self, factors: Tensor, data: Sequences) -> Tensor:
        """Factors (..., series, time, factor) with the standardised inputs appended."""
        if self.input_units is None:
            return factors
        assert data.inputs is not None
        inputs = self.input_units(data.inputs[:, : factors.shape[-2]])
        return torch.cat([factors, inputs.expand(*factors.shape[:-1], -1)], -1)

    def _correlation(self, data: Sequences) -> Tensor:
        """Correlation of each step with the previous one, (time, factor) or (series, time, factor)."""
        return torch.exp(-self.model_gaps(data)[..., None] / self.timescales)


def _require_normal(emission: Emission | None) -> None:
    """Raise if the exact guide does not support the emission; the message names models that do."""
    is_even = not getattr(emission, "has_state_noise", False)
    if emission is not None and not (isinstance(emission, GaussianEmission | StudentTEmission) and is_even):
        came = type(emission).__name__ if is_even else "GaussianEmission(has_state_noise=True)"
        raise DataError(
            f"`emission` must be `GaussianEmission()` or `StudentTEmission()`, noise under which the posterior of the "
            f"factors has a closed form. Got {came}. Use `KalmanVAE(obs_shape, emission=...)`, or in continuous time "
            "`ODELEBM` or `ODE2VAE`, which take any emission; or model counts and positive values by their logarithms."
        )


def _loadings(num_factors: int, num_variables: int, input_dim: int) -> nn.Linear:
    """Initial loadings: small and random for the factors, so that they differ, and zero for the inputs."""
    loadings = nn.Linear(num_factors + input_dim, num_variables)
    with torch.no_grad():
        loadings.weight[:, :num_factors].normal_(0.0, 0.3)
        loadings.weight[:, num_factors:] = 0.0
        loadings.bias.zero_()
    return loadings
