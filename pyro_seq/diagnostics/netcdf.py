"""Exported posteriors as files, in one format for both versions of ArviZ."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_seq._files import StrPath, require_moderate, write_bytes
from pyro_seq.diagnostics.arviz import container
from pyro_seq.errors import CheckpointError, DataError

if TYPE_CHECKING:
    import xarray as xr

_MARK = b"\npyro_seq sha256 "  # readers ignore bytes after the end of an HDF5 file


def save_netcdf(idata: Any, path: StrPath) -> Path:
    """Write the result of `to_arviz` to one file; an existing file is replaced only once the new one is complete.

    The file is first built in memory, because HDF5 aborts the whole process if the disk is full. A checksum is
    appended, from which `load_netcdf` detects altered files; other libraries ignore it.

    Args:
        idata: The `InferenceData` or `DataTree`.
        path: The file; missing folders are created.

    Returns:
        The path.

    Raises:
        CheckpointError: When writing fails; an existing file is then unchanged.

    Example:
        >>> save_netcdf(idata, "posterior.nc")  # doctest: +SKIP
    """
    import xarray as xr  # slow to import, so imported only here

    names = idata.children if isinstance(idata, xr.DataTree) else idata.groups()
    groups = {name: xr.Dataset(idata[name].data_vars, idata[name].coords, idata[name].attrs) for name in names}
    encoding = {f"/{name}": _compressed(group) for name, group in groups.items()}
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs=idata.attrs)} | groups)
    content = bytes(tree.to_netcdf(engine="h5netcdf", encoding=encoding))
    try:
        write_bytes(content + _MARK + hashlib.sha256(content).hexdigest().encode(), path)
    except OSError as error:
        raise CheckpointError(
            f"{str(path)!r} could not be written ({error}). Free some space or choose another."
        ) from error
    return Path(path)


def _compressed(group: xr.Dataset) -> dict[str, dict[str, bool]]:
    return {str(name): {"zlib": True} for name, values in group.variables.items() if values.dtype.kind in "biuf"}


def load_netcdf(path: StrPath) -> Any:
    """Read a file written by `save_netcdf` into memory.

    A file written or rewritten by another library has no checksum: then only damage that HDF5 detects is reported, and
    a flipped bit may silently change numbers or names.

    Args:
        path: The file.

    Returns:
        An `InferenceData` (ArviZ 0.23) or a `DataTree` (ArviZ 1).

    Raises:
        DataError: When the file is missing, incomplete or altered, or has no checksum and unpacks to more than both 64
            times its size and a gigabyte.
    """
    import xarray as xr

    try:
        content, mark, digest = Path(path).read_bytes().rpartition(_MARK)
        if mark and hashlib.sha256(content).hexdigest().encode() != digest:
            raise ValueError("it was altered: its sha256 sum differs from the recorded one")
        with xr.open_datatree(io.BytesIO(content or digest), engine="h5netcdf") as tree:
            groups = {name: tree[name].to_dataset() for name in tree.children}
            if not mark:  # in our own files, draws of black pixels may be compressed a hundredfold
                require_moderate(sum(group.nbytes for group in groups.values()), len(digest))
            groups = {name: group.load() for name, group in groups.items()}
    except Exception as error:  # a damaged file can raise almost any exception
        raise DataError(
            f"`path` must be a whole file of `save_netcdf`. Got {str(path)!r} ({error}). Write or copy it again."
        ) from error
    return container(groups)
