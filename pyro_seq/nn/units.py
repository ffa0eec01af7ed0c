"""The unit of the data: centred and scaled for networks, and back; one for each variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.data._validation import widen
from pyro_seq.errors import ShapeError

_ENTRIES = 2**20  # in double precision at a time
_IMAGE_DIM = 3  # (channel, height, width)


def variable_shape(obs_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of what there is one of for each variable: every entry of an observation, all pixels of an image as one."""
    return () if len(obs_shape) == _IMAGE_DIM else tuple(obs_shape)


@rebuildable
class Standardise(nn.Module):
    r"""Centre and scale each variable by what the training data's observed entries say of it.

    .. math::
        y = \frac{x - m}{c}

    with means m and standard deviations c of each variable. What one variable is measured in says nothing about
    another, so no unit depends on other variables: data in other units give the same y. A variable that does not vary
    by more than the rounding of its floating type has no deviation, and its unit is the share `floor` of its level
    \|m\|, or 1 at level zero and where nothing is observed.

    Args:
        shape: Shape of the units, which broadcasts to that of an observation: ``()`` for one unit in all. When absent,
            there is one for each entry of an observation, and one in all for images (channel, height, width).
        floor: Unit of what does not vary, relative to its level.
    """

    centre: Tensor
    unit: Tensor

    def __init__(self, shape: tuple[int, ...] | None = None, *, floor: float = 0.03) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("centre", torch.zeros(shape or ()))
        self.register_buffer("unit", torch.ones(shape or ()))
        if shape is None:
            shape_by_data(self, "centre", "unit")

    def adapt(self, data: Sequences) -> None:
        """Take centre and unit from the observed entries.

        Raises:
            ShapeError: When the shape of the units is not one for these observations.
        """
        take_shape(self, variable_shape(data.obs_shape))
        shape = self.centre.shape
        _require_broadcast(shape, data)
        count, total, _ = _sums(data, torch.zeros(shape, dtype=torch.float64, device=data.device))
        centre = total / count
        _, rest, squares = _sums(data, centre)  # the rest is what the first sum lost by rounding
        spread, level = (squares / count - (rest / count).square()).clamp(min=0).sqrt(), centre.abs()
        rounding = torch.finfo(data.dtype).eps / 2 * level  # two neighbouring numbers deviate by no more
        unit = torch.where(spread > rounding, spread, self.floor * level)
        self.centre.copy_(centre)
        self.unit.copy_(torch.where(unit > 0, unit, torch.ones_like(unit)))

    def forward(self, values: Tensor) -> Tensor:
        r"""Standardised values (..., \*obs)."""
        return (values - self.centre) / self.unit

    def restore(self, standardised: Tensor) -> Tensor:
        r"""Values in the unit of the data (..., \*obs)."""
        return self.centre + self.unit * standardised


def _sums(data: Sequences, middle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number, at least 1, and sums of deviations and of squares around `middle` of observed entries, in its shape.

    In double precision, a few series at a time, so that no second set is held in memory.
    """
    size = max(1, _ENTRIES * data.num_series // max(1, data.values.numel()))
    count, total, squares = (torch.zeros_like(middle) for _ in range(3))
    for start in range(0, data.num_series, size):
        values = data.values[start : start + size].double()
        mask = widen(data.mask[start : start + size], values).expand_as(values)
        deviations = (values - middle) * mask
        count += mask.sum((0, 1)).sum_to_size(middle.shape)
        total += deviations.sum((0, 1)).sum_to_size(middle.shape)
        squares += deviations.square().sum((0, 1)).sum_to_size(middle.shape)
    return count.clamp(min=1), total, squares


def _require_broadcast(shape: torch.Size, data: Sequences) -> None:
    sizes = zip(reversed(shape), reversed(data.obs_shape), strict=False)
    if len(shape) > len(data.obs_shape) or any(here not in (1, there) for here, there in sizes):
        raise ShapeError(
            f"`shape` of the units must broadcast to the observations, {data.obs_shape}. Got {tuple(shape)}. Leave it "
            "out for one unit for each variable, or pass () for one in all."
        )


# ---------------------------------------------------------------------- shapes that the data decide


def shape_by_data(part: nn.Module, *names: str, **defaults: float) -> None:
    """Let these tensors of `part` hold one number until data say how many variables there are, then one for each.

    `take_shape` widens them, when the part adapts to data. Weights that are loaded bring their shape along: one number
    for all variables stays one, as in files of earlier versions, and so do the predictions.

    Args:
        part: The module with the tensors.
        names: Names of tensors.
        defaults: Names of further ones, with what they hold where earlier files have no such tensor.
    """
    part._shaped_by_data = dict.fromkeys(names) | defaults  # type: ignore[assignment]
    part.register_load_state_dict_pre_hook(_take_saved_shape)


def take_shape(part: nn.Module, shape: tuple[int, ...], *names: str) -> None:
    """Widen what holds one number to this shape: the tensors of these names, or all."""
    for name, tensor in _shaped_by_data(part).items():
        if tensor.shape != shape and (not names or name in names):
            tensor.data = tensor.data.mean().expand(shape).clone()


def expected_weights(module: nn.Module, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ``state_dict`` of `module` that a file with `saved` must fit: in its shapes, without what it may lack."""
    state = dict(module.state_dict())
    for owner, part in module.named_modules():
        for name, tensor in _shaped_by_data(part).items():
            where = f"{owner}.{name}" if owner else name
            if where in saved and _fits(tensor, saved[where]):
                state[where] = tensor.new_empty(saved[where].shape)
            elif where not in saved and _default(part, name) is not None:
                del state[where]
    return state


def _take_saved_shape(part: nn.Module, saved: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, tensor in _shaped_by_data(part).items():
        default = _default(part, name)
        if default is not None:
            saved.setdefault(prefix + name, tensor.new_tensor(default))
        weight = saved.get(prefix + name)
        if weight is not None and _fits(tensor, weight):
            tensor.data = tensor.data.new_empty(weight.shape)


def _fits(tensor: Tensor, saved: Tensor) -> bool:
    """One number may become one for each variable, and the other way round."""
    return tensor.ndim == 0 or saved.ndim == 0


def _shaped_by_data(part: nn.Module) -> dict[str, Tensor]:
    return {name: getattr(part, name) for name in getattr(part, "_shaped_by_data", ())}


def _default(part: nn.Module, name: str) -> float | None:
    return getattr(part, "_shaped_by_data", {})[name]
