"""A make-believe GPU: tensors of the CPU that say they are on ``cuda:0``, held to the rules of a real device.

Inside of `make_believe_gpu` a tensor goes to the device and back as always, by ``to``, ``cuda``, ``cpu`` or a factory's
``device=``. What is there is marked at its storage, so that views and parameters are too. Code that would fail on a GPU
then fails on any machine:

* An operation does not mix devices; numbers of the host, tensors without axes, may join arithmetic on the device.
* The host may pick entries of a tensor on the device by an index of its own, but not the other way round.
* Random numbers come from a generator of the same device.
* NumPy sees no tensor on the device.
* cuDNN differentiates recurrent networks in training mode only.

Where a call is checked: devices are known to Python alone, so `_Calls` reads the device arguments, as a mode of torch
functions; `_Operations` lies below autograd and sees each operation, those of the backward pass included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch._C import _functorch as functorch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE, HOST = torch.device("cuda", 0), torch.device("cpu")
aten = torch.ops.aten

_PICKS = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
_NO_ARITHMETIC = {aten.cat, aten.stack, aten.index_select, aten.gather, aten.scatter}
_RECURRENT = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}
_TRAIN = 6  # the place of `train` among their arguments


# ---------------------------------------------------------------------- where a tensor is


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor.untyped_storage()


def is_on_device(tensor: Tensor) -> bool:
    """Whether a tensor is on the make-believe GPU."""
    return not tensor.is_meta and getattr(_storage(tensor), "is_on_device", False)


def _device(tensor: Tensor) -> torch.device:
    return torch.device("meta") if tensor.is_meta else DEVICE if is_on_device(tensor) else HOST


def _mark(tensor: Tensor, on_device: bool = True) -> Tensor:
    if not tensor.is_meta:  # what torch itself asks for shapes only
        _storage(tensor).is_on_device = on_device  # type: ignore[attr-defined]
    return tensor


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


class _Move(torch.autograd.Function):
    """A copy on the other side; gradients travel back."""

    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, on_device: bool) -> Tensor:
        return _mark(tensor.clone(), on_device)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, bool], output: Tensor) -> None:
        ctx.on_device = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _move(gradients[0], not ctx.on_device), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return _move(tangents[0], ctx.on_device)


def _move(tensor: Tensor, on_device: bool) -> Tensor:
    return tensor if is_on_device(tensor) == on_device else _Move.apply(tensor, on_device)


def _is_device(value: Any) -> bool:
    return isinstance(value, (str, torch.device))


def _is_ours(device: Any) -> bool:
    return torch.device(device).type == DEVICE.type


class Generator(torch.Generator):
    """A generator that says where it was made for."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        generator = super().__new__(cls, "cpu")
        generator.place = DEVICE if _is_ours(device) else HOST
        return generator

    @property
    def device(self) -> torch.device:
        return self.place


# ---------------------------------------------------------------------- the rules


def _refuse_mixture(name: str) -> None:
    raise RuntimeError(f"Expected all tensors to be on the same device, but found both {DEVICE} and {HOST} ({name})")


class _Operations(TorchDispatchMode):
    """Refuses operations that mix devices, and marks what those on the device give."""

    is_inside = False  # a call that has tensors on the device: what it fills anew lies there

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet is aten.copy_:
            return func(*args, **kwargs)
        if packet in _PICKS and is_on_device(args[0]):
            given = [args[0], *_tensors(args[2:])]  # wherever the index is
        else:
            given = [*_tensors(args), *_tensors(kwargs)]
        here = [is_on_device(tensor) for tensor in given]
        if any(here):
            has_number = all(is_here or tensor.ndim == 0 for tensor, is_here in zip(given, here, strict=True))
            first = func._schema.arguments[0]
            writes_to_host = first.is_write and isinstance(args[0], Tensor) and not here[0]
            if not all(here) and (not has_number or packet in _NO_ARITHMETIC or writes_to_host):
                _refuse_mixture(str(func))
        result = func(*args, **kwargs)
        if any(here) or (self.is_inside and not given):
            for tensor in _tensors(result):
                _mark(tensor)
        return result


class _Calls(TorchFunctionMode):
    """Takes the device out of the arguments of a call, and puts what it returns there."""

    def __init__(self, operations: _Operations) -> None:
        super().__init__()
        self.operations = operations

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.numpy, Tensor.__array__) and is_on_device(args[0]):
            if not kwargs.get("force"):
                raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
            args = (_move(args[0].detach(), False),)
        if func is Tensor.tolist:
            return _move(args[0].detach(), False).tolist()
        if func in (Tensor.cpu, Tensor.cuda):
            return _move(args[0], func is Tensor.cuda)
        wanted = kwargs.get("device")
        if wanted is not None:
            kwargs["device"] = HOST
        if func in (Tensor.to, Tensor.type_as):
            others = [value for value in args[1:] if isinstance(value, Tensor)]
            wanted = next((place for place in (*args[1:], *map(_device, others)) if _is_device(place)), wanted)
            args = (args[0], *(HOST if _is_device(value) else value for value in args[1:]))
        given = [*_tensors(args), *_tensors(kwargs)]
        inside = any(map(is_on_device, given))
        on_device = inside if wanted is None else _is_ours(wanted)
        source = kwargs.get("generator")
        if source is not None and _is_ours(source.device) != on_device:
            kind = (DEVICE if on_device else HOST).type
            raise RuntimeError(f"Expected a '{kind}' device type for generator but found '{source.device.type}'")
        result = self._call(func, args, kwargs, inside)
        if func in _RECURRENT and inside and not args[_TRAIN]:
            _forbid_gradients(result)
        if func is Tensor.__deepcopy__ and inside:
            _mark(result)
        return result if wanted is None else _move(result, on_device)

    def _call(self, func: Callable, args: Any, kwargs: Any, inside: bool) -> Any:
        outer, self.operations.is_inside = self.operations.is_inside, inside
        try:
            return func(*args, **kwargs)
        finally:
            self.operations.is_inside = outer


def _forbid_gradients(results: Iterable[Tensor]) -> None:
    def refuse(gradient: Tensor) -> None:
        raise RuntimeError("cudnn RNN backward can only be called in training mode")

    for result in results:
        if result.requires_grad:
            result.register_hook(refuse)


# ---------------------------------------------------------------------- the device


@contextmanager
def make_believe_gpu() -> Iterator[torch.device]:
    """The device, for as long as the block lasts."""
    operations, plain = _Operations(), torch.Generator
    own = {
        "device": property(_device),
        "is_cuda": property(is_on_device),
        "is_cpu": property(lambda tensor: not is_on_device(tensor)),
    }
    for name, value in own.items():
        setattr(Tensor, name, value)
    torch.Generator = Generator  # type: ignore[misc]
    try:
        # without cuDNN networks do not look for a place in memory that suits it
        with torch.backends.cudnn.flags(enabled=False), operations, _Calls(operations):
            yield DEVICE
    finally:
        torch.Generator = plain  # type: ignore[misc]
        for name in own:
            delattr(Tensor, name)


class _Accelerator(Accelerator):
    """What Lightning asks of a device."""

    def setup_device(self, device: torch.device) -> None:
        """Nothing to do."""

    def teardown(self) -> None:
        """Nothing to do."""

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return [0]

    @staticmethod
    def get_parallel_devices(devices: Any) -> Any:
        return [DEVICE]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return "make-believe"


def strategy() -> SingleDeviceStrategy:
    """For a `Trainer` that trains on the make-believe GPU."""
    return SingleDeviceStrategy(device=DEVICE, accelerator=_Accelerator())
