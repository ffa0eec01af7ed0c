r"""Classical forecasts with intervals, for each series and entry separately. A useful model should beat them.

They read the seen entries of `given` and predict its horizon. Hidden entries are left out, so a step between seen
entries may span several intervals: errors of a random walk grow with the square root of the time between two seen
entries, and its spread is estimated from the errors divided by that root. On a grid without gaps these are the textbook
formulas.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError

_CONSTANTS = torch.arange(100, 0, -1, dtype=torch.float64) / 100  # of smoothing; ties go to the first
_COLUMNS = 2**14  # series smoothed at a time: 13 megabytes


class NormalForecast(NamedTuple):
    r"""A normal distribution for each entry of a horizon.

    Attributes:
        mean: (series, horizon, \*obs); NaN where too little was seen for a forecast.
        scale: Standard deviation, same shape; NaN where too little was seen for an interval.
    """

    mean: Tensor
    scale: Tensor

    def crps(self, truth: Tensor) -> Tensor:
        r"""Continuous ranked probability score of each entry; the absolute error if there is no interval.

        .. math::

            \mathrm{CRPS}(N(\mu, \sigma^2), y) = \sigma \left[ z (2 \Phi(z) - 1) + 2 \varphi(z) - \pi^{-1/2} \right],
            \qquad z = (y - \mu) / \sigma
        """
        error = truth - self.mean
        z = error / self.scale
        density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
        score = self.scale * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))
        return torch.where(self.scale > 0, score, error.abs())

    def covers(self, truth: Tensor, level: float) -> Tensor:
        """1 where the central interval of probability `level` holds the truth, else 0; NaN where there is none."""
        half_width = self.scale * math.sqrt(2) * torch.erfinv(torch.tensor(level, dtype=torch.float64)).item()
        inside = ((truth - self.mean).abs() <= half_width).to(truth.dtype)
        return torch.where((self.scale + self.mean).isnan(), torch.nan, inside)


def seasonal_naive(given: Sequences, period: int = 1) -> NormalForecast:
    r"""The last seen value of the same season; with a `period` of 1 the last seen value.

    .. math::
        \hat x_{T+h} = x_{T+h-mk}, \qquad \sigma_h^2 = \sigma^2 k, \qquad k = \lfloor (h-1) / m \rfloor + 1

    for a period of m steps, with :math:`\sigma^2` the mean square of :math:`x_t - x_{t-m}`. If that value is hidden,
    the previous season's value is used, and k is larger.

    Args:
        given: The seen data, with a horizon.
        period: Season length in steps, for data on an even grid.

    Returns:
        The forecast over the horizon; it needs a seen entry of each season, and two of one season for intervals.

    Raises:
        DataError: When `given` has no horizon.

    Example:
        >>> given = Sequences(torch.tensor([[[1.0], [5.0], [2.0], [7.0]]])).extend(horizon=3)
        >>> seasonal_naive(given, period=2).mean.flatten()
        tensor([2., 7., 2.])

    References:
        Hyndman, Athanasopoulos, "Forecasting: principles and practice", 3rd edition, 2021, sections 5.2 and 5.5.
    """
    period = whole_number(period, "period", 1)
    values, seen, times = _read(given)
    source = _last_seen(seen, times.shape[1], period)
    steps = given.num_steps
    is_pair = seen & (source[:, :steps] >= 0)
    copied = values.gather(1, source.clamp(min=0))
    elapsed = times - times.gather(1, source.clamp(min=0))
    squares = (values - copied[:, :steps]).square() / elapsed[:, :steps]
    rate = torch.where(is_pair, squares, 0.0).sum(1, keepdim=True) / is_pair.sum(1, keepdim=True)  # NaN without a pair
    is_known = source[:, steps:] >= 0
    return _forecast(given, copied[:, steps:], (rate * elapsed[:, steps:]).sqrt(), is_known)


def drift(given: Sequences) -> NormalForecast:
    r"""The last seen value, continued at the mean slope of all seen values.

    .. math::
        \hat x_{T+h} = x_T + h b, \qquad b = \frac{x_T - x_1}{T - 1}, \qquad
        \sigma_h^2 = \sigma^2 h \left(1 + \frac{h}{T - 1}\right)

    where :math:`\sigma^2` is the variance of the steps around the slope. Times may be uneven: T and h are time stamps.

    Args:
        given: The seen data, with a horizon.

    Returns:
        The forecast over the horizon; it needs two seen entries, and three for intervals.

    Raises:
        DataError: When `given` has no horizon.

    Example:
        >>> given = Sequences(torch.tensor([[[1.0], [2.0], [5.0]]])).extend(horizon=2)
        >>> drift(given).mean.flatten()
        tensor([7., 9.])

    References:
        Hyndman, Athanasopoulos, "Forecasting: principles and practice", 3rd edition, 2021, sections 5.2 and 5.5.
    """
    values, seen, times = _read(given)
    source = _last_seen(seen, times.shape[1])
    last, steps = source[:, -1:], given.num_steps
    first = torch.where(seen, torch.arange(steps, device=seen.device).view(_along_time(values)), steps - 1)
    first = first.amin(1, keepdim=True)
    start, end = times.gather(1, first), times.gather(1, last.clamp(min=0))
    latest = values.gather(1, last.clamp(min=0))
    slope = (latest - values.gather(1, first)) / (end - start)
    is_move = seen & (source[:, :steps] >= 0)
    before = source[:, :steps].clamp(min=0)
    elapsed = times[:, :steps] - times.gather(1, before)
    squares = (values - values.gather(1, before) - slope * elapsed).square() / elapsed
    num_moves = is_move.sum(1, keepdim=True)
    rate = torch.where(is_move, squares, 0.0).sum(1, keepdim=True) / (num_moves - 1)
    ahead = times[:, steps:] - end
    scale = torch.where(num_moves > 1, (rate * ahead * (1 + ahead / (end - start))).sqrt(), torch.nan)
    return _forecast(given, latest + slope * ahead, scale, num_moves > 0)


def exponential_smoothing(given: Sequences) -> NormalForecast:
    r"""Simple exponential smoothing: a level that follows the series.

    .. math::
        \ell_t = \ell_{t-1} + \alpha (x_t - \ell_{t-1}), \qquad \hat x_{T+h} = \ell_T, \qquad
        \sigma_h^2 = \sigma^2 \left(1 + (h - 1) \alpha^2\right)

    The level starts at the first seen value. The constant :math:`\alpha` is the value among 0.01, 0.02, ..., 1 with the
    smallest sum of squared one-step errors, and :math:`\sigma^2` is that sum divided by the number of seen entries
    minus two. Hidden entries leave the level unchanged; h counts steps from the last seen one.

    Args:
        given: The seen data, with a horizon.

    Returns:
        The forecast over the horizon; it needs one seen entry, and three for intervals.

    Raises:
        DataError: When `given` has no horizon.

    Example:
        >>> given = Sequences(torch.tensor([[[4.0], [6.0], [7.0], [6.0], [8.0]]])).extend(horizon=2)
        >>> exponential_smoothing(given).mean.flatten()
        tensor([7.7541, 7.7541])

    References:
        Hyndman, Koehler, Ord, Snyder, "Forecasting with exponential smoothing", 2008, chapters 2, 5 and 6.
    """
    values, seen, times = _read(given)
    columns = zip(_columns(values), _columns(seen), strict=True)
    parts = [torch.stack(_smoothed(*part)) for part in columns]
    level, constant, error = (part.view_as(values[:, 0]).unsqueeze(1) for part in torch.cat(parts, 1))
    count = seen.sum(1, keepdim=True)
    grid = torch.arange(given.num_steps, given.times.shape[-1], device=seen.device).view(_along_time(values))
    ahead = grid - _last_seen(seen, times.shape[1])[:, -1:]
    scale = (error / (count - 2) * (1 + (ahead - 1) * constant.square())).sqrt()
    return _forecast(given, level.expand(ahead.shape), torch.where(count > 2, scale, torch.nan), count > 0)


def _smoothed(values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The last level, the best constant and its sum of squared errors, (column,) each, of values (time, column)."""
    constants = _CONSTANTS.to(values.device)[:, None]
    level = values.new_zeros(len(constants), values.shape[1])
    squares = torch.zeros_like(level)
    has_begun = torch.zeros_like(seen[0])
    for value, is_seen in zip(values, seen, strict=True):
        error = torch.where(is_seen & has_begun, value - level, 0.0)
        level = torch.where(is_seen & ~has_begun, value, level + constants * error)
        squares += error.square()
        has_begun = has_begun | is_seen
    least, best = squares.min(0)
    return level.gather(0, best[None])[0], constants[best, 0], least


