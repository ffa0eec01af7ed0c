"""Sources of still images of digits: the set bundled with scikit-learn, and MNIST."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from pyro_seq.datasets._cache import data_root
from pyro_seq.datasets._download import fetch
from pyro_seq.errors import DataError

_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_MAX_IDX_BYTES = 2**28  # MNIST has 47 million pixels; a damaged header may claim any size
_BUNDLED_SIZE, _BUNDLED_MAX = 8, 16.0


@runtime_checkable
class DigitImages(Protocol):
    """Protocol of sources of images (image, height, width) in [0, 1] and labels (image,)."""

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels in a fixed order."""


@dataclass(frozen=True)
class BundledDigits:
    """The 1797 handwritten digits of scikit-learn, 8 x 8 pixels; no download needed.

    Args:
        size: Height and width in pixels, 8 or more; larger images are interpolated linearly.
    """

    size: int = _BUNDLED_SIZE

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Images (1797, size, size) in [0, 1] and labels."""
        from sklearn.datasets import load_digits  # slow to import and needed only here

        if self.size < _BUNDLED_SIZE:
            raise DataError(f"`size` must be at least {_BUNDLED_SIZE} pixels. Got {self.size}.")
        images, labels = load_digits(return_X_y=True)
        images = images.reshape(-1, _BUNDLED_SIZE, _BUNDLED_SIZE).astype(np.float32) / np.float32(_BUNDLED_MAX)
        if self.size != _BUNDLED_SIZE:
            from scipy import ndimage  # slow to import and needed only here

            factor = self.size / _BUNDLED_SIZE
            images = ndimage.zoom(images, (1, factor, factor), order=1, mode="nearest", grid_mode=True)
        return images, labels


@dataclass(frozen=True)
class MNIST:
    """The handwritten digits of MNIST, 28 x 28 pixels, from its four gzipped idx files.

    They are read from `folder`, by default ``mnist`` inside the folder named by ``PYRO_SEQ_DATA`` or, if that is unset,
    inside the user's cache folder.

    Args:
        is_train: Load the 60 000 training digits; otherwise the 10 000 test digits.
        folder: Folder of the files.
        download: Download missing files and verify them.

    References:
        LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document recognition.
    """

    is_train: bool = True
    folder: Path | str | None = None
    download: bool = False

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Images (image, 28, 28) in [0, 1] and labels, in file order."""
        part = "train" if self.is_train else "t10k"
        images = read_idx(self._file(f"{part}-images-idx3-ubyte.gz"), num_axes=3)
        labels = read_idx(self._file(f"{part}-labels-idx1-ubyte.gz"), num_axes=1)
        if len(images) != len(labels):
            raise DataError(f"MNIST must have one label an image. Got {len(images)} images and {len(labels)} labels.")
        return images / np.float32(255), labels.astype(np.int64)

    def _file(self, name: str) -> Path:
        path = (data_root() / "mnist" if self.folder is None else Path(self.folder)) / name
        if not path.is_file():
            if not self.download:
                raise DataError(
                    f"MNIST was looked for at {path} and is not there. Pass `MNIST(download=True)` to fetch it from "
                    f"{_MNIST_URL}, or set PYRO_SEQ_DATA to a folder that holds `mnist/{name}`."
                )
            fetch(_MNIST_URL + name, path, sha256=_MNIST_SHA256[name])
        return path


def read_idx(path: Path, *, num_axes: int) -> np.ndarray:
    """Read a gzipped idx file of unsigned bytes.

    The format: two zero bytes, the type (8 for unsigned bytes), the number of axes, each axis' size as a big-endian
    32-bit number, then the entries.

    Raises:
        DataError: When the file is missing, damaged, cut off, too long, or of another type.
    """
    try:
        with gzip.open(path, "rb") as file:
            magic = file.read(4)
            if magic != bytes((0, 0, 8, num_axes)):
                raise DataError(f"{path} must be an idx file of bytes with {num_axes} axes. It begins with {magic!r}.")
            shape = tuple(int(size) for size in np.frombuffer(file.read(4 * num_axes), dtype=">u4"))
            num_bytes = math.prod(shape)
            if len(shape) != num_axes or num_bytes > _MAX_IDX_BYTES:
                raise DataError(f"{path} has a damaged header, sizes {shape}. Fetch the file anew.")
            content = file.read(num_bytes + 1)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} could not be read: {error}. Delete the file and fetch it anew.") from error
    if len(content) != num_bytes:
        raise DataError(f"{path} must hold {num_bytes} entries, by its sizes {shape}, and does not. Fetch it anew.")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
