"""``Buffers``: what a model keeps beside its weights, such as running statistics, guarded as the weights are."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Buffers:
    """The buffers of a model, and how they were before a step.

    A step that is not taken must not leave a trace: one infinite pixel would else stay in the running mean of a batch
    normalisation for good. What a method remembers of its chains is not among them: bad ones begin anew by themselves.

    Args:
        model: The model. Buffers that are infinite now, such as the range of values that were never seen, may stay so.
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
        """Remember all of them."""
        self._kept = {name: buffer.detach().clone() for name, buffer in self._now().items()}

    def restore(self) -> None:
        """Make them as they were at the last `keep`."""
        for name, buffer in self._now().items():
            buffer.data = self._kept[name].clone() if name in self._kept else buffer.data

    def largest(self) -> Tensor:
        """The largest entry of all, one number; not finite as soon as one is not that should be."""
        judged = [b for name, b in self._now().items() if b.is_floating_point() and name not in self._unbounded]
        return torch.nn.utils.get_total_norm([b for b in judged if b.numel()], norm_type=float("inf"))

    def not_finite(self) -> list[str]:
        """Names of those that hold NaN, or what is infinite and was not at first."""
        bad = {name: b.isnan() if name in self._unbounded else ~b.isfinite() for name, b in self._now().items()}
        return [name for name, entries in bad.items() if bool(entries.any())]

    def _now(self) -> dict[str, Tensor]:
        found = {name: buffers[key] for name, (buffers, key) in self._places.items()}
        return {name: buffer for name, buffer in found.items() if buffer is not None}