def _read(given: Sequences) -> tuple[Tensor, Tensor, Tensor]:
    r"""Values and their mask, (series, time, \*obs), and times including the horizon, in double precision.

    Raises:
        DataError: When there are no seen steps or no horizon.
    """
    if not given.horizon or not given.num_steps:
        raise DataError(
            f"`given` must have seen steps and a horizon to forecast. Got {given!r}. Try `given.extend(horizon=12)`."
        )
    shape = (given.num_series, -1, *[1] * len(given.obs_shape))
    times = given.times.expand(given.num_series, -1).view(shape)
    return given.values.double(), given.entry_mask, times.expand(-1, -1, *given.obs_shape)


def _last_seen(seen: Tensor, length: int, period: int = 1) -> Tensor:
    r"""The last seen step of the same season before each of `length` steps, (series, length, \*obs); -1 if none.

    Args:
        seen: (series, time, \*obs).
        length: Steps of the grid, the horizon included.
        period: Steps in a season.
    """
    num_seasons = -(-length // period)
    steps = torch.arange(num_seasons * period, device=seen.device).view(_along_time(seen))
    latest = torch.full((len(seen), num_seasons * period, *seen.shape[2:]), -1, device=seen.device)
    latest[:, : seen.shape[1]] = torch.where(seen, steps[:, : seen.shape[1]], -1)
    latest = latest.unflatten(1, (num_seasons, period)).cummax(1).values
    before = torch.cat([torch.full_like(latest[:, :1], -1), latest[:, :-1]], 1)
    return before.flatten(1, 2)[:, :length]


def _along_time(values: Tensor) -> tuple[int, ...]:
    return (1, -1, *[1] * (values.ndim - 2))


def _columns(values: Tensor) -> tuple[Tensor, ...]:
    r"""Values (series, time, \*obs) split into parts (time, column)."""
    return values.movedim(1, 0).flatten(1).split(_COLUMNS, 1)


def _forecast(given: Sequences, mean: Tensor, scale: Tensor, is_known: Tensor) -> NormalForecast:
    mean = torch.where(is_known, mean, torch.nan)
    return NormalForecast(mean.to(given.dtype), torch.where(is_known, scale, torch.nan).to(given.dtype))
