"""CMU walking: motion capture of subject 35, the split used by ODE2VAE and latent SDEs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pyro_seq.data import Sequences
from pyro_seq.datasets._cache import data_root
from pyro_seq.datasets._splits import Splits
from pyro_seq.errors import DataError

_KEYS = ("Xtr", "Xval", "Xtest")
_NOTHING = 1e-4  # degrees


def cmu_walking(*, path: Path | str | None = None) -> Splits:
    r"""Joint angles of a walking person, 16 training, 3 validation and 4 test sequences of 300 frames.

    Each frame has 50 channels: angles in degrees, and the frame-to-frame differences of the root's position as the
    first three. The sequences are 2.5 s at 120 frames a second, about two strides. They are unscaled, and *its own*
    mean is removed from each, so the mean of a test sequence's future is known to be near zero. Four channels (24, 25,
    31, 32) are constant and are set to exactly zero: in the file they are 1e-5 in the training part and 1e-13 in the
    test part, which means nothing for walkers but is a large relative difference.

    The usual task is to predict the other 297 frames from the first 3, scored by the mean squared error in degrees
    squared. Predicting zero scores 33.6, repeating frame 2 scores 61.3, the nearest training sequence about 23.

    Args:
        path: The file ``mocap35.mat``; by default ``mocap/mocap35.mat`` inside the folder named by ``PYRO_SEQ_DATA``
            or, if that is unset, inside the user's cache folder.

    Returns:
        Splits with values (series, time, 50), single precision, times counted in frames.

    Raises:
        DataError: When the file is missing, cannot be read, or is not this data set.

    References:
        Data from mocap.cs.cmu.edu, free to use with credit; funded by NSF EIA-0196217. Wang, Fleet and Hertzmann
        (2008), Gaussian process dynamical models for human motion; Yildiz, Heinonen and Lahdesmaki (2019), ODE2VAE.
    """
    from scipy.io import loadmat  # slow to import and needed only here

    path = data_root() / "mocap" / "mocap35.mat" if path is None else Path(path)
    if not path.is_file():
        raise DataError(
            f"The CMU walking data were looked for at {path} and are not there. Pass `path`, or set PYRO_SEQ_DATA to a "
            "folder that holds `mocap/mocap35.mat` (from the data of the ODE2VAE paper, Yildiz et al. 2019)."
        )
    try:
        content = loadmat(path, variable_names=_KEYS)
    except Exception as error:  # the reader raises errors of many kinds for a damaged file
        raise DataError(f"{path} could not be read as a MATLAB file: {error}. Fetch the file anew.") from error
    arrays = {key: _checked(content.get(key), key, path) for key in _KEYS}
    shapes = {array.shape[1:] for array in arrays.values()}
    if len(shapes) != 1:
        raise DataError(f"{path} must have sequences of one length and width. Got (time, channel) {sorted(shapes)}.")
    for array in arrays.values():
        array[..., np.abs(array).max((0, 1)) < _NOTHING] = 0.0
    return Splits(*(Sequences(torch.from_numpy(array.astype(np.float32))) for array in arrays.values()))


def _checked(array: np.ndarray | None, key: str, path: Path) -> np.ndarray:
    if array is None:
        raise DataError(f"{path} must contain the arrays {_KEYS}. It has no {key}: it is another file.")
    if array.dtype.kind != "f" or array.ndim != 3 or not np.isfinite(array).all():
        raise DataError(
            f"{key} in {path} must be finite real numbers with the axes (series, time, channel). "
            f"Got {array.dtype} {array.shape}: the file is damaged or another one."
        )
    return array
