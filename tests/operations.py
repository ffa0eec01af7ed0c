"""Counts operations below autograd, forward and backward, and the reads of numbers among them."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Operations(TorchDispatchMode):
    """Counts inside its block.

    Attributes:
        count: Operations, including those that only make views.
        num_reads: Those that read a number, for which a device would have to be waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = self.num_reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        self.num_reads += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))
