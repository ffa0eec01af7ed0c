"""Step by step, or in parallel over time: which is faster."""

from __future__ import annotations

from pyro_seq.ops.kalman.system import System

FEW_STEPS = 25
MANY_NUMBERS = 2**11


def choose_parallel(is_parallel: bool | None, system: System) -> bool:
    """The form that is asked for; where none is, the faster one, by the sizes that decide it."""
    if is_parallel is not None:
        return is_parallel
    if system.values.device.type != "cpu":
        # there a call is a launch, which costs more, and the arithmetic less
        return system.num_steps >= FEW_STEPS
    state_dim, num_series = system.initial_mean.shape[-2], system.batch_shape.numel()
    return is_parallel_faster(system.num_steps, state_dim, num_series, system.num_covs)


def is_parallel_faster(num_steps: int, state_dim: int, num_series: int, num_covs: int) -> bool:
    """Whether the parallel form takes less time, forward and backward, on one thread of a processor.

    A step of the loop costs its calls, whatever they compute, until the numbers that a step holds, covariances and
    means of the state over all series, exceed some two thousand. The parallel form needs few calls and more arithmetic.
    """
    numbers = num_covs * state_dim**2 + num_series * state_dim
    return num_steps >= FEW_STEPS and numbers <= MANY_NUMBERS
