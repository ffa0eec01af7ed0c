"""KTH: people who walk, jog, run, box, wave and clap, filmed in grey."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pyro_seq._arguments import real_number, seed_number
from pyro_seq.datasets._cache import data_root
from pyro_seq.datasets._splits import SourceSplits
from pyro_seq.datasets._video_folder import VideoFolder
from pyro_seq.errors import DataError

_NAME = re.compile(r"person(\d\d)_([a-z]+)_d(\d)")
_LAST_TRAINING_PERSON = 20
_HOME = "https://www.csc.kth.se/cvap/actions/"


def kth(
    path: Path | str | None = None,
    *,
    num_steps: int = 20,
    num_test_steps: int = 40,
    num_test: int = 1_000,
    validation_share: float = 0.05,
    size: int = 64,
    seed: int = 42,
) -> SourceSplits:
    r"""Videos of 25 people at six actions in four settings, 25 frames a second.

    Persons 1 to 20 are for training and 21 to 25 for the test. A training series begins at any frame of any training
    video. A test series is a random video and a random start in it: 1000 clips of 40 frames; the papers show a model
    the first 10 frames; drawn here from `seed`, so they are not exactly the clips of the papers. Validation clips are
    consecutive clips of separate videos.

    Nothing is downloaded. Fetch the archives from csc.kth.se/cvap/actions, unpack them into `path`, and either read
    the ``.avi`` files as they are, with the extra `video`, or turn them into folders of images once, which is faster:
    ``ffmpeg -i person01_boxing_d1_uncomp.avi -vf scale=64:64 person01_boxing_d1/image-%04d.png``. Any format that
    `VideoFolder` reads is accepted, in any folders, as long as names contain ``person01_boxing_d1``. Frames of 160 x
    120 are resized to squares, as in the papers; the papers do this slightly differently, which affects scores.

    Args:
        path: Folder of the videos; by default ``kth`` inside the folder named by ``PYRO_SEQ_DATA`` or, where that is
            unset, inside the user's cache folder.
        num_steps: Frames of a training or validation series.
        num_test_steps: Frames of a test series; shorter videos are left out.
        num_test: Number of test series.
        validation_share: Share of the training videos for validation; 0 for no validation part.
        size: Height and width of a frame.
        seed: Seed of the test clips and of the choice of the validation videos.

    Returns:
        Sources with values (series, time, 1, size, size) in [0, 1], and a context with the number of the `video` and
        its first frame, `start`.

    Raises:
        DataError: When there are no videos, a name contains no person, or a file cannot be read.

    References:
        Schuldt, Laptev and Caputo (2004), Recognizing human actions: a local SVM approach; Denton and Fergus (2018),
        Stochastic video generation with a learned prior.
    """
    share = real_number(validation_share, "validation_share", 0.0, 0.9)
    rng = np.random.default_rng(seed_number(seed))
    home = data_root() / "kth" if path is None else Path(path)
    if not home.exists():
        raise DataError(f"KTH was looked for at {home} and is not there. Get it from {_HOME}, and pass `path`.")
    clips = VideoFolder(home, num_steps=num_steps, stride=1, size=size, skip_short=True)
    names = np.array([name for name in clips.names if _person(name) <= _LAST_TRAINING_PERSON])
    held_out = set(rng.permutation(names)[: round(share * len(names))].tolist())
    train = clips.subset(lambda name: _person(name) <= _LAST_TRAINING_PERSON and name not in held_out)
    tested = clips.recut(num_steps=num_test_steps, stride=1)
    tested = tested.subset(lambda name: _person(name) > _LAST_TRAINING_PERSON)
    if not held_out:
        return SourceSplits(train, None, tested.draw(num_test, seed=seed))
    validation = clips.recut(num_steps=num_steps).subset(held_out.__contains__)
    return SourceSplits(train, validation, tested.draw(num_test, seed=seed))


def _person(name: str) -> int:
    match = _NAME.search(name)
    if match is None:
        raise DataError(f"Names of KTH videos must contain a part such as `person01_boxing_d1`. Got {name!r}.")
    return int(match[1])
