"""``Buffers``: state of a model besides its weights, such as running statistics, guarded like the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Buffers:
    """The buffers of a model, with a copy from before a step.

    A skipped step must not change buffers: otherwise one infinite pixel would stay in the running mean of a batch
    normalisation forever. The chains of a method are not included: bad chains restart by themselves.

    Args:
        model: The model. Buffers that are infinite initially, such as the range of values before any was seen, may stay
            infinite.
    """

    def __init__(self, model: nn.Module) -> None:
        self._places = {
            f"{path}.{name}".lstrip("."): (part._buffers, name)
            for path, part in model.named_modules()
            for name in part._buffers
        }
        self._kept: dict[str, Tensor] = {}
        self._unbounded = {name for name, buffer in self._now().items() if bool(buffer.isinf().any())}

    def keep(self) -> None:
        """Store a copy of all buffers."""
        self._kept = {name: buffer.detach().clone() for name, buffer in self._now().items()}

    def restore(self) -> None:
        """Restore the buffers from the last `keep`."""
        for name, buffer in self._now().items():
            buffer.data = self._kept[name].clone() if name in self._kept else buffer.data

    def largest(self) -> Tensor:
        """The largest entry, a scalar; not finite if any entry that should be finite is not."""
        judged = [b for name, b in self._now().items() if b.is_floating_point() and name not in self._unbounded]
        return torch.nn.utils.get_total_norm([b for b in judged if b.numel()], norm_type=float("inf"))

    def not_finite(self) -> list[str]:
        """Names of buffers with NaN, or with entries that became infinite."""
        bad = {name: b.isnan() if name in self._unbounded else ~b.isfinite() for name, b in self._now().items()}
        return [name for name, entries in bad.items() if bool(entries.any())]

    def _now(self) -> dict[str, Tensor]:
        found = {name: buffers[key] for name, (buffers, key) in self._places.items()}
        return {name: buffer for name, buffer in found.items() if buffer is not None}
