"""The fields of ``Sequences`` in ``.npz`` files, without pickles and without half-written files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_seq._files import StrPath, fingerprint, replacing, require_moderate
from pyro_seq.data.calendar import Calendar
from pyro_seq.data.labels import AXES, Labels
from pyro_seq.errors import DataError

if TYPE_CHECKING:
    from pyro_seq.data.sequences import Sequences

_KEYS = ("values", "mask", "times", "inputs", "static")
_CALENDAR, _SUM = "calendar", "sha256"
_LABELS = {f"labels.{axis}": axis for axis in AXES}  # names of arrays


def from_npz(path: StrPath) -> dict[str, Any]:
    """Read a data set from an ``.npz`` file with an array `values`.

    Arrays `mask`, `times`, `inputs` and `static` are read if the file has them, as are the calendar and labels written
    by `to_npz`. Pickled objects are never loaded, so an untrusted file cannot run code. Other arrays in the file are
    ignored. Files written by `to_npz` also hold a checksum over names, types, shapes and content, which is verified.

    Args:
        path: The file.

    Returns:
        The data set, on the CPU.

    Raises:
        OSError: When the file cannot be opened.
        DataError: When it is incomplete, altered, not an ``.npz`` file, unpacks to more than both 64 times its size and
            a gigabyte, or holds objects or numbers out of range.
        ShapeError: When axes do not fit together.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                require_moderate(sum(part.file_size for part in archive.zip.infolist()), path.stat().st_size)
                arrays = {key: archive[key] for key in (*_KEYS, _CALENDAR, *_LABELS) if key in archive.files}
                recorded = str(archive[_SUM]) if _SUM in archive.files else None
                fields: dict[str, Any] = {key: array for key, array in arrays.items() if key not in _LABELS}
                named = {axis: arrays[key].tolist() for key, axis in _LABELS.items() if key in arrays}
                fields["labels"] = Labels.restored(named)
                if _CALENDAR in arrays:
                    origin, tz, freq = arrays[_CALENDAR].tolist()
                    fields[_CALENDAR] = Calendar(origin, tz or None, freq or None)
        except Exception as error:  # a damaged archive can raise almost any exception
            raise DataError(
                f"`path` must be a complete .npz file of numeric arrays. Got {str(path)!r}, which cannot be read "
                f"({type(error).__name__}: {error}). Write it again, with `to_npz` or `numpy.savez`."
            ) from error
    if recorded not in (None, fingerprint(arrays)):
        raise DataError(
            f"`path` must hold what `to_npz` wrote. Got {str(path)!r}, whose arrays {sorted(arrays)} do not have the "
            f"sum that it recorded. Write it again, or leave out its array `{_SUM}` if they were changed on purpose."
        )
    if "values" not in arrays:
        raise DataError(
            f"`path` must hold an array `values`. Got {str(path)!r} with {sorted(arrays)}. Rename its arrays."
        )
    return fields | {"source": str(path)}


def to_npz(data: Sequences, path: StrPath) -> None:  # noqa: D417 - a method of `data`
    """Write values, mask, times, inputs, static covariates, calendar and labels to an ``.npz`` file, atomically.

    The context of a training view and the position of a minibatch in its data set are not written.

    Args:
        path: The file, in a folder that exists.

    Raises:
        OSError: When the file cannot be written; an existing file then keeps its content.
    """
    folder = Path(path).parent
    if not folder.is_dir():  # do not create a misspelt folder
        raise FileNotFoundError(f"`path` must be in a folder that exists. Got {str(path)!r}. Make its folder first.")
    fields = {key: getattr(data, key) for key in _KEYS}
    arrays: dict[str, Any] = {key: field.numpy(force=True) for key, field in fields.items() if field is not None}
    if data.calendar is not None:
        arrays[_CALENDAR] = np.array([text or "" for text in dataclasses.astuple(data.calendar)])
    arrays |= {f"labels.{axis}": np.array(named) for axis, named in data.labels.plain().items()}
    arrays = {_SUM: np.array(fingerprint(arrays))} | arrays  # first, so that a damaged zip directory does not lose it
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)
