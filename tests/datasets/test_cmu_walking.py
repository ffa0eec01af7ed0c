"""CMU walking: reading a file of that form, refusing others, and the real file's trivial scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from pyro_seq.datasets import cmu_walking
from pyro_seq.errors import DataError
from pyro_seq.metrics import last_frame, mse, nearest_series, training_mean


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {key: rng.standard_normal((count, 6, 4)) for key, count in (("Xtr", 5), ("Xval", 2), ("Xtest", 3))}


def saved(folder: Path, content: dict[str, object]) -> Path:
    path = folder / "mocap35.mat"
    savemat(path, content)
    return path


def test_reads_the_three_parts(tmp_path: Path) -> None:
    content = arrays()
    splits = cmu_walking(path=saved(tmp_path, content))
    for part, array in zip(splits, content.values(), strict=True):
        torch.testing.assert_close(part.values, torch.from_numpy(array).float())
        assert part.times.tolist() == list(range(6))
        assert part.mask.all()


def test_channels_that_hold_rounding_only_are_zero(tmp_path: Path) -> None:
    content = arrays()
    for array, level in zip(content.values(), (1e-5, 1e-5, 1e-13), strict=True):
        array[..., 2] = level
    for part, array in zip(cmu_walking(path=saved(tmp_path, content)), content.values(), strict=True):
        assert not bool(part.values[..., 2].any())
        others = [0, 1, 3]
        torch.testing.assert_close(part.values[..., others], torch.from_numpy(array[..., others]).float())


def test_is_found_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_SEQ_DATA", str(tmp_path))
    with pytest.raises(DataError, match="PYRO_SEQ_DATA"):
        cmu_walking()
    (tmp_path / "mocap").mkdir()
    saved(tmp_path / "mocap", arrays())
    assert cmu_walking().train.num_series == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"Xval": None},
        {"Xtr": np.zeros((5, 6))},
        {"Xtr": np.full((5, 6, 4), np.nan)},
        {"Xtest": np.zeros((3, 7, 4))},
        {"Xtr": np.array([[np.zeros(2), "text"]], dtype=object)},
        {"Xtr": np.zeros((5, 6, 4), dtype=np.uint8)},
    ],
    ids=["missing", "two axes", "nan", "other length", "objects", "integers"],
)
def test_refuses_other_files(tmp_path: Path, wrong: dict[str, object]) -> None:
    content = {key: value for key, value in (arrays() | wrong).items() if value is not None}
    with pytest.raises(DataError, match=r"mocap35\.mat"):
        cmu_walking(path=saved(tmp_path, content))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.7, 0.95])
def test_refuses_truncated_files(tmp_path: Path, share: float) -> None:
    path = saved(tmp_path, arrays())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"mocap35\.mat"):
        cmu_walking(path=path)


@pytest.mark.data
def test_real_file() -> None:
    train, validation, test = cmu_walking()
    assert [part.values.shape for part in (train, validation, test)] == [(16, 300, 50), (3, 300, 50), (4, 300, 50)]
    spread = train.values.flatten(0, 1).std(0)
    assert all(not bool(part.values[..., [24, 25, 31, 32]].any()) for part in (train, validation, test))
    assert (spread < 1e-4).nonzero().flatten().tolist() == [24, 25, 31, 32]
    assert max(part.values.mean(1).abs().max() for part in (train, validation, test)) < 2e-3


@pytest.mark.data
def test_trivial_scores_of_the_literature() -> None:
    """Figures found independently on the same file, over the 297 frames after the first 3."""
    train, _, test = cmu_walking()
    given, truth = test.first(3), test.values[:, 3:]
    rounding = 5e-3
    assert abs(mse(training_mean(train, test)[:, 3:], truth) - 33.67) < rounding
    assert abs(mse(last_frame(given, 297), truth) - 61.33) < rounding
    assert abs(mse(nearest_series(train, given)[:, 3:], truth) - 23.08) < rounding
    assert abs(mse(torch.zeros_like(test.values), test.values) - 33.62) < rounding
