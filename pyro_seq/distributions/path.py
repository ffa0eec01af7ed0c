"""The interface of a distribution over whole paths."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor


class PathDistribution(TorchDistribution):
    """Base class of distributions over whole paths: any batch shape, event shape (time, dim).

    Subclasses implement `rsample`, `log_prob`, and `future`, which continues a path. Series of different lengths need
    `valid`, because a site mask cannot mask time inside an event: steps where it is False contribute nothing to
    `log_prob`.

    Args:
        batch_shape: Leading shape, usually (series,).
        event_shape: (time, dim).
        valid: True where a step exists, (series, time); None if all exist.
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
