"""Reading and writing ``Sequences`` as ``.npz`` files, without pickles and without half-written files."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyro_seq.errors import DataError, PyroSeqError

if TYPE_CHECKING:
    from pyro_seq.data import Sequences

_KEYS = ("values", "mask", "times", "inputs")


def from_npz(cls: type[Sequences], path: str | os.PathLike[str]) -> Sequences:
    """Read a data set from an ``.npz`` file with the arrays `values` and, where present, `mask`, `times`, `inputs`.

    No pickled object is ever loaded, so a file from a stranger runs no code. Other arrays in the file are left alone.

    Args:
        cls: The class itself.
        path: The file.

    Returns:
        The data set, on the CPU.

    Raises:
        OSError: When the file cannot be opened.
        DataError: When it is incomplete, altered, no ``.npz`` file, or holds objects; or when numbers cannot be used.
        ShapeError: When axes do not fit together.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in _KEYS if key in archive.files}
        except Exception as error:  # a damaged archive can raise almost anything
            raise DataError(
                f"`path` must be a complete .npz file of numeric arrays. Got {str(path)!r}, which cannot be read "
                f"({type(error).__name__}: {error}). Write it again, with `to_npz` or `numpy.savez`."
            ) from error
    if "values" not in arrays:
        raise DataError(
            f"`path` must hold an array `values`. Got {str(path)!r} with {sorted(arrays)}. Rename its arrays."
        )
    try:
        return cls(**arrays)
    except PyroSeqError as error:
        raise type(error)(f"{path}: {error}") from error


def to_npz(data: Sequences, path: str | os.PathLike[str]) -> None:
    """Write `values`, `mask`, `times` and `inputs` to an ``.npz`` file, replacing it in one step.

    Whatever goes wrong, `path` holds its former content or all of the new. The context of a training view, and the
    place of a minibatch in its data set, are not written.

    Args:
        data: The data set.
        path: The file, in a folder that exists.

    Raises:
        OSError: When the file cannot be written.
    """
    path = Path(path)
    fields = {key: getattr(data, key) for key in _KEYS}
    arrays = {key: field.numpy(force=True) for key, field in fields.items() if field is not None}
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("xb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
