"""Exported posteriors as files, the same for both versions of ArviZ."""

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

_MARK = b"\npyro_seq sha256 "  # what follows the last byte of an HDF5 file is nobody's, and no reader looks at it


def save_netcdf(idata: Any, path: StrPath) -> Path:
    """Write what `to_arviz` returned to one file; an existing file is replaced only once the new one is whole.

    The file is made in memory first, for HDF5 ends the whole process where a disk is full. After its end stands a sum,
    by which `load_netcdf` knows an altered file; other libraries read it as any other.

    Args:
        idata: The `InferenceData` or `DataTree`.
        path: Where to; folders are made.

    Returns:
        The path.

    Raises:
        CheckpointError: When the disk refuses; an existing file is then as it was.

    Example:
        >>> save_netcdf(idata, "posterior.nc")  # doctest: +SKIP
    """
    import xarray as xr  # slow to import, so only where it is used

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
    """Read a file of `save_netcdf` into memory.

    A file that another library has written, or written again, has no sum: then only what HDF5 cannot read is noticed,
    and a flipped bit may give other numbers or names without a word.

    Args:
        path: Of the file.

    Returns:
        An `InferenceData` (ArviZ 0.23) or a `DataTree` (ArviZ 1).

    Raises:
        DataError: When the file is missing, not complete or altered, or has no sum and unpacks to more than 64 times
            its size and a gigabyte.
    """
    import xarray as xr

    try:
        content, mark, digest = Path(path).read_bytes().rpartition(_MARK)
        if mark and hashlib.sha256(content).hexdigest().encode() != digest:
            raise ValueError("it was altered: its sha256 sum differs from the recorded one")
        with xr.open_datatree(io.BytesIO(content or digest), engine="h5netcdf") as tree:
            groups = {name: tree[name].to_dataset() for name in tree.children}
            if not mark:  # of ours, draws of black pixels may well be packed a hundredfold
                require_moderate(sum(group.nbytes for group in groups.values()), len(digest))
            groups = {name: group.load() for name, group in groups.items()}
    except Exception as error:  # a damaged file can raise almost anything
        raise DataError(
            f"`path` must be a whole file of `save_netcdf`. Got {str(path)!r} ({error}). Write or copy it again."
        ) from error
    return container(groups)
