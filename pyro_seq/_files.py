"""Writing files that are whole or absent, a sum by which altered arrays are known, and a bound on what unpacks."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from pyro_seq._arguments import require

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows: there nobody knows whose a draft is
    fcntl = None  # type: ignore[assignment]

_GAIN, _ALWAYS = 64, 2**30  # a file may unpack to so many times its size, and to so many bytes whatever its size
_DRAFT_MARK = 10  # characters before the name: a point, eight digits, a point
StrPath = str | os.PathLike[str]


def file_path(value: Any, name: str = "path") -> Path:
    """The path of a file, for there is no other use of what has no name, such as an empty text."""
    try:
        path = Path(value)
    except TypeError:
        path = Path()
    require(bool(path.name), name, "the path of a file", value)
    return path


@contextmanager
def replacing(path: StrPath) -> Iterator[Path]:
    """A draft beside `path`, with its suffix, that takes its place when the block ends well.

    Whatever goes wrong, in the block or on the disk, `path` holds its former content or all of the new, and the draft
    is removed; that of a process which was killed, by the next one that writes here. Missing folders are made, and a
    link stays a link: the file that it points to is replaced.

    Raises:
        OSError: When the disk refuses.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target = target.resolve()
    remove_drafts(target)
    draft = target.with_name(f".{secrets.token_hex(4)}.{target.name}")
    try:
        with _owned(draft):
            yield draft
            with draft.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def remove_drafts(path: StrPath) -> None:
    """Remove drafts of the file at `path` that killed processes left: the system let go of their locks."""
    target = Path(path).resolve()
    for draft in target.parent.glob(f".{'[0-9a-f]' * 8}.*"):
        if draft.name.endswith(f".{target.name}") and len(draft.name) == len(target.name) + _DRAFT_MARK:
            with suppress(OSError), draft.open("rb") as found:  # somebody is at work on it, or it is gone by now
                if _lock(found.fileno()):
                    draft.unlink()


@contextmanager
def _owned(draft: Path) -> Iterator[None]:
    """Make a draft and hold its lock, by which others know that somebody is at work on it."""
    if fcntl is None:
        yield
        return
    with draft.open("xb") as file:
        _lock(file.fileno())
        yield


def _lock(descriptor: int) -> bool:
    """Lock an open file; False where another has, or the file system knows no locks."""
    with suppress(OSError):
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def write_bytes(content: bytes, path: StrPath) -> None:
    """Replace the file at `path` by one with this content, as a whole or not at all."""
    with replacing(path) as draft:
        draft.write_bytes(content)


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """A sum over names, types, shapes and content: a zip file checks the content only, and not whose it is."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def require_moderate(unpacked: int, stored: int) -> None:
    """Refuse a file of `stored` bytes that says it unpacks to so many that a few of them could fill any memory.

    Raises:
        ValueError: With both numbers.
    """
    if unpacked > max(_ALWAYS, _GAIN * stored):
        raise ValueError(f"its {stored} bytes would unpack to {unpacked}: save it without compression if it is yours")
