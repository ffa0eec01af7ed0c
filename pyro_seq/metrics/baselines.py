r"""Trivial predictors. A model that does not beat them has learnt nothing.

Each returns plain values (series, time, \*obs) to be scored like any prediction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError


def training_mean(train: Sequences, like: Sequences) -> Tensor:
    r"""The mean of all seen training steps, entry by entry, predicted at every time of `like`.

    Args:
        train: Data to average over series and time.
        like: Data whose series and times, the horizon included, are predicted.

    Returns:
        Constant predictions (series, time, \*obs).

    Raises:
        ShapeError: When the two data sets have different observations.
        DataError: When an entry is never seen in `train`.
    """
    _check_same_obs(train, like)
    mean = _mean_observation(train).to(like.values)
    return mean.expand(like.num_series, like.times.shape[-1], *like.obs_shape).clone()


def last_frame(given: Sequences, num_steps: int, *, fill: Tensor | float | None = None) -> Tensor:
    r"""The last seen value of every entry, repeated.

    Args:
        given: What has been seen; its mask is honoured entry by entry.
        num_steps: Number of steps to predict.
        fill: Value for entries that a series never showed, a number or (\*obs), for example the training mean.

    Returns:
        Predictions (series, num_steps, \*obs) for the steps after the given ones.

    Raises:
        DataError: When an entry was never seen and `fill` is absent.
    """
    whole_number(num_steps, "num_steps")
    seen = given.entry_mask
    steps = torch.arange(1, given.num_steps + 1, device=given.device).view(1, -1, *(1,) * len(given.obs_shape))
    last = (seen * steps).amax(1, keepdim=True) if given.num_steps else seen.new_zeros(len(given), 1, *given.obs_shape)
    never = last == 0
    if bool(never.any()) and fill is None:
        where = tuple(never[:, 0].nonzero()[0].tolist())
        raise DataError(
            f"`given` must show every entry at least once. Series {where[0]} never shows entry {where[1:]}, and "
            f"{int(never.sum())} entries lack a value in all. Pass `fill`, for example the training mean."
        )
    if given.num_steps:
        value = given.values.gather(1, (last.long() - 1).clamp(min=0))
    else:
        value = given.values.new_zeros(last.shape)
    if fill is not None:
        value = torch.where(never, torch.as_tensor(fill).to(value), value)
    return value.expand(-1, num_steps, *given.obs_shape).clone()


def nearest_series(train: Sequences, given: Sequences, num_steps: int | None = None) -> Tensor:
    r"""The training series that is nearest on the given steps, whole.

    Step k is compared with step k: no shift in time is tried. The distance is the mean squared difference over the
    entries that both series show. Ties go to the first.

    Args:
        train: Series to choose from, at least as long as `given` and as what is returned.
        given: What has been seen of the series to predict.
        num_steps: Number of steps to return, counted from the first given one; all of the training series when absent.

    Returns:
        Values (series, num_steps, \*obs) that begin with the neighbour's version of the given steps.

    Raises:
        ShapeError: When `train` is too short or has different observations.
        DataError: When a series shares no seen entry with any training series, or its neighbour has hidden entries.
    """
    _check_same_obs(train, given)
    num_steps = train.num_steps if num_steps is None else whole_number(num_steps, "num_steps")
    if train.num_steps < max(num_steps, given.num_steps):
        raise ShapeError(
            f"`train` must have the {given.num_steps} steps to compare and the {num_steps} to return. "
            f"Got {train.num_steps} steps. Shorten `given` or pass a smaller `num_steps`."
        )
    nearest = _distances(given, train.first(given.num_steps)).argmin(1).to(train.device)
    if not bool(train.entry_mask[nearest, :num_steps].all()):
        raise DataError("`train` must be complete where it predicts. A nearest series has hidden entries. Fill them.")
    return train.values[nearest, :num_steps].to(given.values)


def _distances(given: Sequences, train: Sequences) -> Tensor:
    """Mean squared differences over jointly seen entries, (series given, series train); infinite where none."""
    # Hidden entries are zero, so products of values carry both masks. Differences of squares need double precision.
    left, right = (data.values.flatten(1).to(given.device, torch.float64) for data in (given, train))
    seen_left, seen_right = (data.entry_mask.flatten(1).to(given.device, torch.float64) for data in (given, train))
    squares = left.square() @ seen_right.mT - 2 * left @ right.mT + seen_left @ right.square().mT
    count = seen_left @ seen_right.mT
    lonely = (count == 0).all(1)
    if bool(lonely.any()):
        raise DataError(
            f"Series {int(lonely.nonzero()[0])} of `given` shares no seen entry with any training series. "
            "Give more steps, or use another baseline."
        )
    return torch.where(count > 0, squares / count.clamp(min=1), torch.inf)


def _mean_observation(data: Sequences) -> Tensor:
    count = data.entry_mask.sum((0, 1))
    if bool((count == 0).any()):
        where = tuple((count == 0).nonzero()[0].tolist())
        raise DataError(f"`train` must show every entry at least once. Entry {where} is hidden everywhere. Remove it.")
    return data.values.double().sum((0, 1)) / count


def _check_same_obs(train: Sequences, other: Sequences) -> None:
    if train.obs_shape != other.obs_shape:
        raise ShapeError(
            f"Both data sets must have the same observations. Got `train` with {train.obs_shape} and the other with "
            f"{other.obs_shape} an observation."
        )
