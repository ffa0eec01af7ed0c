"""Time stamps and inputs of a horizon."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq.data import _validation as check
from pyro_seq.data.calendar import Calendar
from pyro_seq.errors import DataError, ShapeError, shape_text


def extended_times(values: Tensor, past: Tensor, horizon: Any, times: Any, calendar: Calendar | None) -> Tensor:
    """The seen time stamps followed by `horizon` further ones at their median spacing, or by the given `times`."""
    if (horizon is None) == (times is None):
        raise DataError("`extend` needs exactly one of `horizon` and `times`. Give the one you know.")
    num_series = values.shape[0]
    future = _future(past, horizon) if times is None else check.as_times(times, values.device, calendar)
    if future.ndim not in (1, 2) or (future.ndim == 2 and future.shape[0] not in (1, num_series)):
        raise ShapeError(f"`times` must be (horizon,) or (series {num_series}, horizon). Got {tuple(future.shape)}.")
    if max(future.ndim, past.ndim) == 2:
        past, future = past.expand(num_series, -1), future.expand(num_series, -1)
    return check.checked_times(torch.cat([past, future], -1), values, calendar)


def extended_inputs(values: Tensor, past: Tensor | None, inputs: Any, times: Tensor) -> Tensor | None:
    """The inputs at the seen steps followed by those over the horizon, as `times` has both."""
    horizon = times.shape[-1] - values.shape[1]
    if past is None and inputs is not None:
        raise ShapeError("`inputs` over the horizon are given, but these data have none. Leave them out.")
    if inputs is None and past is not None and horizon:
        raise ShapeError("`inputs` over the horizon is missing, and these data have inputs. Pass `inputs=`.")
    if past is None or inputs is None:
        return past
    inputs = check.as_float(inputs, "inputs").to(past)
    wanted = (values.shape[0], horizon, past.shape[-1])
    if inputs.shape != wanted:
        text = shape_text(wanted, ("series", "horizon", "input"))
        raise ShapeError(f"`inputs` must be {text}, the horizon only. Got {tuple(inputs.shape)}.")
    return check.checked_inputs(torch.cat([past, inputs], 1), values, times)


def _future(times: Tensor, horizon: Any) -> Tensor:
    ahead = torch.arange(1, whole_number(horizon, "horizon") + 1, dtype=times.dtype, device=times.device)
    if times.shape[-1] == 0:
        return ahead - 1
    step = times.diff(dim=-1).median(-1, keepdim=True).values if times.shape[-1] > 1 else torch.ones_like(times)
    return times[..., -1:] + step * ahead
