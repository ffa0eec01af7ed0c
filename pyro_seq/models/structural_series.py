"""``StructuralSeries``: a series as a sum of components, each with a meaning, and noise; exact by the Kalman filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._arguments import is_positive, require
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.model import SequenceModel
from pyro_seq.nn.components.assembly import Grid, assemble, contributions
from pyro_seq.nn.components.component import Component, Structure
from pyro_seq.nn.components.parameter import Parameter, positive
from pyro_seq.nn.components.series_units import SeriesUnits
from pyro_seq.ops._time_unit import EVEN, rounding
from pyro_seq.ops.kalman import LinearGaussianParameters

# without a floor the likelihood of a series that holds no surprise, such as a constant one, has no maximum
_NOISE = Parameter("scale", positive(0.3, floor=1e-3), "change")


@rebuildable
class StructuralSeries(SequenceModel):
    r"""Series of one variable as a sum of components with a meaning, such as a trend and a season, and noise.

    Generative model, with the states of all components integrated out exactly::

        coordinates ~ Normal(0, I)                            shared by all series; each gives a parameter
        component   ~ linear Gaussian state-space model       of each series, given the parameters
        x_t         ~ Normal(sum of components, noise_scale)

    Guide::

        coordinates ~ Normal(loc, covariance)                 with all correlations

    The likelihood is that of the Kalman filter with an exactly diffuse start, as in Durbin and Koopman and in
    statsmodels. Fit it by ``MCMC(NUTS(), ...)`` for the posterior, by `Mode` for the maximum of it or of the
    likelihood, or by `SVI`. Every prediction carries draws of the ``components`` (sample, series, time, component), the
    horizon included, and of the parameters by name, in the unit of the data. Any entries may be missing.

    **Time.** Whatever is said of steps, such as a period or the scale of what a step adds, counts steps of `step` time
    stamps; when absent, of the typical interval of the training data. Components on whole steps refuse other gaps.

    **Priors** are wide: scales are log-normal, within a factor of 50 of a median that is a share of how much the
    training data change from one step to the next, or of their spread. They are part of the model; `Mode` can leave
    them out. The noise is at least a thousandth of that change.

    Cost: one filter pass for each evaluation, linear in the steps and cubic in the number of states.

    Args:
        components: A component of `pyro_seq.nn.components` or a sum of some, ``Trend() + Seasonal(12)``.
        step: Length of a step in the unit of ``data.times``, which for dates is seconds.

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

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"coordinates": ("parameter",), "components": ("time", "component")}

    def __init__(self, components: Component | Structure, *, step: float | None = None) -> None:
        super().__init__()
        require(
            isinstance(components, Component | Structure),
            "components",
            "a component of `pyro_seq.nn.components` or a sum of some, such as `Trend() + Seasonal(12)`",
            components,
        )
        require(step is None or is_positive(step), "step", "a positive number of time stamps", step)
        self.obs_shape = (1,)
        self.components = components if isinstance(components, Structure) else Structure((components,))
        self.step = step
        self.is_conditional = any(not part.is_stationary for part in self.components.components)
        self.has_inputs = any(part.num_inputs > 0 for part in self.components.components)
        self.units = SeriesUnits()
        self.loc = nn.Parameter(torch.zeros(len(self.names)))
        # the root of the covariance: its lower part, with the logarithm of its diagonal
        self.root = nn.Parameter(torch.diag(torch.full((len(self.names),), -1.0)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the coordinates."""
        parts = self.components.components
        own = [f"{part.name}_{parameter.name}" for part in parts for parameter in part.parameters()]
        return (*own, "noise_scale")

    @property
    def reads_series(self) -> bool:
        """False: the guide knows the parameters only."""
        return False

    # ------------------------------------------------------------------ programs

    def model(self, data: Sequences) -> None:
        """Draw the parameters; the series follow with their states integrated out."""
        self.bind()
        eye = torch.eye(len(self.names), dtype=self.loc.dtype, device=self.loc.device)
        coordinates = pyro.sample("coordinates", dist.MultivariateNormal(torch.zeros_like(eye[0]), scale_tril=eye))
        if coordinates.ndim == 2:  # (sample, parameter), as `Predictive` has them of a guide without sites of series
            coordinates = coordinates[:, None]
        for name, value in self.parameters_at(coordinates).items():
            pyro.deterministic(name, value)
        path = self.path(coordinates, data)
        with self.series(data):
            pyro.sample("x", path, obs=data.values)
            if data.horizon:
                pyro.sample("x_future", path.future(data.values, data.horizon))

    def guide(self, data: Sequences) -> None:
        """Draw the parameters from a normal distribution of their coordinates."""
        self.bind()
        root = self.root.tril(-1) + self.root.diagonal().exp().diag_embed()
        pyro.sample("coordinates", dist.MultivariateNormal(self.loc, scale_tril=root))

    def path(self, coordinates: Tensor, data: Sequences) -> LinearGaussian:
        r"""Law of the observations given parameters (\*batch, parameter): batch (series,), event (time, 1)."""
        parameters = self.system(coordinates, data)
        mask = None if bool(data.mask.all()) else data.entry_mask
        return LinearGaussian(parameters, data.num_steps, mask=mask, batch_shape=data.values.shape[:1])

    def system(self, coordinates: Tensor, data: Sequences) -> LinearGaussianParameters:
        r"""The state-space model of all components given parameters (\*batch, parameter), at all of ``data.times``."""
        self._require_whole_steps(data)
        if coordinates.ndim > 2 and bool((coordinates == coordinates[:1]).all()):
            coordinates = coordinates[:1]  # draws that are all alike, as those of a point, share one filter
        *values, noise = self._values(coordinates)
        times = self.exact_times(data)
        grid = Grid.of(times, data.inputs, data.dtype, 2 * rounding(data.times) / float(self.time_scale))
        return assemble(self.components, values, noise["scale"], grid, self.units)

    def integrated_out(self, data: Sequences, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draws of the paths of all components over all times, given what is seen of the series."""
        coordinates = latents["coordinates"][:, None]
        parameters = self.system(coordinates, data)
        steps, horizon = data.times.shape[-1], data.horizon
        values, mask = (nn.functional.pad(part, (0, 0, 0, horizon)) for part in (data.values, data.entry_mask))
        path = LinearGaussian(parameters, steps, mask=mask)
        states = path.sample_states(values.expand(len(coordinates), -1, -1, -1), 1)[0]
        return {"components": contributions(self.components, parameters, states)}

    def coords(self, data: Sequences) -> dict[str, list]:
        """Names of the parameters and of the components."""
        return {"parameter": list(self.names), "component": [part.name for part in self.components.components]}

    # ------------------------------------------------------------------ parameters

    def parameters_at(self, coordinates: Tensor) -> dict[str, Tensor]:
        """Parameters by name, (...) each, in the unit of the data, given coordinates (..., parameter)."""
        *values, noise = self._values(coordinates)
        found: dict[str, Tensor] = {}
        for part, own in zip(self.components.components, values, strict=True):
            found |= {f"{part.name}_{name}": value.squeeze(-1) for name, value in part.report(own).items()}
        return found | {"noise_scale": noise["scale"].squeeze(-1)}

    def coordinates_of(self, parameters: Mapping[str, float]) -> Tensor:
        """Coordinates (parameter,) of parameters in the unit of the data, such as published ones.

        Raises:
            DataError: When a name is unknown or missing.
        """
        require(set(parameters) == set(self.names), "parameters", f"named {list(self.names)}", list(parameters))
        units = self._units()
        given = (self.loc.new_tensor(parameters[name]) for name in self.names)
        coordinates = [one.coordinate(value, units) for one, value in zip(self._own_parameters(), given, strict=True)]
        return torch.stack(coordinates).detach()

    def _own_parameters(self) -> list[Parameter]:
        return [parameter for part in self.components.components for parameter in part.parameters()] + [_NOISE]

    def _units(self) -> dict[str, Tensor]:
        return {"spread": self.units.spread, "change": self.units.change}

    def _values(self, coordinates: Tensor) -> list[dict[str, Tensor]]:
        """Parameters of each component, and those of the noise, by name, (..., 1) each."""
        units, column = self._units(), iter(coordinates.split(1, -1))
        found = []
        for parameters in (*(part.parameters() for part in self.components.components), (_NOISE,)):
            found.append({one.name: one.value(next(column), units) for one in parameters})
        return found

    # ------------------------------------------------------------------ data

    def adapt(self, data: Sequences) -> None:
        """Take the length of a step, where none was given, and the units of the values."""
        super().adapt(data)
        self._require_whole_steps(data)

    def _take_time(self, data: Sequences) -> None:
        if self.step is None:
            super()._take_time(data)
        else:
            self.time_scale.fill_(self.step)
            self._has_time_unit = True

    def check(self, data: Sequences) -> None:
        """Refuse other observation shapes or inputs, and series with fewer entries than states of unknown start."""
        super().check(data)
        parts = self.components.components
        wanted = sum(part.num_inputs for part in parts)
        size = 0 if data.inputs is None else data.inputs.shape[-1]
        if size != wanted:
            raise ShapeError(
                f"`data.inputs` must have {wanted} entries a step, as many as the components read. Got {size}. Pass "
                f"them to `Sequences(..., inputs=...)`, or name their number: `Regression({size or 1})`."
            )
        unknown = sum(part.state_dim for part in parts if not part.is_stationary)
        seen = data.entry_mask.flatten(1).sum(-1)
        if bool((seen < unknown).any()):
            series = int(seen.argmin())
            raise DataError(
                f"`data` must have at least {unknown} observed entries in each series, as many as there are states of "
                f"unknown start. Got {int(seen[series])} in series {series}. Observe more, leave such series out, or "
                "use fewer components or harmonics."
            )
        if data.horizon and self._has_units:
            self._require_whole_steps(data)

    def check_units(self, data: Sequences) -> None:
        """Refuse gaps that are no whole number of steps where a component needs that; warn of another unit of time."""
        if self.step is None:  # else it was said, and need not be guessed
            super().check_units(data)
        if self._has_units:
            self._require_whole_steps(data)

    def _require_whole_steps(self, data: Sequences) -> None:
        strict = [part for part in self.components.components if part.has_whole_steps]
        gaps = data.times.diff(dim=-1) / self.time_scale
        off = (gaps - gaps.round().clamp(min=1)).abs()
        if strict and bool((off > EVEN + 2 * rounding(data.times) / self.time_scale).any()):
            raise DataError(
                f"`data.times` must have gaps of whole steps of {float(self.time_scale):g} for "
                f"{type(strict[0]).__name__}. Got a gap of {float(gaps.flatten()[off.argmax()]):g} steps. Name the "
                "step that they share, `StructuralSeries(..., step=...)`, put months on a grid by "
                "`Sequences.from_dataframe(..., freq='MS')`, or take components for gaps of any length: `Level`, "
                "`SmoothTrend`, `Seasonal` with fewer harmonics, `Cycle`."
            )
