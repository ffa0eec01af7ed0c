"""Writing files that are whole or absent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyro_seq._arguments import require

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
    is removed. Missing folders are made, and a link stays a link: the file that it points to is replaced.

    Raises:
        OSError: When the disk refuses.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target = target.resolve()
    draft = target.with_name(f".{secrets.token_hex(4)}.{target.name}")
    try:
        yield draft
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(content: bytes, path: StrPath) -> None:
    """Replace the file at `path` by one with this content, as a whole or not at all."""
    with replacing(path) as draft:
        draft.write_bytes(content)
