"""Rotating digits: one handwritten digit per series, turned by the same angle every step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pyro_seq._arguments import seed_number, whole_number
from pyro_seq.data import Sequences
from pyro_seq.datasets._digit_images import BundledDigits, DigitImages
from pyro_seq.datasets._splits import Splits
from pyro_seq.errors import DataError

_NUM_CLASSES = 10


def rotating_digits(
    *,
    source: DigitImages = BundledDigits(),
    digits: Sequence[int] = (3,),
    num_train: int = 150,
    num_validation: int = 0,
    num_test: int = 33,
    num_steps: int = 16,
    num_test_steps: int | None = None,
    degrees_per_step: float = 22.5,
    num_start_angles: int | None = None,
    seed: int = 0,
) -> Splits:
    r"""Sequences of a digit that rotates at constant speed from a random angle.

    Frame k of a series is its digit, turned counter-clockwise by `start + k * degrees_per_step` about the image's
    centre with linear interpolation; pixels that turn out of the image are lost. Each series has a different digit: the
    first `num_train` images of the wanted classes form the training set, the next `num_test` the test set, the next
    `num_validation` the validation set. The defaults use all 183 threes of the bundled images and a full turn.

    The data set of comparisons with ODE2VAE minimal: ``rotating_digits(source=MNIST(), num_train=500, num_test=100)``.
    The sets of modulated neural ODEs and of latent energy-based ODEs have all ten classes and steps of 24 degrees from
    one of 15 angles: training series show the first angle twice, as frames 0 and 15, test series make three turns. Here
    no digit is used in two series: ``rotating_digits(source=MNIST(), digits=range(10), num_train=1_000,
    num_validation=100, num_test=100, num_steps=16, num_test_steps=45, degrees_per_step=24, num_start_angles=15)``.

    Args:
        source: Source of the still images: `BundledDigits` (8 x 8, or larger by interpolation) or `MNIST` (28 x 28).
        digits: Classes to take.
        num_train: Number of training series.
        num_validation: Number of validation series; 0 makes this part None.
        num_test: Number of test series.
        num_steps: Frames per series.
        num_test_steps: Frames of a test series, `num_steps` by default.
        degrees_per_step: Rotation from one frame to the next.
        num_start_angles: Start at a multiple of 360 degrees divided by this number; at any angle by default.
        seed: Seed of the start angles.

    Returns:
        Splits with values (series, time, 1, height, width) in [0, 1], single precision, times counted in frames, and
        a context with each series' `label` and `start_degrees`.

    Raises:
        DataError: When the source has too few such digits or cannot be read, or an argument is out of range.

    Example:
        >>> train, _, test = rotating_digits(num_train=20, num_test=5)
        >>> train
        Sequences((series 20, time 16, obs 1, obs 8, obs 8), 0 % missing, total 20)
    """
    num_train, num_test = whole_number(num_train, "num_train", 1), whole_number(num_test, "num_test", 1)
    num_validation = whole_number(num_validation, "num_validation")
    num_steps = whole_number(num_steps, "num_steps", 1)
    num_test_steps = num_steps if num_test_steps is None else whole_number(num_test_steps, "num_test_steps", 1)
    if not np.isfinite(degrees_per_step):
        raise DataError(f"`degrees_per_step` must be finite. Got {degrees_per_step}.")
    images, labels = _select(source, digits, num_train + num_test + num_validation)
    starts = np.random.default_rng(seed_number(seed)).uniform(0.0, 360.0, len(images))
    if num_start_angles is not None:
        spacing = 360.0 / whole_number(num_start_angles, "num_start_angles", 1)
        starts = np.floor(starts / spacing) * spacing

    def part(first: int, count: int, length: int = num_steps) -> Sequences:
        chosen = slice(first, first + count)
        angles = starts[chosen, None] + degrees_per_step * np.arange(length)
        context = {"label": torch.from_numpy(labels[chosen]), "start_degrees": torch.from_numpy(starts[chosen])}
        return Sequences(torch.from_numpy(_rotate(images[chosen], angles)), context=context)

    validation = part(num_train + num_test, num_validation) if num_validation else None
    return Splits(part(0, num_train), validation, part(num_train, num_test, num_test_steps))


def _select(source: DigitImages, digits: Sequence[int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` images of the wanted classes."""
    if not isinstance(source, DigitImages):
        raise DataError(f"`source` must be an object such as `BundledDigits()` or `MNIST()`. Got {source!r}.")
    wanted = sorted(set(digits))
    if not wanted or not set(wanted) <= set(range(_NUM_CLASSES)):
        raise DataError(f"`digits` must name classes from 0 to 9. Got {tuple(digits)}.")
    images, labels = source.load()
    positions = np.flatnonzero(np.isin(labels, wanted))
    if len(positions) < count:
        raise DataError(
            f"{source} must give {count} images of the digits {tuple(wanted)}, one a series. It has {len(positions)}. "
            "Ask for fewer series, more digits, or `source=MNIST()`."
        )
    positions = positions[:count]
    return images[positions], labels[positions]


def _rotate(images: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Images (series, height, width) turned by angles (series, time) in degrees -> (series, time, 1, height, width)."""
    from scipy import ndimage  # slow to import and needed only here

    frames = np.empty((*angles.shape, 1, *images.shape[1:]), dtype=np.float32)
    # The interpolator takes one image and angle at a time, about 50 microseconds each.
    for series, step in np.ndindex(*angles.shape):
        frames[series, step, 0] = ndimage.rotate(images[series], angles[series, step], reshape=False, order=1)
    return frames.clip(0.0, 1.0)
