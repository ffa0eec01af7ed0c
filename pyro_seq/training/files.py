"""Files of training runs and posteriors: written atomically, checksummed, never executing code.

A file is one line of text, ``pyro_seq checkpoint <version> <bytes> <sha256>``, followed by that many bytes of a
``torch.save`` archive of tensors, numbers, texts, lists and dictionaries. Reading a file therefore never runs code, and
a truncated or altered file is refused, even if a single bit has changed. (The checksum protects against accidents, not
against a forged file with a new checksum; but even a forged file cannot run code.)
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pyro_seq._files import StrPath, write_bytes
from pyro_seq._options import compare, options_of
from pyro_seq.errors import CheckpointError, UnsupportedError

FORMAT_VERSION = 1
_MAGIC = "pyro_seq checkpoint"
_ZIP = b"PK"
_LONGEST_HEADER = 200


def write(payload: Mapping[str, Any], path: StrPath) -> None:
    """Write plain data to `path` atomically: under another name first, then renamed.

    Raises:
        OSError: When writing fails; an earlier file is then unchanged and no draft remains.
        UnsupportedError: When something is not plain data and so could not be read again.
    """
    _require_plain(payload, "checkpoint")
    buffer = io.BytesIO()
    torch.save(dict(payload), buffer)
    content = buffer.getvalue()
    header = f"{_MAGIC} {FORMAT_VERSION} {len(content)} {hashlib.sha256(content).hexdigest()}\n"
    write_bytes(header.encode() + content, path)


def read(path: StrPath) -> dict[str, Any]:
    """Read a file of `write`.

    Raises:
        CheckpointError: When it is missing, of another program or version, incomplete, altered, or holds code.
    """
    name = repr(str(path))
    try:
        with open(path, "rb") as file:
            header = file.readline(_LONGEST_HEADER)
            size, digest = _parsed_header(header, name)  # foreign files are read no further
            found = os.fstat(file.fileno()).st_size - len(header)
            if found != size:
                raise CheckpointError(f"{name} is not complete: it has {found} of {size} bytes. Copy it again.")
            content = file.read(size)
    except OSError as error:
        raise CheckpointError(f"`path` {name} could not be read ({error}). Check it.") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(f"{name} was altered: its sha256 sum differs from the recorded one. Copy it again.")
    try:
        if not content.startswith(_ZIP):  # earlier formats are bare pickles
            raise pickle.UnpicklingError("not an archive")
        if any(part.compress_type for part in zipfile.ZipFile(io.BytesIO(content)).infolist()):
            raise CheckpointError(
                f"{name} holds packed parts, which a file of pyro_seq never does and which might fill the memory. Its "
                "sum is right, so it was made this way: do not trust its source."
            )
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{name} holds more than tensors and plain data, and is refused, for reading it could run code. Its sum is "
            "right, so it was made this way: do not trust its source."
        ) from error


def _parsed_header(header: bytes, name: str) -> tuple[int, str]:
    if not header.startswith(_MAGIC.encode()):
        problem = "is empty" if not header else "is not a file of pyro_seq"
        raise CheckpointError(f"{name} {problem}: it does not begin with {_MAGIC!r}. Check the path.")
    try:
        version, size, digest = header.decode("ascii").removeprefix(_MAGIC).split()
        version_number, num_bytes = int(version), int(size)
    except ValueError as error:
        raise CheckpointError(f"{name} is not complete: its first line is cut or altered. Copy it again.") from error
    if version_number != FORMAT_VERSION:
        age = "newer" if version_number > FORMAT_VERSION else "older"
        raise CheckpointError(
            f"{name} has format version {version_number}, {age} than the version {FORMAT_VERSION} that this pyro_seq "
            "reads. Use the release that wrote it."
        )
    return num_bytes, digest


def _require_plain(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _require_plain(key, f"a key of {where}")
            _require_plain(part, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for position, part in enumerate(value):
            _require_plain(part, f"{where}[{position}]")
    elif not (value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str)):
        raise UnsupportedError(
            f"A checkpoint holds tensors and plain data only. Got {type(value).__name__} in {where}. Use an optimiser "
            "whose state is plain, or train without a directory."
        )


# ---------------------------------------------------------------------- what belongs to what


def class_name(model: nn.Module) -> str:
    """Name of a model's class without its module, so that a class may move between modules."""
    return type(model).__qualname__


def renamed(weights: Mapping[str, Tensor], parts: Mapping[str, str], owner: str = "") -> dict[str, Tensor]:
    """Weights under current names: `parts` maps changed prefixes of names, after the prefix of the `owner`."""

    def today(name: str) -> str:
        for old, new in parts.items():
            if name.startswith(owner + old):
                return owner + new + name.removeprefix(owner + old)
        return name

    return {today(name): weight for name, weight in weights.items()}


def differences(saved: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Lines that describe differences of two mappings: keys, plain values, shapes and types of tensors."""
    problems = [f"missing in the file: {name}" for name in expected if name not in saved]
    problems += [f"only in the file: {name}" for name in saved if name not in expected]
    for name in sorted(expected.keys() & saved.keys()):
        there, here = _comparable(saved[name]), _comparable(expected[name])
        if there != here:
            problems.append(f"{name}: {there} in the file, {here} here")
    return problems


def not_finite(weights: Mapping[str, Tensor], model: nn.Module) -> list[str]:
    """Lines that name weights of `model` that are not finite, and buffers that are NaN; buffers may be infinite."""
    learnt = {name for name, _ in model.named_parameters()}
    bad = {name: ~weight.isfinite() if name in learnt else weight.isnan() for name, weight in weights.items()}
    return [f"not finite: {name}" for name, entries in bad.items() if bool(entries.any())]


def option_differences(content: Mapping[str, Any], model: nn.Module, path: StrPath) -> list[str]:
    """Lines that list options in which the model of a file differs; warns of options that the file does not contain."""
    if "options" not in content:
        warnings.warn(
            f"{str(path)!r} is of an earlier version, which kept no options: only the sizes of its model were "
            "compared. Check that the model has the options of the saved one, then save it again.",
            stacklevel=3,
        )
        return []
    problems, unknown = compare(content["options"], options_of(model))
    if unknown:
        warnings.warn(
            f"{str(path)!r} and the model do not know the same options, so these were not compared: {unknown}. Check "
            "them, then save the model again. What changes by itself is no option: begin its name with an underscore.",
            stacklevel=3,
        )
    return problems


def refuse(problems: list[str], path: StrPath, remedy: str) -> None:
    """Raise a `CheckpointError` that lists `problems`, if there are any."""
    if problems:
        shown = "".join(f"\n  {problem}" for problem in problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(f"{str(path)!r} belongs to something else:{shown}{more}\n{remedy}")


def describe(value: Any) -> str:
    """A text for any option, the same in every process; used to compare options when a run is resumed."""
    if isinstance(value, functools.partial):
        return f"{describe(value.func)}{describe(value.args)}{describe(value.keywords)}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return f"{type(value).__qualname__}{describe(fields)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {describe(part)}" for key, part in sorted(value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(describe(part) for part in value) + "]"
    if isinstance(value, Tensor):
        return f"{_comparable(value)} {value.tolist()}"
    return getattr(value, "__qualname__", None) or re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _comparable(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return str(value)
