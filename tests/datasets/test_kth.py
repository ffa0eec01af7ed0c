"""KTH: which persons and which videos each part holds, by its seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyro_seq.datasets.kth import kth
from pyro_seq.errors import DataError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A grey video of 8 frames of each of 25 persons, as bright as their number."""
    for person in range(1, 26):
        np.save(tmp_path / f"person{person:02d}_jogging_d3_uncomp.npy", np.full((8, 4, 4), 10 * person, np.uint8))
    return tmp_path


def persons(source) -> set[int]:
    return set((source[:].values[:, 0, 0, 0, 0] * 25.5).round().int().tolist())


def test_persons_from_21_on_are_for_the_test(home: Path) -> None:
    train, validation, test = kth(home, num_steps=2, num_test_steps=8, num_test=200, validation_share=0.25, size=4)
    assert persons(train) | persons(validation) == set(range(1, 21))
    assert len(persons(validation)) == 5 and not persons(train) & persons(validation)
    assert persons(test) == set(range(21, 26))  # one of five is absent from 200 draws with a chance of 2e-19


def test_training_begins_at_any_frame_and_validation_runs_on(home: Path) -> None:
    train, validation, _ = kth(home, num_steps=2, num_test_steps=8, num_test=1, validation_share=0.25, size=4)
    assert len(train) == 15 * 7 and len(validation) == 5 * 4


def test_the_seed_chooses_clips_and_validation_videos(home: Path) -> None:
    options = {"num_steps": 2, "num_test_steps": 3, "num_test": 20, "validation_share": 0.25, "size": 4}
    first, again, other = (kth(home, seed=seed, **options) for seed in (0, 0, 1))
    assert first.test.clips.tolist() == again.test.clips.tolist() != other.test.clips.tolist()
    assert persons(first.validation) == persons(again.validation) != persons(other.validation)


@pytest.mark.parametrize("share", [-0.1, 0.95, "half"])
def test_shares_out_of_range_are_refused(home: Path, share: object) -> None:
    with pytest.raises(DataError, match="`validation_share`"):
        kth(home, validation_share=share)
