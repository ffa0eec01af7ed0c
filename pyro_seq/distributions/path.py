"""The interface of a distribution over whole paths."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor


class PathDistribution(TorchDistribution):
    """A distribution over whole paths: time is part of the event, (time, dim); any batch shape in front.

    Subclasses draw with `rsample`, score with `log_prob`, and continue a path with `future`. Ragged series need
    `valid`, because a site mask cannot reach time inside an event: steps where it is False contribute nothing to
    `log_prob`.

    Args:
        batch_shape: Leading shape, usually (series,).
        event_shape: (time, dim).
        valid: True where a step exists, (series, time), or None when all do.
    """

    has_rsample = True

    def __init__(
        self,
        batch_shape: torch.Size,
        event_shape: torch.Size,
        valid: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.valid = valid
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    def future(self, value: Tensor, horizon: int) -> PathDistribution:
        """Distribution of the next `horizon` steps of the path `value` (..., time, dim)."""
        raise NotImplementedError(f"{type(self).__name__} must say how a path goes on: define `future`.")
