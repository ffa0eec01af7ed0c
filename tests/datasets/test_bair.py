"""BAIR: which videos and which frames each part holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyro_seq.datasets.bair import bair
from pyro_seq.errors import DataError

OPTIONS = {"num_steps": 3, "num_test_steps": 6, "size": 4}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Ten training videos of 7 frames and four for the test; red says which video, green which frame."""
    for part, count in (("train", 10), ("test", 4)):
        videos = np.zeros((count, 7, 4, 4, 3), np.uint8)
        videos[..., 0] = np.arange(count)[:, None, None, None]
        videos[..., 1] = np.arange(7)[:, None, None]
        np.save(tmp_path / f"{part}.npy", videos)
    return tmp_path


def marks(source) -> list[tuple[int, int]]:
    """Video and first frame of each clip, read off its pixels."""
    colours = (source[:].values[:, 0, :2, 0, 0] * 255).round().int()
    return [tuple(row) for row in colours.tolist()]


def test_clips_of_each_part(home: Path) -> None:
    train, validation, test = bair(home, validation_share=0.3, num_test=3, **OPTIONS)
    held_out = {video for video, _ in marks(validation)}
    assert len(held_out) == 3
    assert sorted(marks(validation)) == sorted((video, start) for video in held_out for start in (0, 3))
    others = set(range(10)) - held_out
    assert sorted(marks(train)) == sorted((video, start) for video in others for start in range(5))
    assert marks(test) == [(0, 0), (1, 0), (2, 0)]
    assert test[:].values.shape == (3, 6, 3, 4, 4)


def test_without_a_share_nothing_is_held_out(home: Path) -> None:
    train, validation, test = bair(home, validation_share=0.0, num_test=None, **OPTIONS)
    assert validation is None and len(train) == 10 * 5 and len(test) == 4


def test_the_seed_chooses_the_validation_videos(home: Path) -> None:
    first, again, other = (bair(home, validation_share=0.3, seed=seed, **OPTIONS) for seed in (0, 0, 1))
    assert marks(first.validation) == marks(again.validation) != marks(other.validation)


def test_a_missing_part_is_named(home: Path) -> None:
    (home / "test.npy").unlink()
    with pytest.raises(DataError, match="test videos of BAIR were looked for at .*convert them"):
        bair(home, **OPTIONS)
