"""Copies on the host of tensors on a device, so that the host need not wait for the device.

The host plans: how many steps a solver takes, which frames are seen, whether anything is hidden. For that it needs
masks, time stamps and units in its memory, and copying them from a device means waiting until the device has caught up.
Most of them came from the host or are computed from tensors that did, so their host copies (twins) are kept, or
computed on request. Tensors made on the device are copied once per change.
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
    """A host copy, or how to find it, and where and in which version the device tensor equalled it.

    It must not hold the device tensor, which would never be freed.
    """

    place: tuple[int, int]
    tensor: Tensor | None = None
    find: Callable[[], Tensor | None] | None = None


_TWINS: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def on_host(tensor: Tensor) -> Tensor:
    """A copy of a tensor in host memory, without gradient; read-only."""
    if tensor.device == HOST:
        return tensor.detach()
    twin = _TWINS.get(tensor)
    if twin is None or twin.place != _place(tensor):
        twin = _TWINS[tensor] = _Twin(_place(tensor), tensor.detach().to(HOST))
    if twin.tensor is None:
        found = None if twin.find is None else twin.find()
        twin.tensor, twin.find = tensor.detach().to(HOST) if found is None else found, None
    return twin.tensor


def uploaded(tensor: Tensor, device: torch.device | str | None) -> Tensor:
    """A tensor on a device; if it comes from the host, `on_host` returns the original."""
    return tensor if device is None else in_both(lambda part: part.to(device), tensor, twin=lambda part: part)


def in_both(function: Callable[..., Tensor], *tensors: Tensor, twin: Callable[..., Tensor] | None = None) -> Tensor:
    """``function(*tensors)``, whose host twin is the same function, or `twin`, of their host twins."""
    result = function(*tensors)
    if result.device != HOST and all(result is not tensor for tensor in tensors):
        of_host, places = twin or function, [_place(tensor) for tensor in tensors]

        def find() -> Tensor | None:
            """None if an argument has changed since: the twin is that of its earlier numbers."""
            is_unchanged = places == [_place(tensor) for tensor in tensors]
            return of_host(*map(on_host, tensors)) if is_unchanged else None

        _TWINS[result] = _Twin(_place(result), find=find)
    return result


def _place(tensor: Tensor) -> tuple[int, int]:
    return tensor._version, tensor.data_ptr()
