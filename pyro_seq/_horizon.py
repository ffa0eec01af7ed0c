"""Appending a horizon to ``Sequences``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyro_seq import _validation as check
from pyro_seq.errors import DataError, ShapeError, shape_text

if TYPE_CHECKING:
    from pyro_seq.data import Sequences


def extend(
    data: Sequences, horizon: int | None = None, times: Tensor | None = None, inputs: Tensor | None = None
) -> Sequences:
    """Append a horizon: `horizon` steps at the median spacing, or the given future `times`.

    Args:
        data: The data set; a horizon it has already is replaced.
        horizon: Number of steps; 0 is allowed.
        times: Future time stamps (horizon,) or (series, horizon), later than every seen one.
        inputs: Inputs over the horizon (series, horizon, input_dim), needed when the data have inputs.

    Returns:
        The same observations with longer `times`.

    Raises:
        ShapeError: When axes do not fit together, or `inputs` are given on one side only.
        DataError: When the future times do not increase from the last seen one, or both or neither are given.

    Example:
        >>> from pyro_seq.data import Sequences
        >>> Sequences(torch.zeros(1, 3, 1), times=[0.0, 0.5, 1.0]).extend(horizon=2).times
        tensor([0.0000, 0.5000, 1.0000, 1.5000, 2.0000], dtype=torch.float64)
    """
    if (horizon is None) == (times is None):
        raise DataError("`extend` needs exactly one of `horizon` and `times`. Give the one you know.")
    seen = data.seen()
    future = _future_times(seen.times, horizon) if times is None else check.as_times(times, data.device)
    past = seen.times
    if future.ndim not in (1, 2) or (future.ndim == 2 and future.shape[0] not in (1, data.num_series)):
        raise ShapeError(
            f"`times` must be (horizon,) or (series {data.num_series}, horizon). Got {tuple(future.shape)}."
        )
    if max(future.ndim, past.ndim) == 2:
        past, future = past.expand(data.num_series, -1), future.expand(data.num_series, -1)
    whole = check.checked_times(torch.cat([past, future], -1), data.values)
    return seen._with(times=whole, inputs=_extended_inputs(seen, inputs, future.shape[-1], whole))


def _extended_inputs(seen: Sequences, inputs: Any, horizon: int, times: Tensor) -> Tensor | None:
    if seen.inputs is None and inputs is not None:
        raise ShapeError("`inputs` over the horizon are given, but these data have none. Leave them out.")
    if inputs is None and seen.inputs is not None and horizon:
        raise ShapeError("`inputs` over the horizon is missing, and these data have inputs. Pass `inputs=`.")
    if seen.inputs is None or inputs is None:
        return seen.inputs
    inputs = check.as_float(inputs, "inputs").to(seen.inputs)
    wanted = (seen.num_series, horizon, seen.inputs.shape[-1])
    if inputs.shape != wanted:
        text = shape_text(wanted, ("series", "horizon", "input"))
        raise ShapeError(f"`inputs` must be {text}, the horizon only. Got {tuple(inputs.shape)}.")
    return check.checked_inputs(torch.cat([seen.inputs, inputs], 1), seen.values, times)


def _future_times(times: Tensor, horizon: Any) -> Tensor:
    ahead = torch.arange(1, check.whole_number(horizon, "horizon") + 1, dtype=times.dtype, device=times.device)
    if times.shape[-1] == 0:
        return ahead - 1
    step = times.diff(dim=-1).median(-1, keepdim=True).values if times.shape[-1] > 1 else torch.ones_like(times)
    return times[..., -1:] + step * ahead
