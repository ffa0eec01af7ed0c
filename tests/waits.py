"""Counts how often the host waits for a make-believe GPU, where, and how many operations reach it.

To read a number from a device, or to let a shape depend on one, means to wait until the device has done all that was
asked of it before. So does a copy to the host. `Waits` counts them inside of `make_believe_gpu`.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests import make_believe_gpu
from tests.make_believe_gpu import is_on_device

aten = torch.ops.aten

_READS = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.is_nonzero,
    aten.equal,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.masked_select,
    aten.repeat_interleave,
}
_BY_INDEX = {aten.index, aten.index_put, aten.index_put_}


class Waits(TorchDispatchMode):
    """Counts while it is switched on.

    Attributes:
        is_on: Whether it counts.
        places: Lines of the library that wait, and how often.
        num_operations: Operations, those that only make views among them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_on = False
        self.places: Counter[str] = Counter()
        self.num_operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.is_on:
            self.num_operations += 1
            packet = func.overloadpacket
            if packet in _READS and any(map(is_on_device, make_believe_gpu._tensors(args))):
                self.record()
            if packet in _BY_INDEX:  # by a mask, whose number of entries decides the shape
                for index in make_believe_gpu._tensors(args[1]):
                    if index.dtype == torch.bool and is_on_device(index):
                        self.record()
        return func(*args, **(kwargs or {}))

    def record(self) -> None:
        """One more, at the innermost line of the library."""
        lines = [frame for frame in traceback.extract_stack() if "/pyro_seq/" in frame.filename]
        lines = [frame for frame in lines if "/tests/" not in frame.filename]
        place = lines[-1] if lines else traceback.extract_stack()[-3]
        self.places[f"{place.filename.split('/pyro_seq/')[-1]}:{place.lineno} {place.line}"] += 1

    @property
    def num_waits(self) -> int:
        """Of all places together."""
        return self.places.total()


@contextmanager
def counting() -> Iterator[Waits]:
    """A counter, off at first; enter it inside of `make_believe_gpu`."""
    waits, plain = Waits(), make_believe_gpu._move

    def move(tensor: Tensor, on_device: bool) -> Tensor:
        if waits.is_on and not on_device and is_on_device(tensor):
            waits.record()
        return plain(tensor, on_device)

    make_believe_gpu._move = move
    try:
        with waits:
            yield waits
    finally:
        make_believe_gpu._move = plain


class During(lightning.Callback):
    """Switches a counter on for one step of training."""

    def __init__(self, waits: Waits, step: int) -> None:
        self.waits, self.step = waits, step

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.waits.is_on = batch_idx == self.step

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.waits.is_on = False
