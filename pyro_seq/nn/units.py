"""Standardisation of the data for networks, and its inverse; one unit per variable."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.data._validation import widen
from pyro_seq.errors import ShapeError
from pyro_seq.nn.saved_state import shape_by_data, take_shape

_ENTRIES = 2**20  # processed in double precision at a time
_IMAGE_DIM = 3  # (channel, height, width)


def variable_shape(obs_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of values per variable: one for every entry of an observation, or one for all pixels of an image."""
    return () if len(obs_shape) == _IMAGE_DIM else tuple(obs_shape)


@rebuildable
class Standardise(nn.Module):
    r"""Centre and scale each variable by statistics of its observed entries in training.

    .. math::
        y = \frac{x - m}{c}

    with means m and standard deviations c of each variable. Units do not depend on other variables, so data in other
    units give the same y. If a variable varies by no more than the rounding of its floating type, its unit is `floor`
    times its level \|m\|, or 1 at level zero and if nothing is observed.

    Args:
        shape: Shape of the units, which broadcasts to that of an observation: ``()`` for a single unit. Default: one
            per entry of an observation, and a single one for images (channel, height, width).
        floor: Unit of constant variables, relative to their level.
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
        """Set centre and unit from the observed entries.

        Raises:
            ShapeError: When the shape of the units does not fit these observations.
        """
        take_shape(self, variable_shape(data.obs_shape))
        shape = self.centre.shape
        _require_broadcast(shape, data)
        count, total, _ = _sums(data, torch.zeros(shape, dtype=torch.float64, device=data.device))
        centre = total / count
        _, rest, squares = _sums(data, centre)  # `rest` is the rounding error of the first sum
        spread, level = (squares / count - (rest / count).square()).clamp(min=0).sqrt(), centre.abs()
        rounding = torch.finfo(data.dtype).eps / 2 * level  # at most the deviation of two neighbouring numbers
        unit = torch.where(spread > rounding, spread, self.floor * level)
        self.centre.copy_(centre)
        self.unit.copy_(torch.where(unit > 0, unit, torch.ones_like(unit)))

    def forward(self, values: Tensor) -> Tensor:
        r"""Standardised values (..., \*obs)."""
        return (values - self.centre) / self.unit

    def restore(self, standardised: Tensor) -> Tensor:
        r"""Values in the unit of the data (..., \*obs)."""
        return self.centre + self.unit * standardised


@rebuildable
class StandardiseInputs(nn.Module):
    """Centre and scale each input of the data by its statistics in the training series.

    Args:
        input_dim: Size of the inputs.
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.units = Standardise((input_dim,))

    def adapt(self, data: Sequences) -> None:
        """Set centre and unit from the inputs up to the last observed step of each series."""
        assert data.inputs is not None
        steps = torch.arange(data.num_steps, device=data.device) < data.lengths[:, None]
        self.units.adapt(Sequences(data.inputs[:, : data.num_steps], mask=steps))

    def forward(self, inputs: Tensor) -> Tensor:
        """Standardised inputs (..., input)."""
        return self.units(inputs)


def _sums(data: Sequences, middle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count (at least 1) and sums of deviations and squares around `middle` of observed entries, in its shape.

    In double precision, a few series at a time, to avoid a second copy of the data in memory.
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
