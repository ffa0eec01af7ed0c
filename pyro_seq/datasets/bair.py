"""BAIR robot pushing: an arm that moves at random among objects on a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyro_seq._arguments import real_number, seed_number
from pyro_seq.datasets._cache import data_root
from pyro_seq.datasets._splits import SourceSplits
from pyro_seq.datasets._video_folder import VideoFolder
from pyro_seq.errors import DataError

_HOME = "http://rail.eecs.berkeley.edu/datasets/bair_robot_pushing_dataset_v0.tar"


def bair(
    path: Path | str | None = None,
    *,
    num_steps: int = 12,
    num_test_steps: int = 30,
    num_test: int | None = 256,
    validation_share: float = 0.05,
    size: int = 64,
    seed: int = 42,
) -> SourceSplits:
    r"""Videos of 30 frames from above, 64 x 64 in colour.

    A training series begins at any frame of any training video. Test series are the first frames of the test videos,
    all 256 of them; the papers show a model the first 2 of 30. Validation clips are consecutive clips of separate
    videos.

    Nothing is downloaded. The published archive holds TFRecord files, whose ``image_aux1`` are the frames: convert them
    once, with any tool, to a format that `VideoFolder` reads, such as a folder of images per video or one array (video,
    30, 64, 64, 3) of 8-bit numbers in ``train.npy`` and ``test.npy``.

    Args:
        path: Folder with folders ``train`` and ``test``, or with ``train.npy`` and ``test.npy`` (or ``.npz``); by
            default ``bair`` inside the folder named by ``PYRO_SEQ_DATA`` or, if that is unset, inside the user's
            cache folder.
        num_steps: Frames of a training or validation series.
        num_test_steps: Frames of a test series.
        num_test: Number of test series; all by default.
        validation_share: Share of the training videos for validation; 0 for no validation part.
        size: Height and width of a frame.
        seed: Seed of the choice of the validation videos.

    Returns:
        Sources with values (series, time, 3, size, size) in [0, 1], and a context with the number of the `video` and
        its first frame, `start`.

    Raises:
        DataError: When a part is missing, a video is too short, or a file cannot be read.

    References:
        Ebert, Finn, Lee and Levine (2017), Self-supervised visual planning with temporal skip connections.
    """
    share = real_number(validation_share, "validation_share", 0.0, 0.9)
    rng = np.random.default_rng(seed_number(seed))
    home = data_root() / "bair" if path is None else Path(path)
    clips = VideoFolder(_part(home, "train"), num_steps=num_steps, stride=1, size=size, is_colour=True)
    held_out = set(rng.permutation(np.array(clips.names))[: round(share * len(clips.names))].tolist())
    train = clips.subset(lambda name: name not in held_out)
    tested = VideoFolder(_part(home, "test"), num_steps=num_test_steps, size=size, is_colour=True)
    if not held_out:
        return SourceSplits(train, None, tested.beginnings(num_test))
    validation = clips.recut(num_steps=num_steps).subset(held_out.__contains__)
    return SourceSplits(train, validation, tested.beginnings(num_test))


def _part(home: Path, name: str) -> Path:
    for candidate in (home / name, home / f"{name}.npy", home / f"{name}.npz"):
        if candidate.exists():
            return candidate
    raise DataError(
        f"The {name} videos of BAIR were looked for at {home / name} and are not there. Get them from {_HOME}, convert "
        "them as the documentation says, and pass `path`."
    )
