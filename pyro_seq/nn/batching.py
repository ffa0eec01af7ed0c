"""Apply a module that knows one batch axis to tensors with any number of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def over_batch(module: Callable[[Tensor], Tensor], value: Tensor, event_dim: int = 1) -> Tensor:
    """Flatten all but the last `event_dim` axes of `value`, apply `module`, and restore them."""
    batch_shape = value.shape[: value.ndim - event_dim]
    result = module(value.reshape(-1, *value.shape[value.ndim - event_dim :]))
    return result.reshape(*batch_shape, *result.shape[1:])
