"""Recipes: plain data that describe how to make models and parts, naming only classes of an allow-list.

A recipe is a number, a text, a tuple of recipes, or a dictionary: ``{"kind": name, "arguments": {...}}`` for an object,
``{"kind": name}`` for a class itself, ``{"constant": name}``, and ``{"unknown": name}`` for objects that cannot be
rebuilt.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import Tensor, nn

from pyro_seq._options import NotPlainError, plain
from pyro_seq.errors import DataError

T = TypeVar("T")

_LAYERS = (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardswish, nn.Identity, nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6,
    nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Tanh,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Dropout, nn.Flatten, nn.GRU,
    nn.GRUCell, nn.GroupNorm, nn.InstanceNorm2d, nn.LSTM, nn.LSTMCell, nn.LayerNorm, nn.Linear, nn.PixelShuffle,
    nn.Sequential, nn.Unflatten,
)  # fmt: skip
_KINDS: dict[str, type] = {kind.__name__: kind for kind in _LAYERS}
_CONSTANTS: dict[str, Any] = {}
_RECORD = "_recorded"  # attribute with the arguments that an object does not store itself
_NOT_OPTIONS = {"self", "args", "kwargs", "device", "dtype", "mode"}  # of the layers of torch; `mode` is their class


def rebuildable(kind: type[T]) -> type[T]:
    """Class decorator: files may name this class, and its objects record how they were made.

    An argument that the object keeps as an attribute or part of the same name is read from there, so that changes are
    included; for other arguments a recipe is recorded.
    """
    known = _KINDS.setdefault(kind.__name__, kind)
    if known.__module__ != kind.__module__:
        raise DataError(f"A rebuildable class must have a name of its own. Got two `{kind.__name__}`. Rename one.")
    _KINDS[kind.__name__] = kind
    if not dataclasses.is_dataclass(kind):
        kind.__init__ = _recording(kind)  # type: ignore[method-assign]
    return kind


def remember_constants(constants: dict[str, Any]) -> None:
    """Let files name these objects, such as the functions of an activation."""
    _CONSTANTS.update(constants)


def recipe(value: Any) -> Any:
    """The recipe of an equal object."""
    try:
        return plain(value)
    except NotPlainError:
        pass
    for name, constant in _CONSTANTS.items():
        if constant is value:
            return {"constant": name}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(recipe(entry) for entry in value)
    kind = value if isinstance(value, type) else type(value)
    arguments = {} if kind is value else _arguments(value)
    if _KINDS.get(kind.__name__) is not kind or arguments is None:
        return {"unknown": getattr(value, "__qualname__", type(value).__qualname__)}
    return {"kind": kind.__name__} if kind is value else {"kind": kind.__name__, "arguments": arguments}


def unknown(made: Any, name: str = "") -> Iterator[str]:
    """The parts of a recipe that cannot be rebuilt: names of arguments, with the names of their classes."""
    if isinstance(made, tuple):
        for position, entry in enumerate(made):
            yield from unknown(entry, f"{name}.{position}")
    if not isinstance(made, dict):
        return
    if made.get("kind") not in _KINDS and made.get("constant") not in _CONSTANTS:
        yield f"{name or 'model'} ({made.get('unknown', made.get('kind', made.get('constant')))})"
    for key, argument in made.get("arguments", {}).items():
        yield from unknown(argument, f"{name}.{key}" if name else key)


def rebuilt(made: Any) -> Any:
    """Make the object of a recipe without `unknown` parts; weights are new."""
    if isinstance(made, tuple):
        return tuple(rebuilt(entry) for entry in made)
    if not isinstance(made, dict):
        return made
    if "constant" in made:
        return _CONSTANTS[made["constant"]]
    kind = _KINDS[made["kind"]]
    if "arguments" not in made:
        return kind
    arguments = {name: rebuilt(argument) for name, argument in made["arguments"].items()}
    return nn.Sequential(OrderedDict(arguments)) if kind is nn.Sequential else kind(**arguments)


# ---------------------------------------------------------------------- arguments


def _recording(kind: type) -> Callable[..., None]:
    construct = kind.__init__  # type: ignore[misc]
    signature = inspect.signature(construct)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # of `nn.Module`, unused
    names = [name for name, parameter in signature.parameters.items() if parameter.kind not in variable][1:]

    @functools.wraps(construct)
    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        construct(self, *args, **kwargs)
        if type(self) is kind:  # a derived class has other arguments
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            given = {name: bound.arguments[name] for name in names}
            record = {name: None if _is_kept(self, name, value) else (recipe(value),) for name, value in given.items()}
            setattr(self, _RECORD, record)

    return initialise


def _is_kept(owner: Any, name: str, argument: Any) -> bool:
    """Whether the attribute of that name is the argument, or the object's replacement for None."""
    kept = getattr(owner, name, NotImplemented)
    if kept is NotImplemented or isinstance(kept, Tensor) or inspect.ismethod(kept):
        return False
    return argument is None or isinstance(kept, nn.Module) == isinstance(argument, nn.Module)


def _arguments(value: Any) -> dict[str, Any] | None:
    """Recipes of the arguments that make an equal object; None if unknown."""
    if dataclasses.is_dataclass(value):
        return {field.name: recipe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, _RECORD):
        record = getattr(value, _RECORD)
        return {name: recipe(getattr(value, name)) if kept is None else kept[0] for name, kept in record.items()}
    if type(value) is nn.Sequential:
        return {name: recipe(part) for name, part in value.named_children()}
    if type(value) in _LAYERS:
        return _layer_arguments(value)
    return None


def _layer_arguments(layer: nn.Module) -> dict[str, Any]:
    """Arguments of a torch layer: its attributes, except `bias`, which may be the tensor or None."""
    owner = nn.RNNBase if isinstance(layer, nn.RNNBase) else type(layer)
    parameters = inspect.signature(owner.__init__).parameters
    found = {name: getattr(layer, name) for name in parameters if name not in _NOT_OPTIONS}
    if "bias" in found:
        found["bias"] = isinstance(found["bias"], Tensor) or bool(found["bias"])
    return {name: recipe(argument) for name, argument in found.items() if argument != parameters[name].default}
