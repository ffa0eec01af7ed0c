"""The options of a model as plain data for comparison: all that affects predictions and is not in the ``state_dict``.

They are read from the object in its current state, not from the call that made it, so that later changes are included.
An object becomes a dictionary: its class under the key ``""``, then its public attributes and its parts.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import re
import sys
from collections.abc import Mapping
from enum import Enum
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

_CLASS = ""
_LONGEST = 80  # characters of an option in a message
_CONTAINERS = ("dict", "list", "tuple")
_NO_OPTIONS = (torch.device, torch.Generator, logging.Logger)  # where a model runs and logs
_EMPTY = CellType()  # of a name read by a function that has no value yet


class NotPlainError(TypeError):
    """A value is neither a number or text nor a tuple of these."""


class Comparison(NamedTuple):
    """Where two models differ.

    Attributes:
        problems: Lines that name an option, with its value in the file and here.
        unknown: Names of options that only one of the two has, although the class has the same name.
    """

    problems: list[str]
    unknown: list[str]


def plain(value: Any) -> Any:
    """Numbers, texts, None and tuples of these, as built-in types; lists become tuples.

    Raises:
        NotPlainError: When it is anything else.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Enum):
        raise NotPlainError
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return value
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(plain(entry) for entry in value)
    raise NotPlainError


def options_of(model: nn.Module) -> dict[str, Any]:
    """The options of a model and of all of its parts, as nested plain data.

    Public attributes and parts are included: solvers and other objects by their attributes, classes and functions by
    name, unnamed functions and tensors that are not in the ``state_dict`` by a checksum. State that changes by itself
    starts with an underscore or, if it is a part, declares ``has_options = False``.
    """
    return _described(model, "", {})


def compare(there: Any, here: Any) -> Comparison:
    """Compare the options in a file with those of a model."""
    found = Comparison([], [])
    _compare(there, here, "", found)
    return found


# ---------------------------------------------------------------------- describing


def _described(value: Any, name: str, above: dict[int, str]) -> Any:
    try:
        return plain(value)
    except NotPlainError:
        pass
    if isinstance(value, Tensor | np.ndarray):
        return _digest(value)
    if isinstance(value, set | frozenset):
        return tuple(sorted(map(str, value)))
    if isinstance(value, Enum | torch.dtype | complex | bytes):
        return str(value)
    is_named = hasattr(value, "__name__") and not isinstance(value, nn.Module)
    if is_named and not _is_local(value) and not isinstance(value, MethodType):
        return str(value.__name__)  # of a class or a function
    if id(value) in above:
        return f"the same as {above[id(value)]}"
    above[id(value)] = name or "the model"
    parts = {
        key: _described(part, f"{name}.{key}" if name else key, above)
        for key, part in _parts(value).items()
        if not isinstance(part, _NO_OPTIONS) and getattr(part, "has_options", True)
    }
    if not isinstance(value, nn.Module):
        del above[id(value)]  # shared modules have shared weights; sharing of other objects is irrelevant
    return {_CLASS: value.__name__ if is_named else type(value).__qualname__, **parts}


def _is_local(value: Any) -> bool:
    """True for a lambda and for a function inside another, whose names do not identify them."""
    return isinstance(value, FunctionType) and "<" in value.__qualname__


def _parts(value: Any) -> dict[str, Any]:
    if isinstance(value, nn.Module):
        inside = vars(value)
        kept = {name: inside["_buffers"].get(name) for name in sorted(inside["_non_persistent_buffers_set"])}
        return _public({name: part for name, part in inside.items() if name != "training"}) | kept | inside["_modules"]
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    if isinstance(value, FunctionType):
        return _function_parts(value)
    if isinstance(value, MethodType):
        return {"owner": value.__self__}
    if isinstance(value, functools.partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, list | tuple):
        return {str(position): part for position, part in enumerate(value)}
    if dataclasses.is_dataclass(value):
        return _public({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if hasattr(value, "__dict__"):
        return _public(vars(value))
    return {"value": re.sub(r" at 0x[0-9a-f]+", "", repr(value))}


def _public(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in attributes.items() if not name.startswith("_")}


def _function_parts(function: FunctionType) -> dict[str, Any]:
    """Values that a function reads from outside, and its code under the Python version, because bytecode differs."""
    code = function.__code__
    names, cells = code.co_freevars, function.__closure__ or ()
    outside = {name: cell.cell_contents for name, cell in zip(names, cells, strict=True) if cell != _EMPTY}
    version = f"code_{sys.version_info.major}_{sys.version_info.minor}"
    defaults = {"defaults": function.__defaults__, "keyword_defaults": function.__kwdefaults__}
    return {**defaults, version: _code_sum(code), **outside}


def _code_sum(code: CodeType) -> str:
    constants = [_code_sum(part) if isinstance(part, CodeType) else _sorted_text(part) for part in code.co_consts]
    return hashlib.sha256(repr((code.co_code, code.co_names, constants)).encode()).hexdigest()[:16]


def _sorted_text(constant: Any) -> str:
    return repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant)


def _digest(array: Tensor | np.ndarray) -> str:
    """Type, shape and checksum of the entries."""
    kind = f"{str(array.dtype).removeprefix('torch.')} {tuple(array.shape)}"
    try:
        if isinstance(array, Tensor):
            array = array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        content = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
    except (RuntimeError, TypeError):  # sparse, or without entries
        return kind
    return f"{kind} {hashlib.sha256(content).hexdigest()[:16]}"


# ---------------------------------------------------------------------- comparing


def _compare(there: Any, here: Any, name: str, found: Comparison) -> None:
    if not (isinstance(there, dict) and isinstance(here, dict) and there.get(_CLASS) == here.get(_CLASS)):
        if there != here and repr(there) != repr(here):  # nan is not nan
            found.problems.append(f"{name or 'class'}: {_shown(there)} in the file, {_shown(here)} here")
        return
    for key in there | here:
        where = f"{name}.{key}" if name else key
        if key in there and key in here:
            _compare(there[key], here[key], where, found)
        elif isinstance((there | here)[key], dict) or there.get(_CLASS) in _CONTAINERS:
            found.problems.append(f"{'only' if key in there else 'missing'} in the file: {where}")
        else:  # an attribute that came or went with another version of the class
            found.unknown.append(where)


def _shown(described: Any) -> str:
    text = str(described.get(_CLASS) if isinstance(described, dict) else described)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
