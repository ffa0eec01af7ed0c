"""Reading idx files, and the two sources of digits."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from pyro_seq.datasets import MNIST, BundledDigits, _digit_images
from pyro_seq.datasets._digit_images import read_idx
from pyro_seq.errors import DataError


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = np.array(array.shape, dtype=">u4").tobytes()
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny set in the form of MNIST."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("t10k", 5)):
        write(tmp_path / f"{part}-images-idx3-ubyte.gz", idx_bytes(rng.integers(0, 256, (count, 28, 28))))
        write(tmp_path / f"{part}-labels-idx1-ubyte.gz", idx_bytes(np.arange(count) % 10))
    return tmp_path


def test_idx_round_trip(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(read_idx(write(tmp_path / "a.gz", idx_bytes(array)), num_axes=3), array)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_truncated_idx(tmp_path: Path, share: float, is_compressed: bool) -> None:
    content = idx_bytes(np.random.default_rng(0).integers(0, 256, (10, 10, 10)))
    content = gzip.compress(content) if is_compressed else content
    content = content[: int(share * len(content))]
    path = tmp_path / "cut.gz"
    path.write_bytes(content if is_compressed else gzip.compress(content))
    with pytest.raises(DataError, match=r"cut\.gz"):
        read_idx(path, num_axes=3)


@pytest.mark.parametrize(
    "content",
    [
        idx_bytes(np.zeros(7)),
        b"\x00\x00\x0d\x03" + idx_bytes(np.zeros((1, 2, 2)))[4:],
        idx_bytes(np.zeros((1, 2, 2))) + b"more",
        b"\x00\x00\x08\x03" + b"\xff" * 12,
        b"PK\x03\x04",
    ],
    ids=["other axes", "other type", "too long", "huge header", "other format"],
)
def test_wrong_idx(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"wrong\.gz"):
        read_idx(write(tmp_path / "wrong.gz", content), num_axes=3)


def test_uncompressed_or_flipped_file(tmp_path: Path) -> None:
    path = tmp_path / "plain.gz"
    path.write_bytes(idx_bytes(np.zeros((1, 2, 2))))
    with pytest.raises(DataError, match="could not be read"):
        read_idx(path, num_axes=3)
    content = bytearray(gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (9, 9, 9)))))
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_idx(path, num_axes=3)


def test_bundled_digits() -> None:
    images, labels = BundledDigits().load()
    assert images.shape == (1797, 8, 8)
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert (labels == 3).sum() == 183
    larger, _ = BundledDigits(size=16).load()
    assert larger.shape == (1797, 16, 16)
    assert larger.min() >= 0.0
    assert larger.max() <= 1.0
    # Blocks of 2 x 2 pixels show the picture again: interpolation keeps the mean away from the border.
    assert np.corrcoef(larger.reshape(-1, 8, 2, 8, 2).mean((2, 4)).ravel(), images.ravel())[0, 1] > 0.95
    with pytest.raises(DataError, match="size"):
        BundledDigits(size=7).load()


def test_mnist_reads_both_parts(folder: Path) -> None:
    images, labels = MNIST(folder=folder).load()
    assert images.shape == (12, 28, 28)
    assert labels.tolist() == [*range(10), 0, 1]
    assert 0.9 < images.max() <= 1.0
    assert len(MNIST(is_train=False, folder=str(folder)).load()[0]) == 5


def test_mnist_is_found_in_the_data_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnist").symlink_to(folder, target_is_directory=True)
    monkeypatch.setenv("PYRO_SEQ_DATA", str(tmp_path))
    assert len(MNIST().load()[0]) == 12


def test_mnist_with_other_labels(folder: Path) -> None:
    write(folder / "train-labels-idx1-ubyte.gz", idx_bytes(np.arange(3)))
    with pytest.raises(DataError, match="one label an image"):
        MNIST(folder=folder).load()


def test_missing_mnist_downloads_only_on_request(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(url: str, path: Path, *, sha256: str) -> None:
        asked.append(url)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((folder / path.name).read_bytes())

    monkeypatch.setattr(_digit_images, "fetch", fetch)
    with pytest.raises(DataError, match=r"MNIST\(download=True\)"):
        MNIST(folder=tmp_path / "absent").load()
    assert not asked
    images, _ = MNIST(folder=tmp_path / "absent", download=True).load()
    assert len(images) == 12
    assert [url.rsplit("/", 1)[1] for url in asked] == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


@pytest.mark.data
def test_real_mnist() -> None:
    for is_train, count, threes in ((True, 60_000, 6131), (False, 10_000, 1010)):
        images, labels = MNIST(is_train=is_train).load()
        assert images.shape == (count, 28, 28)
        assert (labels == 3).sum() == threes
        assert (images.min(), images.max()) == (0.0, 1.0)
