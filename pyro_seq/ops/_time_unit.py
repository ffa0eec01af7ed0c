"""The unit of time inferred from time stamps, and a warning if other data seem to have another unit."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from pyro_seq._host import on_host

EVEN = 1e-3  # tolerance of time stamps on an even grid, as a share of a step
_MOST_STEPS = 16  # most units of time per mean interval: bounds the cost of long gaps between bursts
_OTHER_UNIT = 30  # ratio to steps of training that suggests another unit: minute to second, but not day to hour


def since_start(times: Tensor, unit: Tensor) -> Tensor:
    """Time since the first of the axis, in a unit."""
    return (times - times[..., :1]) / unit


def typical_step(gaps: Tensor) -> float:
    """The median step, or a 16th of the mean where that is longer."""
    return max(float(gaps.median()), float(gaps.mean()) / _MOST_STEPS)


def warn_of_bursts(gaps: Tensor) -> None:
    """Warn about time stamps that come in bursts, whose unit is not their median step."""
    unit = typical_step(gaps)
    if unit <= float(gaps.median()):
        return
    series, step = divmod(int(gaps.argmax()), gaps.shape[-1])
    where = f" of series {series}" if gaps.ndim == 2 else ""
    warnings.warn(
        f"Most steps of `data.times` are far shorter than the time that they span: the median step is "
        f"{float(gaps.median()):.3g}, the mean {float(gaps.mean()):.3g}, and the longest {float(gaps.max()):.3g}, from "
        f"time {step} to {step + 1}{where}. The unit of time is now {unit:.3g}, a sixteenth of the mean, so that "
        "solvers take few steps; what changes faster than that is not resolved. Check the time stamps there; split "
        "series at long gaps, or put what belongs together into series of its own.",
        stacklevel=3,
    )


def warn_of_other_unit(gaps: Tensor, known: float) -> None:
    """Warn about steps so much longer or shorter than the `known` one of training that the unit may differ."""
    step = float(gaps.median())
    if step > known * _OTHER_UNIT or typical_step(gaps) < known / _OTHER_UNIT:
        warnings.warn(
            f"`data.times` have steps of {step:g}, and the training data had {known:g}: are they in another unit of "
            "time? Dates are counted in seconds. Convert the time stamps to the unit of training.",
            stacklevel=4,
        )


def rounding(times: Tensor) -> float:
    """The largest error of a difference of two time stamps, each rounded once to double precision."""
    return torch.finfo(torch.float64).eps * float(on_host(times).abs().max()) if times.numel() else 0.0


def are_even(gaps: Tensor, times: Tensor) -> bool:
    """Whether steps have equal length, up to the share `EVEN` and the rounding of the time stamps."""
    if not gaps.numel():
        return True
    step = gaps.median()
    return float((gaps - step).abs().max()) <= EVEN * float(step) + 2 * rounding(times)
