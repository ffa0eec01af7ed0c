"""MuJoCo walkers: free motion of simulated bodies from random initial states."""

from __future__ import annotations

from dataclasses import asdict

import torch

from pyro_seq._arguments import whole_number
from pyro_seq.data import Sequences
from pyro_seq.datasets._arguments import part_sizes, streams
from pyro_seq.datasets._cache import Arrays, cached
from pyro_seq.datasets._scaling import training_range
from pyro_seq.datasets._splits import Splits
from pyro_seq.datasets._walkers import Walker, simulate
from pyro_seq.errors import DataError

_VERSION = 1  # of the states; increase it when the same arguments give other states


def mujoco_walkers(
    walker: Walker = Walker.hopper(),
    *,
    num_train: int = 8_000,
    num_validation: int = 0,
    num_test: int = 2_000,
    num_steps: int = 50,
    num_test_steps: int = 100,
    normalise: bool = True,
    divide_by_maximum: bool = False,
    seed: int = 0,
    cache: bool = False,
) -> Splits:
    r"""Positions and velocities of a hopper, a swimmer or a cheetah that is dropped and moves without motors.

    Models come from the DeepMind control suite, steps from MuJoCo (``pip install 'pyro_seq[mujoco]'``). Each series
    begins in a random state; the ranges belong to the `Walker`. Times are counted in frames.

    Normalised values are :math:`(x - \min) / (\max - \min)` for each channel, with the training series' minimum and
    maximum: training values lie in [0, 1], test values now and then outside (hopper: -0.5 to 1.5). The published hopper
    set divides by the maximum alone, with statistics over all series. Velocities have rare peaks, which compress the
    rest: compare errors only at equal scaling and ranges. (With the hopper's ranges, diverging swimmers compress the
    others to a variance of 2e-5.)

    Args:
        walker: `Walker.hopper()`, `Walker.swimmer()`, `Walker.cheetah()` or custom ranges.
        num_train: Number of training series.
        num_validation: Number of validation series; 0 makes this part None.
        num_test: Number of test series.
        num_steps: Frames of a training and a validation series.
        num_test_steps: Frames of a test series.
        normalise: Scale each channel; otherwise units are metres, radians and seconds.
        divide_by_maximum: When normalising, divide by the maximum instead of by the range.
        seed: Each part has a separate random stream, so its series do not depend on the other parts' sizes; but its
            scaling does.
        cache: Store the states in the user's cache folder, about 80 MB at the default sizes, and read them from there
            next time, even without the engine.

    Returns:
        Splits with values (series, time, state), single precision; a state is all positions, then all velocities.

    Raises:
        DataError: When an argument is out of range.
        UnsupportedError: When the engine is not installed.
        NumericalError: When the ranges of `walker` let a body diverge.

    References:
        Tunyasuvunakool et al. (2020), dm_control: software and tasks for continuous control; Rubanova, Chen and
        Duvenaud (2019), Latent ordinary differential equations for irregularly-sampled time series.
    """
    if not isinstance(walker, Walker):
        raise DataError(f"`walker` must be a walker such as `Walker.hopper()`. Got {walker!r}.")
    sizes = part_sizes(num_train, num_validation, num_test)
    short, long = whole_number(num_steps, "num_steps", 1), whole_number(num_test_steps, "num_test_steps", 1)

    def make() -> Arrays:
        parts = zip(Splits._fields, sizes, (short, short, long), streams(seed, len(sizes)), strict=True)
        return {part: simulate(walker, size, steps, rng) for part, size, steps, rng in parts}

    setting = {"version": _VERSION, "walker": asdict(walker), "series": sizes, "steps": (short, long), "seed": seed}
    arrays = cached("mujoco_walkers", setting, make) if cache else make()
    if normalise:
        rows = arrays["train"].reshape(-1, arrays["train"].shape[-1])
        low, divisor = training_range(rows, divide_by_maximum=divide_by_maximum)
        arrays = {part: (states - low) / divisor for part, states in arrays.items()}
    train, validation, test = (torch.from_numpy(arrays[part]).float() for part in Splits._fields)
    return Splits(Sequences(train), Sequences(validation) if num_validation else None, Sequences(test))
