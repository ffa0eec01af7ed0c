"""The fields of ``Sequences`` in ``.npz`` files, without pickles and without half-written files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pyro_seq._files import StrPath, replacing
from pyro_seq.data.calendar import Calendar
from pyro_seq.errors import DataError

KEYS = ("values", "mask", "times", "inputs")


def from_npz(path: StrPath) -> dict[str, Any]:
    """Read a data set from an ``.npz`` file with an array `values`.

    Arrays `mask`, `times` and `inputs` are read where the file has them, and the `calendar` that `to_npz` writes.
    No pickled object is ever loaded, so a file from a stranger runs no code. Other arrays in the file are left alone.

    Args:
        path: The file.

    Returns:
        The data set, on the CPU.

    Raises:
        OSError: When the file cannot be opened.
        DataError: When it is incomplete, altered, not an ``.npz`` file, or holds objects or numbers out of range.
        ShapeError: When axes do not fit together.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays: dict[str, Any] = {key: archive[key] for key in KEYS if key in archive.files}
                if "calendar" in archive.files:
                    origin, tz, freq = archive["calendar"].tolist()
                    arrays["calendar"] = Calendar(origin, tz or None, freq or None)
        except Exception as error:  # a damaged archive can raise almost anything
            raise DataError(
                f"`path` must be a complete .npz file of numeric arrays. Got {str(path)!r}, which cannot be read "
                f"({type(error).__name__}: {error}). Write it again, with `to_npz` or `numpy.savez`."
            ) from error
    if "values" not in arrays:
        raise DataError(
            f"`path` must hold an array `values`. Got {str(path)!r} with {sorted(arrays)}. Rename its arrays."
        )
    return arrays | {"source": str(path)}


def write(fields: Mapping[str, Tensor | None], calendar: Calendar | None, path: StrPath) -> None:
    """Replace the file at `path` by one with these fields, as a whole or not at all.

    Raises:
        OSError: When the file cannot be written.
    """
    folder = Path(path).parent
    if not folder.is_dir():  # a misspelt folder should not come into being
        raise FileNotFoundError(f"`path` must be in a folder that exists. Got {str(path)!r}. Make its folder first.")
    arrays: dict[str, Any] = {key: field.numpy(force=True) for key, field in fields.items() if field is not None}
    if calendar is not None:
        arrays["calendar"] = np.array([text or "" for text in dataclasses.astuple(calendar)])
    with replacing(path) as draft, draft.open("xb") as file:
        np.savez(file, **arrays)
