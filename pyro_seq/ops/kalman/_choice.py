"""Step by step, or in parallel over time: which is faster."""

from __future__ import annotations

from pyro_seq.ops.kalman.system import System

FEW_STEPS = 25
MUCH_WORK = 2**15


def choose_parallel(is_parallel: bool | None, system: System) -> bool:
    """The form that is asked for; where none is, the faster one, by the sizes that decide it."""
    if is_parallel is not None:
        return is_parallel
    state_dim, num_series = system.initial_mean.shape[-2], system.batch_shape.numel()
    return is_parallel_faster(system.num_steps, state_dim, num_series, system.num_covs)


def is_parallel_faster(num_steps: int, state_dim: int, num_series: int, num_covs: int) -> bool:
    """Whether the parallel form takes less time, forward and backward, on one thread of a processor.

    A step of the loop costs its calls, whatever they compute, until the multiplications of one product exceed some
    2^15: state^3 for each series with covariances of its own, and state^2 for each mean. The parallel form needs few
    calls and more arithmetic.
    """
    work = num_covs * state_dim**3 + num_series * state_dim**2
    return num_steps >= FEW_STEPS and work <= MUCH_WORK
