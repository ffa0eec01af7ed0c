"""``save`` and ``load``, and the file that they and the engine write: whole or not at all, checked, without code.

The file is one line of text, ``pyro_seq checkpoint <version> <bytes> <sha256>``, followed by that many bytes of a
``torch.save`` archive of tensors, numbers, texts, lists and dictionaries. Reading one can therefore run no code, and a
file that is cut short or altered by as much as one bit is refused. (The sum guards against accidents, not against
someone who writes a new file with a new sum; that reading runs no code guards against that.)
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.errors import CheckpointError, UnsupportedError
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import GuidePosterior, Posterior, StoredPosterior

FORMAT_VERSION = 1
_MAGIC = "pyro_seq checkpoint"
_ZIP = b"PK"
_LONGEST_HEADER = 200
_DATA_FIELDS = ("values", "mask", "times", "inputs", "context", "index", "total")

StrPath = str | os.PathLike[str]


def save(posterior: Posterior, path: StrPath) -> None:
    """Write a fitted model to one file, which is replaced as a whole or, when writing fails, left as it was.

    Args:
        posterior: What `fit` returned.
        path: The file; missing folders are created and an existing file is replaced.

    Raises:
        CheckpointError: When the file cannot be written.
        UnsupportedError: When this kind of posterior has no file format.

    Example:
        >>> save(posterior, "model.pt")  # doctest: +SKIP
        >>> posterior = load("model.pt", ODE2VAE(obs_shape=(2,)))  # doctest: +SKIP
    """
    payload: dict[str, Any] = {"class": class_name(posterior.model), "model": dict(posterior.model.state_dict())}
    if isinstance(posterior, GuidePosterior):
        payload |= {"kind": "guide", "history": posterior.history, "status": posterior.status}
    elif isinstance(posterior, ChainPosterior):
        payload |= {"kind": "chains", **posterior.options()}
    elif isinstance(posterior, StoredPosterior):
        payload |= {
            "kind": "stored",
            "sites": posterior.sites,
            "global_sites": sorted(posterior.global_sites),
            "sample_stats": posterior.sample_stats,
            "data": {name: getattr(posterior.data, name) for name in _DATA_FIELDS},
        }
    else:
        raise UnsupportedError(
            f"`save` knows guides, chains and stored draws. Got {type(posterior).__name__}. Save `model.state_dict()`."
        )
    try:
        write(payload, path)
    except OSError as error:
        raise CheckpointError(
            f"{str(path)!r} could not be written ({error}). Free some space or choose another."
        ) from error


def load(path: StrPath, model: SequenceModel) -> GuidePosterior | ChainPosterior | StoredPosterior:
    """Read a file of `save` into `model`, which must be built as the saved one was.

    Args:
        path: The file.
        model: A model of the same class and sizes; its weights are replaced, or left alone when anything does not fit.

    Raises:
        CheckpointError: When the file is incomplete, altered, of another format version, or of another model; the
            message lists what differs.
    """
    payload = read(path)
    if payload.get("kind") not in ("guide", "chains", "stored"):
        raise CheckpointError(
            f"{str(path)!r} holds a training run, not a posterior. Resume it: `Trainer(resume=True)`."
        )
    problems = differences({"class": payload["class"]}, {"class": class_name(model)})
    problems += differences(payload["model"], model.state_dict())
    refuse(problems, path, "Build the model with the arguments of the saved one.")
    model.load_state_dict(payload["model"])
    if payload["kind"] == "guide":
        return GuidePosterior(model, payload["history"], payload["status"])
    if payload["kind"] == "chains":
        return ChainPosterior.from_options(model, payload)
    return StoredPosterior(
        model,
        Sequences(**payload["data"]),
        payload["sites"],
        frozenset(payload["global_sites"]),
        payload["sample_stats"],
    )


# ---------------------------------------------------------------------- the file


def write(payload: Mapping[str, Any], path: StrPath) -> None:
    """Write plain data to `path`: under another name first, then renamed, so that no half file ever has this name.

    Raises:
        OSError: When the disk refuses; the earlier file is then untouched and nothing is left behind.
        UnsupportedError: When something is not plain data, and could not be read again.
    """
    _require_plain(payload, "checkpoint")
    buffer = io.BytesIO()
    torch.save(dict(payload), buffer)
    content = buffer.getvalue()
    header = f"{_MAGIC} {FORMAT_VERSION} {len(content)} {hashlib.sha256(content).hexdigest()}\n"
    write_bytes(header.encode() + content, path)


def write_bytes(content: bytes, path: StrPath) -> None:
    """Replace the file at `path` by one with this content, as a whole or not at all."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target = target.resolve()  # a link stays a link: the file it points to is replaced
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: StrPath) -> dict[str, Any]:
    """Read a file of `write`.

    Raises:
        CheckpointError: When it is missing, not one of ours, of another version, incomplete, altered, or holds code.
    """
    name = repr(str(path))
    try:
        with open(path, "rb") as file:
            header, content = file.readline(_LONGEST_HEADER), file.read()
    except OSError as error:
        raise CheckpointError(f"{name} could not be read ({error}). Check the path.") from error
    size, digest = _parsed_header(header, name)
    if len(content) != size:
        raise CheckpointError(f"{name} is not complete: it has {len(content)} of {size} bytes. Copy it again.")
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(f"{name} was altered: its sha256 sum differs from the recorded one. Copy it again.")
    try:
        if not content.startswith(_ZIP):  # the formats before it are bare pickles
            raise pickle.UnpicklingError("not an archive")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
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
    """Name of a model's class without its module, so that a model may move between files."""
    return type(model).__qualname__


def differences(saved: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Lines that say where two mappings differ: keys, plain values, shapes and types of tensors."""
    problems = [f"missing in the file: {name}" for name in expected if name not in saved]
    problems += [f"only in the file: {name}" for name in saved if name not in expected]
    for name in sorted(expected.keys() & saved.keys()):
        there, here = _comparable(saved[name]), _comparable(expected[name])
        if there != here:
            problems.append(f"{name}: {there} in the file, {here} here")
    return problems


def refuse(problems: list[str], path: StrPath, remedy: str) -> None:
    """Raise a `CheckpointError` that lists `problems`, if there are any."""
    if problems:
        shown = "".join(f"\n  {problem}" for problem in problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(f"{str(path)!r} belongs to something else:{shown}{more}\n{remedy}")


def describe(value: Any) -> str:
    """A text for any option, the same in every process: options are compared by it when a run is resumed."""
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
