"""Folders of data, and a small cache of generated arrays."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pyro_seq._files import fingerprint, replacing

_SUM = "sha256"
Arrays = Mapping[str, Any]  # of numpy arrays, which the annotations of `np.savez` reject as keyword arguments


def data_root() -> Path:
    """Folder of the real data: the environment variable ``PYRO_SEQ_DATA``, else `cache_root`."""
    folder = os.environ.get("PYRO_SEQ_DATA")
    return Path(folder).expanduser() if folder else cache_root()


def cache_root() -> Path:
    """The user's cache folder, ``$XDG_CACHE_HOME/pyro_seq`` or ``~/.cache/pyro_seq``. It need not exist."""
    folder = os.environ.get("XDG_CACHE_HOME")
    return (Path(folder) if folder else Path("~/.cache").expanduser()) / "pyro_seq"


def cached(name: str, parameters: Mapping[str, object], make: Callable[[], Arrays]) -> Arrays:
    """The arrays of `make`, stored in a file whose name contains a hash of all `parameters`.

    A file that cannot be read or has a wrong checksum is generated again; if nothing can be written, nothing is stored.
    Files hold plain arrays only: loading one never runs code. `parameters` must include a version that changes with the
    meaning of `make`.
    """
    key = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_root() / "generated" / f"{name}-{key}.npz"
    with suppress(Exception), path.open("rb") as file:  # a damaged archive can raise almost any exception
        with np.load(file, allow_pickle=False) as stored:
            found = {field: stored[field] for field in stored.files}
        if str(found.pop(_SUM)) == fingerprint(found):
            return found
    arrays = make()
    kept: Arrays = {_SUM: np.array(fingerprint(arrays))} | dict(arrays)
    with suppress(OSError), replacing(path) as temporary, temporary.open("wb") as target:
        np.savez(target, **kept)
    return arrays
