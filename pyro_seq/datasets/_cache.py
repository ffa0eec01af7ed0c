"""Where data live, and a small cache of generated arrays."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pyro_seq._files import replacing

Arrays = Mapping[str, Any]  # of numpy arrays, which the annotations of `np.savez` reject as keywords


def data_root() -> Path:
    """Folder of the real data: the environment variable ``PYRO_SEQ_DATA``, else `cache_root`."""
    folder = os.environ.get("PYRO_SEQ_DATA")
    return Path(folder).expanduser() if folder else cache_root()


def cache_root() -> Path:
    """The user's cache folder, ``$XDG_CACHE_HOME/pyro_seq`` or ``~/.cache/pyro_seq``. It need not exist."""
    folder = os.environ.get("XDG_CACHE_HOME")
    return (Path(folder) if folder else Path("~/.cache").expanduser()) / "pyro_seq"


def cached(name: str, parameters: Mapping[str, object], make: Callable[[], Arrays]) -> Arrays:
    """The arrays of `make`, kept in a file whose name carries a hash of all `parameters`.

    A file that cannot be read is made anew; where nothing can be written, nothing is kept. Files hold plain arrays
    only: loading one never runs code. `parameters` must include a version that changes with the meaning of `make`.
    """
    key = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_root() / "generated" / f"{name}-{key}.npz"
    unreadable = suppress(OSError, ValueError, EOFError, zipfile.BadZipFile)
    with unreadable, path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {field: stored[field] for field in stored.files}
    arrays = make()
    with suppress(OSError), replacing(path) as temporary, temporary.open("wb") as target:
        np.savez(target, **arrays)
    return arrays
