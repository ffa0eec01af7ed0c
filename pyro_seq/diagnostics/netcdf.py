"""Exported posteriors as files, the same for both versions of ArviZ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from pyro_seq._files import StrPath, replacing
from pyro_seq.diagnostics.arviz import container
from pyro_seq.errors import DataError


def save_netcdf(idata: Any, path: StrPath) -> Path:
    """Write what `to_arviz` returned to one file; an existing file is replaced only once the new one is whole.

    Args:
        idata: The `InferenceData` or `DataTree`.
        path: Where to; folders are made.

    Returns:
        The path.

    Example:
        >>> save_netcdf(idata, "posterior.nc")  # doctest: +SKIP
    """
    with replacing(path) as draft:
        idata.to_netcdf(str(draft), engine="h5netcdf")
    return Path(path)


def load_netcdf(path: StrPath) -> Any:
    """Read a file of `save_netcdf` into memory.

    Args:
        path: Of the file.

    Returns:
        An `InferenceData` (ArviZ 0.23) or a `DataTree` (ArviZ 1).

    Raises:
        DataError: When the file is missing or not complete.
    """
    try:
        with xr.open_datatree(str(path), engine="h5netcdf") as tree:
            groups = {name: tree[name].to_dataset().load() for name in tree.children}
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"`path` must be a whole file of `save_netcdf`. Got {str(path)!r} ({error}).") from error
    return container(groups)
