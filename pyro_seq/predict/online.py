"""Online filtering: a fitted model takes in one observation after another, at constant cost per step.

The state of a filter is a mean and a covariance per series, so past observations need not be kept. It is exact for
models whose observations have a linear Gaussian law, `SequenceModel.marginal`; for models whose guide reads frames one
by one, such as `KalmanVAE`, it is exact given draws of the codes of frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyro_seq._arguments import require, seed_number, whole_number
from pyro_seq._process import one_at_a_time
from pyro_seq._random import isolated_rng
from pyro_seq.data import Labels, Sequences
from pyro_seq.data._validation import as_times
from pyro_seq.data.calendar import Calendar
from pyro_seq.door import require_data, require_posterior, require_type
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.model import SequenceModel
from pyro_seq.ops._time_unit import EVEN, rounding
from pyro_seq.posterior import Posterior, Prediction, prediction_context
from pyro_seq.predict._filters import Filter, Known, filter_of
from pyro_seq.predict.finite import about_numbers, require_finite


@dataclass(frozen=True, eq=False, repr=False)
class FilterState:
    r"""The filtering distribution of each series after its last step: Gaussian, given latents shared by all series.

    If the guide reads codes of frames, it is Gaussian given the codes so far; each sample has separate draws of them.

    Attributes:
        rule: How to take in a step: the model, and draws of the latents that all series share.
        known: Moments of the hidden state, and everything else that the future depends on.
        ends: The first and the last time stamp, (2,) or (series, 2).
        spacing: Default time from the last step to the next, (1,) or (series, 1).
        obs_shape: Shape of one observation.
        input_dim: Number of inputs per step; 0 if the data had none.
        calendar: How dates are counted in time stamps; None if these are numbers.
        labels: Names of series and variables.
    """

    rule: Filter
    known: Known
    ends: Tensor
    spacing: Tensor
    obs_shape: tuple[int, ...]
    input_dim: int
    calendar: Calendar | None
    labels: Labels

    @property
    def model(self) -> SequenceModel:
        """The fitted model."""
        return self.rule.model

    @property
    def latents(self) -> Mapping[str, Tensor]:
        r"""Draws of the latents that all series share, (sample, 1, \*event); filtering does not update them."""
        return self.rule.latents

    @property
    def means(self) -> Tensor:
        """Means of the hidden state, (sample, series, state); one sample if neither latents nor codes are drawn."""
        return self.known.means

    @property
    def covs(self) -> Tensor:
        """Covariances of the hidden state, (sample, series, state, state)."""
        return self.known.covs

    @property
    def log_likelihood(self) -> Tensor:
        """Log density of all observed entries so far, (sample, series), in nats.

        Each observation adds its log density given the earlier ones; low values mark surprising observations. If codes
        are drawn, it is log p(x, codes) - log q(codes | x), whose mean over samples is the evidence lower bound.
        """
        return self.known.log_likelihood

    def __repr__(self) -> str:
        samples, series, size = self.means.shape
        return f"FilterState({type(self.model).__name__}, (sample {samples}, series {series}, state {size}))"


@one_at_a_time
def start_filter(posterior: Posterior, data: Sequences, *, num_samples: int = 100, seed: int = 0) -> FilterState:
    """Filter the steps seen so far; continue with `filter_step`. Cost: one pass over all steps.

    Args:
        posterior: Result of `fit` for a model whose observations have a linear Gaussian law (`DynamicFactors`, or a
            model with a `LinearGaussian` at its site ``x``) or whose guide is a `FilledPath` (such as `KalmanVAE`).
        data: Steps seen so far; a horizon is dropped.
        num_samples: Number of draws of the latents that all series share, if any, or of the codes of frames.
        seed: Seed of these draws and of the codes of later frames.

    Returns:
        The state after the last step of the grid.

    Raises:
        DataError: When the data do not fit the model, or do not determine a state with a diffuse start.
        UnsupportedError: When the observations have another law, or a law that depends on the number of earlier steps.

    Example:
        >>> state = start_filter(posterior, data.first(100))  # doctest: +SKIP
        >>> state = filter_step(state, torch.tensor([[1120.0]]))  # doctest: +SKIP
        >>> filter_forecast(state, horizon=5).mean  # doctest: +SKIP
    """
    require_posterior(posterior)
    require_data(posterior.model, data)
    data, model = data.seen(), posterior.model
    num_samples, seed = whole_number(num_samples, "num_samples", 1), seed_number(seed)
    with prediction_context(model), about_numbers():
        rule = filter_of(posterior, data, num_samples, seed)
        known = rule.start(data)
    means = known.means
    if not bool(means.isfinite().all()):
        series = int((~means.isfinite()).any(-1).reshape(-1, len(data)).any(0).nonzero()[0])
        raise DataError(
            "`data` must determine the hidden state, of whose start nothing is known. Got too few observed entries in "
            f"series {series}. Start the filter with more steps."
        )
    times = data.times
    spacing = times.diff(dim=-1).median(-1, keepdim=True).values if data.num_steps > 1 else model.time_scale[None]
    return FilterState(
        rule,
        known,
        ends=times[..., [0, -1]],
        spacing=spacing,
        obs_shape=data.obs_shape,
        input_dim=_input_dim(data),
        calendar=data.calendar,
        labels=data.labels,
    )


@one_at_a_time
def filter_step(
    state: FilterState,
    values: Any,
    time: Any = None,
    *,
    mask: Any | None = None,
    inputs: Any | None = None,
) -> FilterState:
    r"""Take in one more observation of each series. Cost: one step, independent of the number of earlier steps.

    The parameters and the latents that all series share are not updated.

    Args:
        state: Result of `start_filter` or of this function; not modified.
        values: One observation of each series (series, \*obs); NaN marks a missing entry when no `mask` is given.
        time: Its time stamp or date, one for all or (series,); by default one `spacing` after the last step.
        mask: True where observed, (series,) or (series, \*obs).
        inputs: Inputs at this step (series, input_dim), for a model that reads inputs.

    Returns:
        The state after this step.

    Raises:
        ShapeError: When shapes do not fit.
        DataError: When the time is not later than the last one or, for a model that counts steps, off its grid, or
            values are infinite.
        NumericalError: When the covariance of the observation is not positive definite.

    Warns:
        UserWarning: When values or inputs lie far outside the range of the training data.
    """
    require_type(state, FilterState, "state")
    values = torch.as_tensor(values, dtype=state.means.dtype if isinstance(values, list | tuple) else None)
    series = state.means.shape[1]
    if values.ndim < 2 or len(values) != series:
        raise ShapeError(
            f"`values` must be one observation of each of {series} series, (series {series}, *obs). Got "
            f"{tuple(values.shape)}. Pass those without news as NaN."
        )
    new = Sequences(
        values[:, None].to(state.means.device),
        mask=None if mask is None else torch.as_tensor(mask)[:, None],  # type: ignore[arg-type]
        times=_next_times(state, time),
        inputs=None if inputs is None else torch.as_tensor(inputs)[:, None],
    )
    grid = _after_the_ends(state, new)
    state.model.check_range(new)
    with prediction_context(state.model), about_numbers():
        known = state.rule.take_in(state.known, grid)
    return replace(state, known=known, ends=grid.times[..., [0, -1]])


@one_at_a_time
def filter_forecast(
    state: FilterState,
    *,
    horizon: int | None = None,
    times: Any | None = None,
    inputs: Any | None = None,
    num_samples: int = 100,
    seed: int = 0,
) -> Prediction:
    r"""Draw the future of each series from the state of a filter. Cost: the horizon only.

    Args:
        state: Result of `start_filter` or `filter_step`.
        horizon: Number of steps after the last one, `spacing` apart.
        times: Future time stamps (horizon,) or (series, horizon), or dates, in place of `horizon`.
        inputs: Inputs over the horizon (series, horizon, input_dim).
        num_samples: Number of draws.
        seed: Seed of the draws.

    Returns:
        Draws over the horizon, as from `forecast`. ``emission_means`` are the exact means given the latents that all
        series share; with codes, they are the means given the returned codes and states of the horizon.

    Raises:
        DataError: When not exactly one of `horizon` and `times` is given, or times are not later than the last one.
        NumericalError: When draws are not finite.
    """
    require_type(state, FilterState, "state")
    num_samples, seed = whole_number(num_samples, "num_samples", 1), seed_number(seed)
    if (horizon is None) == (times is None):
        raise DataError("`filter_forecast` needs exactly one of `horizon` and `times`. Give the one you know.")
    if times is None:
        ahead = torch.arange(1, whole_number(horizon, "horizon", 1) + 1).to(state.ends)
        times = state.ends[..., -1:] + state.spacing.to(state.ends) * ahead
    times = as_times(times, state.ends.device, state.calendar)
    hidden = state.means.new_full((state.means.shape[1], times.shape[-1], *state.obs_shape), torch.nan)
    grid = _after_the_ends(state, Sequences(hidden, times=times, inputs=inputs))
    with prediction_context(state.model), isolated_rng(seed), about_numbers():
        draws, means, latents = state.rule.ahead(state.known, grid, times.shape[-1], num_samples)
        require_finite(draws, means, times)
    return Prediction(draws, means, latents, times, state.labels, state.calendar)


# ---------------------------------------------------------------------- the grid


def _next_times(state: FilterState, time: Any) -> Tensor:
    """Time stamps of the next observation, (1,) or (series, 1)."""
    if time is None:
        return state.ends[..., -1:] + state.spacing.to(state.ends)
    given = time if isinstance(time, Tensor) else [time] if not hasattr(time, "__len__") else time
    times = as_times(given, state.ends.device, state.calendar, "time").reshape(-1)
    series = state.means.shape[1]
    require(len(times) in (1, series), "time", f"one for all or one for each of {series} series", time)
    return times if len(times) == 1 else times[:, None]


def _after_the_ends(state: FilterState, new: Sequences) -> Sequences:
    """Hidden first and last steps of the filter, then the new steps: the grid that the law of the new steps needs.

    Raises:
        ShapeError: When the shape of observations or inputs differs from that at the start.
        DataError: When the times do not increase, or the model counts steps and they are off its grid.
    """
    if new.obs_shape != state.obs_shape:
        raise ShapeError(f"`values` must have observations of shape {state.obs_shape}. Got {new.obs_shape}.")
    if _input_dim(new) != state.input_dim:
        raise ShapeError(
            f"`inputs` must have {state.input_dim} entries a step, as in the data that the filter was started with. "
            f"Got {_input_dim(new)}."
        )
    if new.dtype != state.means.dtype:
        raise DataError(f"`values` must be {state.means.dtype}, as the model is. Got {new.dtype}. Convert them.")
    ends, times = state.ends, new.times
    first, last = ends[..., :1], ends[..., 1:]
    ends = last if bool((first == last).all()) else ends
    if max(ends.ndim, times.ndim) == 2:
        ends, times = (part.expand(len(new), -1) for part in (ends, times))
    gaps = torch.cat([ends[..., -1:], times], -1).diff(dim=-1)
    if bool((gaps <= 0).any()):
        raise DataError(
            f"`time` must be after that of the last step. Got {float(times.flatten()[0]):g} after "
            f"{float(ends[..., -1].flatten()[0]):g}. Take observations in order, or start the filter anew."
        )
    off = (gaps - state.spacing).abs() > EVEN * state.spacing + 2 * rounding(times)
    if state.model.counts_steps and bool(off.any()):
        raise DataError(
            f"`time` must be one step of {float(state.spacing.flatten()[0]):g} after the last: "
            f"{type(state.model).__name__} counts steps. Got {float(gaps[off][0]):g}. Pass NaN for steps between."
        )

    def with_ends(part: Tensor) -> Tensor:
        return torch.cat([part.new_zeros(len(part), ends.shape[-1], *part.shape[2:]), part], 1)  # hidden steps in front

    return Sequences(
        with_ends(new.values),
        mask=with_ends(new.entry_mask),
        times=torch.cat([ends, times], -1),
        inputs=None if new.inputs is None else with_ends(new.inputs),
    )


def _input_dim(data: Sequences) -> int:
    return 0 if data.inputs is None else data.inputs.shape[-1]
