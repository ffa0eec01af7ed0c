"""Moving digits: handwritten digits that drift over a black frame and bounce off its borders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from pyro_seq._arguments import real_number, seed_number, whole_number
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.datasets._bouncing_paths import follow
from pyro_seq.datasets._digit_images import BundledDigits, DigitImages
from pyro_seq.datasets._splits import SourceSplits
from pyro_seq.errors import DataError

_MAX_SPEED = 4  # pixels a frame along each axis
_ENDLESS = 2**31
_BLOCK = 16  # new velocities drawn at once
_TEST_SEED = 42  # of the split of the digits and of the test set
_TEST_SHARE, _VALIDATION_SHARE = 1 / 6, 0.05
_TRAIN, _VALIDATION, _TEST = range(3)  # streams of random numbers
_WHITE = 255.0


def moving_digits(
    *,
    source: DigitImages = BundledDigits(28),
    test_source: DigitImages | None = None,
    num_digits: int = 2,
    is_stochastic: bool = True,
    num_steps: int = 15,
    num_test_steps: int | None = None,
    num_validation: int = 0,
    num_test: int | None = None,
    size: int = 64,
    time_step: float = 1.0,
    seed: int = 0,
) -> SourceSplits:
    r"""Videos of digits that move straight until they touch the border, generated endlessly during training.

    A digit is an image that starts at a whole pixel, uniformly inside the frame, with a velocity uniform on -4, ..., 4
    pixels per frame along each axis, zero included. If its straight path would leave the frame, it bounces at that
    place and moment, and continues for the rest of the time step:

    * stochastic: both components of the velocity are drawn anew, and the one normal to the border is turned inwards,
      so that it may be zero;
    * deterministic: the normal component changes sign.

    A path does not depend on the frame rate: with ``time_step=0.5`` every second frame is a frame of the path at
    ``time_step=1.0``. Frames show the digits at rounded positions, added up and clipped at white.

    Training series are a function of (`seed`, number) and never repeat. Each test digit is used once, and the test set
    is the same for every `seed`. The set of the SRVP paper, with 5000 test videos:
    ``moving_digits(source=MNIST(), test_source=MNIST(is_train=False), num_validation=1_500)``, and with
    ``is_stochastic=False`` its deterministic variant. The draws differ from those of the published files.

    Args:
        source: Source of the still images: `BundledDigits` or `MNIST`, both 28 x 28.
        test_source: Images for the test set; by default one sixth of those of `source`.
        num_digits: Digits in a video.
        is_stochastic: Bounce with a new random velocity rather than by reflection.
        num_steps: Frames of a training or validation series.
        num_test_steps: Frames of a test series; 25 by default, 100 for the deterministic set.
        num_validation: Number of validation series, from 5 % of the images, which training then leaves out; 0 for none.
        num_test: Number of test series; by default as many as the test digits allow.
        size: Height and width of a frame in pixels.
        time_step: Time from one frame to the next, in the unit of the velocities.
        seed: Seed of the training series.

    Returns:
        Sources with values (series, time, 1, size, size) in [0, 1], single precision. The context holds each digit's
        `label` (series, digit) and `position` (series, time, digit, 2), of its upper left corner, before rounding, as
        (row, column).

    Raises:
        DataError: When an argument is out of range, a digit does not fit into the frame, or images are missing.

    References:
        Srivastava, Mansimov and Salakhutdinov (2015), Unsupervised learning of video representations using LSTMs;
        Denton and Fergus (2018), Stochastic video generation with a learned prior; Franceschi, Delasalles, Chen,
        Lamprier and Gallinari (2020), Stochastic latent residual video prediction.

    Example:
        >>> train, validation, test = moving_digits()
        >>> train
        MovingDigits((series endless, time 15, obs 1, obs 64, obs 64))
        >>> test[:3]
        Sequences((series 3, time 25, obs 1, obs 64, obs 64), 0 % missing, total 3)
    """
    seed, num_validation = seed_number(seed), whole_number(num_validation, "num_validation")
    num_test_steps = (25 if is_stochastic else 100) if num_test_steps is None else num_test_steps
    digits = _Digits.of(source)
    rng = np.random.default_rng(_TEST_SEED)
    kept, reserved = _split(rng.permutation(len(digits.labels)), _TEST_SHARE if test_source is None else 0.0)
    kept, held_out = _split(kept, _VALIDATION_SHARE if num_validation else 0.0)
    tested = digits.take(reserved) if test_source is None else _Digits.of(test_source)
    options = (whole_number(num_digits, "num_digits", 1), whole_number(size, "size", 1), bool(is_stochastic))
    times = real_number(time_step, "time_step", 1e-6) * np.arange(whole_number(num_steps, "num_steps", 1))
    test_times = time_step * np.arange(whole_number(num_test_steps, "num_test_steps", 1))
    possible = len(tested.labels) // num_digits
    num_test = possible if num_test is None else whole_number(num_test, "num_test", 1)
    if not 0 < num_test <= possible:
        raise DataError(
            f"`num_test` must be at most {possible}, for each of {len(tested.labels)} test digits is used once and "
            f"{num_digits} a series. Got {num_test}."
        )
    order = rng.permutation(len(tested.labels))[: num_test * num_digits].reshape(num_test, num_digits)
    train = MovingDigits(digits.take(kept), times, *options, (_TRAIN, seed), _ENDLESS, is_endless=True)
    test = MovingDigits(tested, test_times, *options, (_TEST, _TEST_SEED), num_test, order=order)
    validation = None
    if num_validation:
        validation = MovingDigits(digits.take(held_out), times, *options, (_VALIDATION, _TEST_SEED), num_validation)
    return SourceSplits(train, validation, test)


@dataclass(frozen=True)
class _Digits:
    """Images (image, height, width), whole numbers up to 255, and labels (image,)."""

    images: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, source: DigitImages) -> _Digits:
        if not isinstance(source, DigitImages):
            raise DataError(f"A source must be an object such as `BundledDigits(28)` or `MNIST()`. Got {source!r}.")
        images, labels = source.load()
        return cls(np.rint(_WHITE * images).astype(np.uint8), labels)

    def take(self, chosen: np.ndarray) -> _Digits:
        return _Digits(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True, eq=False, repr=False)
class MovingDigits(SequenceSource):
    """Videos of moving digits, made when asked for; see `moving_digits`.

    Attributes:
        digits: Still images and their labels.
        times: Time stamps of the frames.
        num_digits: Digits in a video.
        size: Height and width of a frame.
        is_stochastic: Bounce with a new random velocity rather than by reflection.
        entropy: Seeds, combined with the number of a series.
        num_series: Number of series.
        is_endless: True if training will never reach the last series.
        order: Digits of each series (series, digit); drawn at random, with replacement, by default.
    """

    digits: _Digits
    times: np.ndarray
    num_digits: int
    size: int
    is_stochastic: bool
    entropy: tuple[int, int]
    num_series: int
    is_endless: bool = False
    order: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.digits.labels) == 0:
            raise DataError("There must be digits for every part. Got none for one of them. Pass a larger `source`.")
        if max(self.digits.images.shape[1:]) > self.size:
            raise DataError(
                f"`size` must hold a digit of {self.digits.images.shape[1:]} pixels. Got {self.size}. Raise it."
            )

    def load(self, index: Tensor) -> Sequences:
        """Make the series numbered `index`."""
        numbers = index.numpy()
        generators = [np.random.default_rng((*self.entropy, number)) for number in numbers.tolist()]
        if self.order is None:
            chosen = self._draw(generators, len(self.digits.labels))
        else:
            chosen = self.order[numbers]
        positions = self.paths(generators)
        frames = _render(self.digits.images, chosen, np.rint(positions).astype(int), self.size)
        context = {
            "label": torch.from_numpy(self.digits.labels[chosen]),
            "position": torch.from_numpy(np.ascontiguousarray(positions)),
        }
        return Sequences(torch.from_numpy(frames), times=torch.from_numpy(self.times), context=context)

    def paths(self, generators: list[np.random.Generator]) -> np.ndarray:
        """Upper left corners of the digits (series, time, digit, 2)."""
        height, width = self.digits.images.shape[1:]
        room = np.array([self.size - height, self.size - width])
        start, velocity = (
            np.stack([g.integers(low, high, (self.num_digits, 2), endpoint=True) for g in generators])
            for low, high in ((0, room), (-_MAX_SPEED, _MAX_SPEED))
        )
        blocks: list[np.ndarray] = []

        def redraw(hit: int) -> np.ndarray:
            block, row = divmod(hit, _BLOCK)
            if block == len(blocks):
                shape = (_BLOCK, self.num_digits, 2)
                drawn = [g.integers(-_MAX_SPEED, _MAX_SPEED, shape, endpoint=True) for g in generators]
                blocks.append(np.stack(drawn, 1))
            return blocks[block][row].reshape(-1, 2)

        paths = follow(
            start.reshape(-1, 2), velocity.reshape(-1, 2), room, self.times, redraw if self.is_stochastic else None
        )
        return paths.reshape(len(generators), self.num_digits, len(self.times), 2).swapaxes(1, 2)

    def _draw(self, generators: list[np.random.Generator], count: int) -> np.ndarray:
        return np.stack([generator.integers(count, size=self.num_digits) for generator in generators])


def _split(numbers: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Split off a share of the numbers from the end: the remaining ones, and the share."""
    kept = len(numbers) - round(share * len(numbers))
    return numbers[:kept], numbers[kept:]


def _render(images: np.ndarray, chosen: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Frames (series, time, 1, size, size) of digits `chosen` (series, digit) at corners (series, time, digit, 2)."""
    num_series, num_steps, num_digits, _ = corners.shape
    frames = np.zeros((num_series * num_steps, size, size), dtype=np.float32)
    windows = sliding_window_view(frames, images.shape[1:], axis=(1, 2), writeable=True)
    for digit in range(num_digits):
        rows, columns = corners[:, :, digit].reshape(-1, 2).T
        windows[np.arange(len(frames)), rows, columns] += images[chosen[:, digit]].repeat(num_steps, 0)
    np.minimum(frames, _WHITE, out=frames)
    frames /= np.float32(_WHITE)
    return frames.reshape(num_series, num_steps, 1, size, size)
