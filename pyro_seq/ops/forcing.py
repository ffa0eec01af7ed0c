"""Known signals that drive a differential equation: given at the times of a solution, and held or linear in between."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.ops._time_grid import entries_at


@dataclass(frozen=True)
class Forcing:
    r"""A signal u(t), known at the times :math:`t_k` of the solution.

    .. math::
        u(t) = u_k \ \text{(held)}, \qquad
        u(t) = (1 - s)\, u_k + s\, u_{k+1}, \quad s = \frac{t - t_k}{t_{k+1} - t_k} \ \text{(linear)}, \qquad
        t_k \le t < t_{k+1}

    A solution starts at its first time and ends at its last, so the signal is not needed before or after these. A step
    that ends at a time uses the signal before that time: a held signal may jump there without a loss of order, and
    later values leave the solution up to that time bit-equal.

    Args:
        values: u at each time, (series, time, input), or (time, input) if all series have the same.
        is_linear: Linear between the times; held from each time on otherwise.

    Raises:
        DataError: When `values` are not a floating-point tensor with the axes (..., time, input).
    """

    values: Tensor
    is_linear: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.values, Tensor) or not self.values.is_floating_point() or self.values.ndim not in (2, 3):
            raise DataError(
                "`values` must be a floating-point tensor (series, time, input) or (time, input). Got "
                f"{tuple(self.values.shape) if isinstance(self.values, Tensor) else type(self.values).__name__}."
            )

    def require_covering(self, times: Tensor) -> None:
        """Refuse values that are not one for each of `times`, (time,) or (series, time).

        Raises:
            ShapeError: With both shapes.
        """
        lengths, wanted = self.values.shape[:-1], times.shape
        if lengths[-1] != wanted[-1] or (times.ndim == 2 and self.values.ndim == 3 and lengths != wanted):
            raise ShapeError(
                f"`forcing` must have one value for each of `times`, {tuple(wanted)}. Got {tuple(lengths)}, "
                "(series, time)."
            )

    def within(self, interval: Tensor, share: Tensor) -> Tensor:
        """The signal at a `share` of the way through each `interval`, both (place,) or (series, place).

        Returns:
            (place, input), or (place, series, input) if values or places differ between series.
        """
        low = entries_at(self._values(interval), interval)
        if self.is_linear:
            last = self.values.shape[-2] - 1
            high = entries_at(self._values(interval), (interval + 1).clamp(max=last))
            low = torch.lerp(low, high, share.to(low)[..., None])
        return low.movedim(-2, 0)

    def _values(self, interval: Tensor) -> Tensor:
        if interval.ndim == 2 and self.values.ndim == 2:
            return self.values.expand(len(interval), *self.values.shape)
        return self.values
