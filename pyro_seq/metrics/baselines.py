r"""Simple baselines. A model that does not beat them has learned nothing useful.

Each returns values (series, time, \*obs) to be scored like any prediction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError


def training_mean(train: Sequences, like: Sequences, *, fill: Tensor | float | None = None) -> Tensor:
    r"""The mean of all seen training steps, per entry, predicted at every time of `like`.

    Args:
        train: Data to average over series and time.
        like: Data that give the series and times to predict, the horizon included.
        fill: Value for entries that `train` never shows, a number or (\*obs).

    Returns:
        Constant predictions (series, time, \*obs).

    Raises:
        ShapeError: When the two data sets have different observations.
        DataError: When an entry is never seen in `train` and `fill` is not given.
    """
    _check_same_obs(train, like)
    mean = _mean_observation(train, fill).to(like.values)
    return mean.expand(like.num_series, like.times.shape[-1], *like.obs_shape).clone()


def last_frame(given: Sequences, num_steps: int, *, fill: Tensor | float | None = None) -> Tensor:
    r"""The last seen value of every entry, repeated.

    Args:
        given: The seen data; its mask is applied per entry.
        num_steps: Number of steps to predict.
        fill: Value for entries that a series never showed, a number or (\*obs), for example the training mean.

    Returns:
        Predictions (series, num_steps, \*obs) for the steps after the given ones.

    Raises:
        DataError: When an entry was never seen and `fill` is not given.
    """
    whole_number(num_steps, "num_steps")
    seen = given.entry_mask
    steps = torch.arange(1, given.num_steps + 1, device=given.device).view(1, -1, *(1,) * len(given.obs_shape))
    last = (seen * steps).amax(1, keepdim=True) if given.num_steps else seen.new_zeros(len(given), 1, *given.obs_shape)
    never = last == 0
    if given.num_steps:
        value = given.values.gather(1, (last.long() - 1).clamp(min=0))
    else:
        value = given.values.new_zeros(last.shape)
    return _filled(value, never, fill).expand(-1, num_steps, *given.obs_shape).clone()


def linear_interpolation(given: Sequences, *, fill: Tensor | float | None = None) -> Tensor:
    r"""Linear interpolation in time between seen values of each entry, constant before the first and after the last.

    Args:
        given: The seen data; its mask is applied per entry, its time stamps per series.
        fill: Value for entries that a series never showed, a number or (\*obs), for example the training mean.

    Returns:
        Predictions (series, time, \*obs) at the given steps; seen values are kept.

    Raises:
        DataError: When an entry was never seen and `fill` is not given.

    Example:
        >>> given = Sequences(torch.tensor([[[0.0], [float("nan")], [3.0]]]), times=[0.0, 1.0, 3.0])
        >>> linear_interpolation(given)[0, :, 0]
        tensor([0., 1., 3.])
    """
    seen, ends = given.entry_mask, given.num_steps - 1
    steps = torch.arange(given.num_steps, device=given.device).view(1, -1, *(1,) * len(given.obs_shape))
    before = torch.where(seen, steps, -1).cummax(1).values
    after = torch.where(seen, steps, ends + 1).flip(1).cummin(1).values.flip(1)
    # outside the seen range both ends of the line are the same step
    left, right = torch.where(before < 0, after, before).clamp(max=ends), torch.where(after > ends, before, after)
    times = given.times.expand(given.num_series, -1).view(given.num_series, -1, *(1,) * len(given.obs_shape))
    times = times.expand_as(given.values)
    start, stop = times.gather(1, left), times.gather(1, right.clamp(min=0))
    share = torch.where(stop > start, (times - start) / (stop - start), 0.0).to(given.values)
    line = torch.lerp(given.values.gather(1, left), given.values.gather(1, right.clamp(min=0)), share)
    return _filled(line, ~seen.any(1, keepdim=True), fill)


def nearest_series(
    train: Sequences, given: Sequences, num_steps: int | None = None, *, fill: Tensor | float | None = None
) -> Tensor:
    r"""The complete training series that is nearest on the given steps.

    Step k is compared with step k: no shift in time is tried. The distance is the mean squared difference over the
    entries that both series show. Ties go to the first. With `fill`, an entry hidden in the nearest series is taken
    from the next nearest series that shows it. Cost: all pairwise distances, and a search for every hidden entry.

    Args:
        train: Series to choose from, at least as long as `given` and as the result.
        given: The seen part of the series to predict.
        num_steps: Number of steps to return, counted from the first given one; all of the training series by default.
        fill: Value for entries that no comparable training series (with a shared seen entry) has, a number or (\*obs).

    Returns:
        Values (series, num_steps, \*obs) that begin with the neighbour's values at the given steps.

    Raises:
        ShapeError: When `train` is too short or has different observations.
        DataError: Without `fill`, when a series shares no seen entry with any training series, or its neighbour has
            hidden entries.
    """
    _check_same_obs(train, given)
    num_steps = train.num_steps if num_steps is None else whole_number(num_steps, "num_steps")
    if train.num_steps < max(num_steps, given.num_steps):
        raise ShapeError(
            f"`train` must have the {given.num_steps} steps to compare and the {num_steps} to return. "
            f"Got {train.num_steps} steps. Shorten `given` or pass a smaller `num_steps`."
        )
    distances, shown = _distances(given, train.first(given.num_steps)).to(train.device), train.entry_mask[:, :num_steps]
    if fill is not None:
        return _first_shown(train.values[:, :num_steps], shown, distances, fill).to(given.values)
    lonely = distances.isinf().all(1)
    if bool(lonely.any()):
        raise DataError(
            f"Series {int(lonely.nonzero()[0])} of `given` shares no seen entry with any training series. "
            "Give more steps, pass `fill`, or use another baseline."
        )
    nearest = distances.argmin(1)
    if not bool(shown[nearest].all()):
        raise DataError(
            "`train` must be complete where it predicts. A nearest series has hidden entries. Pass `fill`, for example "
            "the training mean, which also takes entries from the next nearest."
        )
    return train.values[nearest, :num_steps].to(given.values)


def _first_shown(values: Tensor, shown: Tensor, distances: Tensor, fill: Tensor | float) -> Tensor:
    """For each row of `distances` (series, candidate), the values of the nearest candidate that shows them."""
    shape = values.shape[1:]
    result = torch.as_tensor(fill).to(values).expand(len(distances), *shape).clone().flatten(1)
    values, shown = values.flatten(1), shown.flatten(1)
    order = distances.argsort(dim=1, stable=True)
    order = torch.where(distances.gather(1, order).isinf(), -1, order)
    series, entry = shown.any(0).expand_as(result).nonzero(as_tuple=True)
    for rank in range(len(values)):
        candidate = order[series, rank]
        found = shown[candidate, entry] & (candidate >= 0)
        result[series[found], entry[found]] = values[candidate[found], entry[found]]
        is_open = ~found & (candidate >= 0)
        series, entry = series[is_open], entry[is_open]
    return result.view(-1, *shape)


def _filled(value: Tensor, never: Tensor, fill: Tensor | float | None) -> Tensor:
    r"""Values with `fill` for the entries (series, 1, \*obs) that were never seen."""
    if fill is not None:
        return torch.where(never, torch.as_tensor(fill).to(value), value)
    if bool(never.any()):
        where = tuple(never[:, 0].nonzero()[0].tolist())
        raise DataError(
            f"`given` must show every entry at least once. Series {where[0]} never shows entry {where[1:]}, and "
            f"{int(never.sum())} entries lack a value in all. Pass `fill`, for example the training mean."
        )
    return value


def _distances(given: Sequences, train: Sequences) -> Tensor:
    """Mean squared differences over jointly seen entries, (series given, series train); infinite if there are none."""
    # Hidden entries are zero, so products of values respect both masks. Differences of squares need double precision.
    left, right = (data.values.flatten(1).to(given.device, torch.float64) for data in (given, train))
    seen_left, seen_right = (data.entry_mask.flatten(1).to(given.device, torch.float64) for data in (given, train))
    squares = left.square() @ seen_right.mT - 2 * left @ right.mT + seen_left @ right.square().mT
    count = seen_left @ seen_right.mT
    return torch.where(count > 0, squares / count.clamp(min=1), torch.inf)


def _mean_observation(data: Sequences, fill: Tensor | float | None) -> Tensor:
    count = data.entry_mask.sum((0, 1))
    if bool((count == 0).any()) and fill is None:
        where = tuple((count == 0).nonzero()[0].tolist())
        raise DataError(
            f"`train` must show every entry at least once. Entry {where} is hidden everywhere. Remove it, or pass "
            "`fill`."
        )
    mean = data.values.double().sum((0, 1)) / count
    return mean if fill is None else torch.where(count == 0, torch.as_tensor(fill).to(mean), mean)


def _check_same_obs(train: Sequences, other: Sequences) -> None:
    if train.obs_shape != other.obs_shape:
        raise ShapeError(
            f"Both data sets must have the same observations. Got `train` with {train.obs_shape} and the other with "
            f"{other.obs_shape} an observation."
        )
