"""``SeriesUnits``: scale of the values of a series, and of their changes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences


class SeriesUnits(nn.Module):
    """Centre, spread and change of one variable in the training data, the units of a structural series.

    The spread is the standard deviation of observed values about the mean of their series, the change the root mean
    square of the difference between consecutive observed values. Trends and cycles make the spread larger than the
    change. If values vary by no more than the rounding of their floating type, both units are `floor` times the level,
    or 1 at level zero.

    Args:
        floor: Unit of constant values, relative to their level.
    """

    centre: Tensor
    spread: Tensor
    change: Tensor

    def __init__(self, *, floor: float = 0.03) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("change", torch.ones(()))

    def by_name(self) -> dict[str, Tensor]:
        """The units of parameters, by name."""
        return {"spread": self.spread, "change": self.change}

    def adapt(self, data: Sequences) -> None:
        """Set the units from the observed entries of series of one variable."""
        values, mask = data.values.flatten(1).double(), data.entry_mask.flatten(1)
        count = mask.sum(-1, keepdim=True).clamp(min=1)
        own = values.sum(-1, keepdim=True) / count  # hidden entries are zero
        deviations = torch.where(mask, values - own, 0.0)
        centre = float(values.sum() / mask.sum().clamp(min=1))
        spread = _root_mean_square(deviations, mask)
        change = _root_mean_square(*_changes(values, mask))
        level = max(abs(centre), float(values.abs().max()))
        rounding = torch.finfo(data.dtype).eps / 2 * level  # at most the deviation of two neighbouring numbers
        if not spread > rounding:
            spread = change = self.floor * level or 1.0
        self.centre.fill_(centre)
        self.spread.fill_(spread)
        self.change.fill_(change if change > rounding else spread)


def _changes(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Difference of each value from the previous observed one, and a mask of where both are observed."""
    steps = torch.arange(values.shape[-1], device=values.device)
    last = torch.where(mask, steps, -1).cummax(-1).values[..., :-1]
    before = values[..., :-1].gather(-1, last.clamp(min=0))
    return values[..., 1:] - before, mask[..., 1:] & (last >= 0)


def _root_mean_square(deviations: Tensor, mask: Tensor) -> float:
    return float((torch.where(mask, deviations, 0.0).square().sum() / mask.sum().clamp(min=1)).sqrt())
