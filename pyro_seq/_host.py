"""What the host knows of tensors on a device, so that it need not wait for the device to be told.

The host plans: how many steps a solver takes, which frames are seen, whether anything is hidden. It needs masks, time
stamps and units in its own memory for that, and to copy them from a device means to wait until the device has caught
up. Most of them came from the host or follow from what did, so their twins there are kept, or worked out when asked
for. What was made on the device alone is copied once for each change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

HOST = torch.device("cpu")


@dataclass
class _Twin:
    """A tensor of the host, or how to come by it; and where and in which version the one on the device equalled it."""

    find: Callable[[], Tensor]
    place: tuple[int, int]
    tensor: Tensor | None = None


_TWINS: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def on_host(tensor: Tensor) -> Tensor:
    """The numbers of a tensor in the host's memory, without gradient: read them, do not write."""
    if tensor.device == HOST:
        return tensor.detach()
    twin = _TWINS.get(tensor)
    if twin is None or twin.place != _place(tensor):
        twin = _TWINS[tensor] = _Twin(lambda: tensor.detach().to(HOST), _place(tensor))
        twin.tensor = twin.find()
    if twin.tensor is None:
        twin.tensor = twin.find()
    return twin.tensor


def uploaded(tensor: Tensor, device: torch.device | str | None) -> Tensor:
    """A tensor on a device; where it comes from the host, `on_host` finds it there."""
    return tensor if device is None else in_both(lambda part: part.to(device), tensor, twin=lambda part: part)


def in_both(function: Callable[..., Tensor], *tensors: Tensor, twin: Callable[..., Tensor] | None = None) -> Tensor:
    """``function(*tensors)``, whose twin on the host is the same function, or `twin`, of theirs."""
    result = function(*tensors)
    if result.device != HOST and all(result is not tensor for tensor in tensors):
        of_host = twin or function
        _TWINS[result] = _Twin(lambda: of_host(*map(on_host, tensors)), _place(result))
    return result


def _place(tensor: Tensor) -> tuple[int, int]:
    return tensor._version, tensor.data_ptr()
