"""The unit of the data: centred and scaled for networks, and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences


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
        mask = data.entry_mask
        values = data.values.double()
        per_entry = tuple(range(values.ndim)) if self.centre.ndim == 0 else (0, 1)
        count = mask.sum(per_entry).clamp(min=1)
        centre = (values * mask).sum(per_entry) / count
        spread = (((values - centre) * mask).square().sum(per_entry) / count).sqrt()
        overall = values[mask].std(correction=0) if bool(mask.any()) else spread.new_ones(())
        unit = torch.maximum(spread, self.floor * overall)
        self.centre.copy_(centre)
        self.unit.copy_(torch.where(unit > 0, unit, torch.ones_like(unit)))

    def forward(self, values: Tensor) -> Tensor:
        r"""Standardised values (..., \*obs)."""
        return (values - self.centre) / self.unit

    def restore(self, standardised: Tensor) -> Tensor:
        r"""Values in the unit of the data (..., \*obs)."""
        return self.centre + self.unit * standardised
