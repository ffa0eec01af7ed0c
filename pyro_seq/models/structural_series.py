"""``StructuralSeries``: a series as a sum of interpretable components and noise; exact by the Kalman filter."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._arguments import is_positive, require
from pyro_seq._host import on_host
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.model import SequenceModel
from pyro_seq.nn.components.assembly import Grid, assemble, contributions
from pyro_seq.nn.components.component import Component, Structure
from pyro_seq.nn.components.noise import GaussianNoise, Noise, StudentTNoise
from pyro_seq.nn.components.requirements import require_entries, require_inputs, require_whole_steps
from pyro_seq.nn.components.series_units import SeriesUnits
from pyro_seq.nn.components.sharing import Common, Shared, Sharing
from pyro_seq.nn.components.table import ParameterTable
from pyro_seq.nn.encoder import SeriesEncoder
from pyro_seq.nn.informed import sight
from pyro_seq.nn.variogram import VariogramEncoder
from pyro_seq.ops._time_unit import EVEN, rounding
from pyro_seq.ops.kalman import LinearGaussianParameters


@rebuildable
class StructuralSeries(SequenceModel):
    r"""Series of one variable as a sum of interpretable components, such as a trend and a season, and noise.

    Generative model, with the states of all components integrated out exactly::

        coordinates ~ Normal(0, I)                            of all series or of each; each gives a parameter
        component   ~ linear Gaussian state-space model       of each series, given the parameters
        x_t         ~ Normal(sum of components, noise_scale)  or Student's t

    Guide::

        coordinates ~ Normal(loc, covariance)                 of all series; Normal(encoder(x)) of each
        weights     ~ Gamma                                   of each entry given these, under Student's t

    The likelihood is that of the Kalman filter with an exactly diffuse start, as in statsmodels. Fit it with
    ``MCMC(NUTS(), ...)`` for the posterior, with `Mode` for the mode of the posterior or of the likelihood, or with
    `SVI`. Every prediction contains draws of the ``components`` (sample, series, time, component), including the
    horizon, and of the parameters by name, in the unit of the data. Any entries may be missing.

    **Several series** have separate states and, by default, the same parameters; another `sharing` gives each series
    separate parameters. Draws of MCMC and `Mode` then do not apply to other series; the guide of `SVI` does.

    **Outliers.** With ``noise=StudentTNoise()`` each entry has a weight, and given the weights the model is Gaussian.
    The guide uses the optimal weights given the parameters, found in a few rounds of smoothing; the bound lies below
    the evidence.

    **Time.** Everything that refers to steps, such as a period or the scale of a change per step, uses steps of length
    `step`, by default the typical interval of the training data. Components on whole steps raise for other gaps.

    **Priors** are wide: scales are log-normal, within a factor of 50 of their median, which is a fraction of the
    typical change per step in the training data, or of their spread; the noise is at least 1/1000 of that change. The
    priors are part of the model; `Mode` can leave them out.

    Cost: one filter pass per evaluation, linear in the steps and cubic in the number of states.

    Args:
        components: A component of `pyro_seq.nn.components` or a sum of some, ``Trend() + Seasonal(12)``.
        step: Length of a step in the unit of ``data.times``, which is seconds for dates.
        sharing: `Shared`, `PerSeries` or `Hierarchical`: whether series share parameters.
        noise: `GaussianNoise` or `StudentTNoise`.
        encoder: Encoder by which the guide reads per-series parameters; a `VariogramEncoder` by default.

    Raises:
        DataError: When an argument is of another type or out of range.

    Example:
        >>> from pyro_seq.nn.components import Level, Seasonal
        >>> model = StructuralSeries(Level() + Seasonal(12, harmonics=2))
        >>> model.names
        ('level_scale', 'seasonal_scale', 'noise_scale')

    References:
        Harvey, "Forecasting, structural time series models and the Kalman filter", 1989. Durbin, Koopman, "Time series
        analysis by state space methods", 2nd edition, 2012.
    """

    # class attributes hold the defaults, because earlier files lack these options
    sharing: Sharing = Shared()
    noise: Noise = GaussianNoise()
    encoder: SeriesEncoder
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        **dict.fromkeys(("coordinates", "common", "spread", "deviations"), ("parameter",)),
        "weights": ("time", "entry"),
        "components": ("time", "component"),
    }

    def __init__(
        self,
        components: Component | Structure,
        *,
        step: float | None = None,
        sharing: Sharing = Shared(),
        noise: Noise = GaussianNoise(),
        encoder: SeriesEncoder | None = None,
    ) -> None:
        super().__init__()
        is_sum = isinstance(components, Component | Structure)
        require(is_sum, "components", "components of `pyro_seq.nn.components`, `Trend() + Seasonal(12)`", components)
        require(step is None or is_positive(step), "step", "a positive number of time stamps", step)
        require(isinstance(sharing, Sharing), "sharing", "`Shared()`, `PerSeries()` or `Hierarchical()`", sharing)
        require(isinstance(noise, Noise), "noise", "`GaussianNoise()` or `StudentTNoise()`", noise)
        self.obs_shape = (1,)
        self.components = components if isinstance(components, Structure) else Structure((components,))
        self.step = step
        if sharing != self.sharing:
            self.sharing = sharing
        if noise != self.noise:
            self.noise = noise
        self.is_conditional = any(not part.is_stationary for part in self.components.components)
        self.has_inputs = any(part.num_inputs > 0 for part in self.components.components)
        self.units = SeriesUnits()
        size = len(self.names)
        if sharing.shared:
            self.loc = nn.Parameter(torch.zeros(size))
            # Cholesky factor of the covariance: its lower part, with the logarithm of its diagonal
            self.root = nn.Parameter(torch.diag(torch.full((size,), -1.0)))
        if sharing.is_learned:
            self.log_spread = nn.Parameter(torch.full((size,), -1.5))
            self.log_spread_scale = nn.Parameter(torch.full((size,), -1.0))
        is_fit = encoder is None or (bool(sharing.own) and encoder.dim == size)
        require(is_fit, "encoder", f"one with `dim` {size}, of parameters that series have of their own", encoder)
        if sharing.own:
            self.encoder = VariogramEncoder(size) if encoder is None else encoder

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the coordinates."""
        return self._table.names

    @property
    def reads_series(self) -> bool:
        """Whether the guide reads series: only if there are per-series parameters."""
        return bool(self.sharing.own)

    @property
    def sites_without_mode(self) -> tuple[str, ...]:
        """Latents that scale other latents."""
        return ("spread",) * self.sharing.is_learned + ("weights",) * self.noise.has_weights

    # ------------------------------------------------------------------ programs

    def model(self, data: Sequences) -> None:
        """Draw the parameters, then the series with their states integrated out."""
        self.bind()
        common = self.sharing.common(self.units.spread.new_zeros(len(self.names)))
        if not self.sharing.own:
            self._show(common.place)
        with self.series(data):
            coordinates, weights = self.sharing.coordinates(common), None
            if self.sharing.own:
                self._show(coordinates)
            if isinstance(self.noise, StudentTNoise):
                law = self.noise.weights(self._table.values(coordinates, self.units).noise, data)
                weights = self.sample_path("weights", law, data)
            path = self.path(coordinates, data, weights)
            pyro.sample("x", path, obs=data.values)
            if data.horizon:
                pyro.sample("x_future", path.future(data.values, data.horizon))

    def guide(self, data: Sequences) -> None:
        """Draw shared parameters from a normal, per-series parameters from the encoder, and the weights given both."""
        self.bind()
        data = data.seen()
        zeros = self.units.spread.new_zeros(len(self.names))
        common = Common(zeros, torch.ones_like(zeros))
        if self.sharing.shared:
            root = self.root.tril(-1) + self.root.diagonal().exp().diag_embed()
            place = pyro.sample(self.sharing.shared, dist.MultivariateNormal(self.loc, scale_tril=root))
            common = self.sharing.around(place)
        if self.sharing.is_learned:
            law = dist.LogNormal(self.log_spread, self.log_spread_scale.exp()).to_event(1)
            common = common._replace(spread=pyro.sample("spread", law))
        if not self.sharing.own and not self.noise.has_weights:
            return
        with self.series(data):
            coordinates = common.place
            if self.sharing.own and common.spread is not None:
                times = self.exact_times(data).expand(data.num_series, -1)
                evidence = self.encoder(data.values, data.entry_mask, times).base_dist
                own = common.given(evidence, sight(self.encoder, data.entry_mask))
                coordinates = common.place + common.spread * pyro.sample(self.sharing.own, own)
            if isinstance(self.noise, StudentTNoise):
                values = self._table.values(coordinates, self.units).noise
                law_given = functools.partial(self.path, coordinates, data)
                pyro.sample("weights", self.noise.weights_given(law_given, values, data))

    def path(self, coordinates: Tensor, data: Sequences, weights: Tensor | None = None) -> LinearGaussian:
        r"""Distribution of the observations given parameters (\*batch, parameter): batch (series,), event (time, 1).

        With Student-t noise it is also conditional on `weights`, (\*batch, time, 1) over all of ``data.times``.
        """
        parameters = self.system(coordinates, data, weights)
        mask = None if bool(on_host(data.mask).all()) else data.entry_mask
        return LinearGaussian(parameters, data.num_steps, mask=mask, batch_shape=data.values.shape[:1])

    def system(self, coordinates: Tensor, data: Sequences, weights: Tensor | None = None) -> LinearGaussianParameters:
        r"""The state-space model of all components given parameters (\*batch, parameter), at all of ``data.times``."""
        self._require_whole_steps(data)
        if coordinates.ndim > 2 and bool((coordinates == coordinates[:1]).all()):
            coordinates = coordinates[:1]  # identical draws, as from a point, share one filter
        components, noise = self._table.values(coordinates, self.units)
        variance = noise["scale"].square()[..., None, None]
        times = self.exact_times(data)
        grid = Grid.of(times, data.inputs, data.dtype, 2 * rounding(data.times) / float(on_host(self.time_scale)))
        if weights is not None:
            variance = variance / weights[..., None]
        return assemble(self.components, components, variance, grid, self.units)

    def integrated_out(self, data: Sequences, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draws of the paths of all components over all times, given the seen entries."""
        coordinates = latents["coordinates"] if self.sharing.own else latents["coordinates"][:, None]
        weights = [latents[name] for name in ("weights", "weights_future") if name in latents]
        parameters = self.system(coordinates, data, torch.cat(weights, -2) if weights else None)
        steps, horizon = data.times.shape[-1], data.horizon
        values, mask = (nn.functional.pad(part, (0, 0, 0, horizon)) for part in (data.values, data.entry_mask))
        path = LinearGaussian(parameters, steps, mask=mask)
        states = path.sample_states(values.expand(len(coordinates), -1, -1, -1), 1)[0]
        return {"components": contributions(self.components, parameters, states)}

    def numbers_per_entry(self, draws: Mapping[str, Tensor]) -> int:
        """Several state covariances per entry and draw; identical draws share one filter."""
        is_one = all(bool((draw == draw[:1]).all()) for draw in draws.values())
        return 1 if is_one else 8 * sum(part.state_dim for part in self.components.components) ** 2

    def coords(self, data: Sequences) -> dict[str, list]:
        """Names of the parameters and of the components."""
        return {"parameter": list(self.names), "component": [part.name for part in self.components.components]}

    # ------------------------------------------------------------------ parameters

    def parameters_at(self, coordinates: Tensor) -> dict[str, Tensor]:
        """Parameters by name, (...) each, in the unit of the data, at coordinates (..., parameter)."""
        return self._table.report(coordinates, self.units)

    def coordinates_of(self, parameters: Mapping[str, float | Tensor]) -> Tensor:
        """Coordinates (..., parameter) of parameters (...) in the unit of the data, such as published values.

        Raises:
            DataError: When a name is unknown or missing.
        """
        return self._table.coordinates(parameters, self.units)

    @property
    def _table(self) -> ParameterTable:
        return ParameterTable(self.components, self.noise)

    def _show(self, coordinates: Tensor) -> None:
        """Include the parameters in predictions, per series where they are not shared."""
        event = 0 if self.sharing.own else None
        if self.sharing.own not in ("", "coordinates"):
            pyro.deterministic("coordinates", coordinates, event_dim=1)
        for name, value in self.parameters_at(coordinates).items():
            pyro.deterministic(name, value, event_dim=event)

    # ------------------------------------------------------------------ data

    def adapt(self, data: Sequences) -> None:
        """Take the length of a step, unless it was given, and the units of the values."""
        super().adapt(data)
        self._require_whole_steps(data)

    def _take_time(self, data: Sequences) -> None:
        if self.step is None:
            super()._take_time(data)
        else:
            self.time_scale.fill_(self.step)
            self._has_time_unit = True

    def check(self, data: Sequences) -> None:
        """Raise for other observation shapes or inputs, and for series with fewer entries than diffuse states."""
        super().check(data)
        require_inputs(self.components, data)
        require_entries(self.components, data)
        if data.horizon and self._has_units:
            self._require_whole_steps(data)

    def check_units(self, data: Sequences) -> None:
        """Raise if a component needs gaps of whole steps and they are not; warn if the unit of time differs."""
        if self.step is None:  # otherwise the user gave it
            super().check_units(data)
        if self._has_units:
            self._require_whole_steps(data)

    def _require_whole_steps(self, data: Sequences) -> None:
        tolerance = EVEN + 2 * rounding(data.times) / float(on_host(self.time_scale))
        require_whole_steps(self.components, data.times, self.time_scale, tolerance)
