"""Step by step, or in parallel over time: which is faster."""

from __future__ import annotations

from pyro_seq.ops.kalman.system import System

MANY_STEPS = 25
LITTLE_WORK = 2**15


def choose_parallel(is_parallel: bool | None, system: System) -> bool:
    """The form that is asked for, or the one that is faster at these sizes."""
    if is_parallel is not None:
        return is_parallel
    state = system.initial_mean.shape[-2]
    has_little_work = system.num_covs * state**3 <= LITTLE_WORK or system.values.device.type != "cpu"
    return system.num_steps >= MANY_STEPS and has_little_work
