"""The unit of the data: centred and scaled for networks, and back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.data._validation import widen

_ENTRIES = 2**20  # in double precision at a time


def _parts(data: Sequences) -> Iterator[tuple[Tensor, Tensor]]:
    """Values in double precision and their mask, a few series at a time, so that no second set is held in memory."""
    size = max(1, _ENTRIES * data.num_series // max(1, data.values.numel()))
    for start in range(0, data.num_series, size):
        part = slice(start, start + size)
        values = data.values[part].double()
        yield values, widen(data.mask[part], values).expand_as(values)


@rebuildable
class Standardise(nn.Module):
    r"""Centre and scale by what the training data's observed entries say.

    .. math::
        y = \frac{x - m}{\max(c,\ \epsilon\, c_\text{all})}

    with means m and standard deviations c of each entry of an observation, or of all together.

    Args:
        shape: Shape of an observation for one unit an entry, ``()`` for one unit in all.
        floor: Smallest unit :math:`\epsilon`, relative to the deviation of all entries together: it keeps entries that
            hardly vary from being blown up.
    """

    centre: Tensor
    unit: Tensor

    def __init__(self, shape: tuple[int, ...] = (), *, floor: float = 0.03) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("unit", torch.ones(shape))

    def adapt(self, data: Sequences) -> None:
        """Take centre and unit from the observed entries."""
        total = count = squares = torch.zeros((), dtype=torch.float64)
        for values, mask in _parts(data):
            total, count = total + (values * mask).sum((0, 1)), count + mask.sum((0, 1))
        middle = total.sum() / count.sum().clamp(min=1)
        centre = middle if self.centre.ndim == 0 else total / count.clamp(min=1)
        for values, mask in _parts(data):
            squares = squares + ((values - centre) * mask).square().sum((0, 1))
        # the squares around the centre of all are those around each entry's, and what lies between the centres
        spread_of_all = ((squares + count * (centre - middle).square()).sum() / count.sum().clamp(min=1)).sqrt()
        spread = spread_of_all if self.centre.ndim == 0 else (squares / count.clamp(min=1)).sqrt()
        unit = torch.maximum(spread, self.floor * (spread_of_all if bool(count.any()) else torch.ones_like(middle)))
        self.centre.copy_(centre)
        self.unit.copy_(torch.where(unit > 0, unit, torch.ones_like(unit)))

    def forward(self, values: Tensor) -> Tensor:
        r"""Standardised values (..., \*obs)."""
        return (values - self.centre) / self.unit

    def restore(self, standardised: Tensor) -> Tensor:
        r"""Values in the unit of the data (..., \*obs)."""
        return self.centre + self.unit * standardised
