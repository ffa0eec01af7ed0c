"""The range of the training data, and a warning when other data lie far outside it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pyro_seq.data import Labels, Sequences
from pyro_seq.data._horizon import is_padding
from pyro_seq.data._validation import widen
from pyro_seq.nn.saved_state import shape_by_data, take_shape
from pyro_seq.nn.seen_names import SeenNames
from pyro_seq.nn.units import variable_shape

_FAR = 3.0  # widths of the range
_NEAR_LEVEL = 0.03  # width of a constant variable's range, relative to its level
_LISTED = 3


class SeenRange(nn.Module):
    """Lowest and highest observed value of each variable in training, and of each input.

    Values are far outside if they are beyond the range by more than three times its width: this ignores a few heavy
    tails and trends, but detects temperatures in Fahrenheit after training on those of patients in Celsius. A variable
    that varies by no more than rounding has a width of 0.03 of its level, or 1 at level zero. All pixels of an image
    are one variable. Nothing counts as outside before `adapt`, or with files of versions that stored no range. `names`
    are the column names.
    """

    has_options: ClassVar[bool] = False
    low: Tensor
    high: Tensor
    low_input: Tensor
    high_input: Tensor

    def __init__(self) -> None:
        super().__init__()
        unknown = {"low": -math.inf, "high": math.inf, "low_input": -math.inf, "high_input": math.inf}
        for name, value in unknown.items():
            self.register_buffer(name, torch.tensor(value))
        shape_by_data(self, **unknown)
        self.names = SeenNames()

    def adapt(self, data: Sequences) -> None:
        """Set the range from the observed values and from the inputs."""
        for kind, (low, high) in _extremes(data).items():
            is_known = low <= high
            for name, extreme, unknown in (("low", low, -math.inf), ("high", high, math.inf)):
                take_shape(self, tuple(extreme.shape), name + kind)
                getattr(self, name + kind).copy_(torch.where(is_known, extreme, unknown))

    def take_names(self, labels: Labels, *, again: bool = False) -> None:
        """Store the names of variables and inputs if there are none yet; with `again`, always."""
        self.names.take(labels, again=again)
        self.names.to(self.low.device)

    def warn_of_far(self, data: Sequences) -> None:
        """One warning that names the variables with values far outside.

        Warns:
            UserWarning: With the values, the range in training, and the remedy.
        """
        found = list(self._far(data))
        if not found:
            return
        lines = "; ".join(str(far) for far in found[:_LISTED])
        more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        warnings.warn(
            f"`data` lie far outside of what the model was trained on: {lines}{more}. Predictions there are guesses. "
            "Convert the values to the units of the training data, or train on such data: `fit(..., readapt=True)`.",
            stacklevel=2,
        )

    def _far(self, data: Sequences) -> Iterator[_Far]:
        for kind, (low, high) in _extremes(data).items():
            seen_low, seen_high = getattr(self, "low" + kind), getattr(self, "high" + kind)
            level, width = torch.maximum(seen_low.abs(), seen_high.abs()), seen_high - seen_low
            nominal = torch.where(level > 0, _NEAR_LEVEL * level, 1.0)
            reach = _FAR * torch.where(width > torch.finfo(data.dtype).eps * level, width, nominal)
            is_far = (seen_low - low > reach) | (high - seen_high > reach)
            for place in is_far.nonzero().tolist():
                here = tuple(place)
                ends = tuple(float(end.expand(is_far.shape)[here]) for end in (low, high, seen_low, seen_high))
                names = data.labels.inputs if kind else data.labels.variables
                yield _Far(kind, here, ends, names[here[0]] if names and here else "")


class _Far(NamedTuple):
    kind: str
    place: tuple[int, ...]
    ends: tuple[float, ...]
    called: str

    def __str__(self) -> str:
        name = "inputs" if self.kind else "values"
        entry = f"`{name}[{', '.join(['...', *map(str, self.place)])}]`" if self.place else f"`{name}`"
        entry += f" ({self.called})" if self.called else ""
        low, high, seen_low, seen_high = self.ends
        return f"{entry} from {low:g} to {high:g}, in training from {seen_low:g} to {seen_high:g}"


def _extremes(data: Sequences) -> dict[str, tuple[Tensor, Tensor]]:
    """Lowest and highest value of each variable and input; the lowest is infinite if none is observed."""
    found = {}
    if data.num_steps:
        low, high = _ends(data.values, data.mask)
        found[""] = (low, high) if variable_shape(data.obs_shape) else (low.amin(), high.amax())
    if data.inputs is not None and data.inputs.shape[1]:
        found["_input"] = _ends(data.inputs, ~is_padding(data))
    return found


def _ends(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    if bool(mask.all()):
        return values.amin((0, 1)), values.amax((0, 1))
    mask = widen(mask, values)
    return torch.where(mask, values, math.inf).amin((0, 1)), torch.where(mask, values, -math.inf).amax((0, 1))
