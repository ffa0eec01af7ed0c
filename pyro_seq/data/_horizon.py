"""Time stamps and inputs over the seen steps and the horizon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq.data import _validation as check
from pyro_seq.data.calendar import Calendar
from pyro_seq.errors import DataError, ShapeError, shape_text

if TYPE_CHECKING:
    from pyro_seq.data.sequences import Sequences


def extend(  # noqa: D417 - a method of `data`
    data: Sequences, horizon: int | None = None, times: Tensor | None = None, inputs: Tensor | None = None
) -> Sequences:
    """Append a horizon: `horizon` steps at the median spacing, or steps at the given future `times`.

    Args:
        horizon: Number of steps; 0 is allowed.
        times: Future time stamps (horizon,) or (series, horizon), later than every seen one; dates if the data have
            dates.
        inputs: Inputs over the horizon (series, horizon, input_dim), needed when the data have inputs.

    Returns:
        The same observations with longer `times`; an existing horizon is replaced.

    Raises:
        ShapeError: When axes do not fit together, or only one of past and horizon has inputs.
        DataError: When the future times do not increase from the last seen one, or both or neither are given.

    Example:
        >>> from pyro_seq.data import Sequences
        >>> Sequences(torch.zeros(1, 3, 1), times=[0.0, 0.5, 1.0]).extend(horizon=2).times
        tensor([0.0000, 0.5000, 1.0000, 1.5000, 2.0000], dtype=torch.float64)
    """
    seen = data.seen()
    longer = _extended_times(seen.values, seen.times, horizon, times, seen.calendar)
    return seen._with(times=longer, inputs=_extended_inputs(seen.values, seen.inputs, inputs, longer))


def with_static_as_inputs(data: Sequences) -> Sequences:
    """Append the static covariates to the inputs, constant over all steps, for models that have inputs.

    The ``input_dim`` of the model is then the sum of both sizes. If the data need a horizon, call `extend` first.

    Raises:
        DataError: When there are no static covariates.
    """
    if data.static is None:
        raise DataError(
            "`with_static_as_inputs` needs static covariates. Got data without. Pass `static=`, or leave the call out."
        )
    inputs = data.static[:, None].expand(-1, data.times.shape[-1], -1).contiguous()
    num_inputs = 0
    if data.inputs is not None:
        num_inputs, inputs = data.inputs.shape[-1], torch.cat([data.inputs, inputs], -1)
    return data._with(
        inputs=inputs, static=None, labels=data.labels.with_static_as_inputs(num_inputs, data.static.shape[-1])
    )


def _extended_times(values: Tensor, past: Tensor, horizon: Any, times: Any, calendar: Calendar | None) -> Tensor:
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


def _extended_inputs(values: Tensor, past: Tensor | None, inputs: Any, times: Tensor) -> Tensor | None:
    """The inputs at the seen steps followed by those over the horizon, covering all `times`."""
    horizon = times.shape[-1] - values.shape[1]
    if past is None and inputs is not None:
        raise ShapeError("`inputs` over the horizon are given, but these data have none. Leave them out.")
    if inputs is None and past is not None and horizon:
        raise ShapeError(
            "`inputs` over the horizon is missing, and these data have inputs. Pass `inputs=`; of static covariates, "
            "extend the data before `with_static_as_inputs`."
        )
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


def is_padding(data: Sequences) -> Tensor:
    """True between the end of a shorter series and the horizon, (series, time) over all of ``data.times``."""
    steps = torch.arange(data.times.shape[-1], device=data.device)
    return (steps >= data.lengths[:, None]) & (steps < data.num_steps)
