"""Positions of video frames on the grid of Euler steps."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_seq._host import on_host
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError

_FINEST = 64  # largest number of Euler steps per frame that an error message tries


def frame_position(data: Sequences, time_scale: Tensor) -> Tensor:
    """Frames since the start of each series, (time,) or (series, time), on the host; seen ones are one apart."""
    times = on_host(data.times)
    return (times - times[..., :1]) / frame_length(data, time_scale)


def frame_length(data: Sequences, time_scale: Tensor) -> Tensor:
    """Time between seen frames, on the host. The mean, because single steps carry the rounding of the time stamps."""
    gaps = on_host(data.times)[..., : data.num_steps].diff(dim=-1)
    return gaps.mean() if gaps.numel() else on_host(time_scale)


def require_frame_grid(position: Tensor, num_steps: int, num_substeps: int, tolerance: float) -> None:
    """Require seen frames one apart and later ones at most one apart, at whole Euler steps, the same in all series."""
    frames = torch.arange(num_steps, device=position.device)
    if float((position[..., :num_steps] - frames).abs().max()) > tolerance or (
        position.ndim == 2 and float((position - position[:1]).abs().max()) > tolerance
    ):
        raise DataError(
            "`data.times` must be evenly spaced where frames were seen, and the same in all series. Put the frames on "
            "an even grid with hidden ones between them, `data.on_grid(step)`."
        )
    ahead = position.reshape(-1, position.shape[-1])[0, max(num_steps - 1, 0) :]
    if float(ahead.diff().max() if len(ahead) > 1 else 0.0) > 1 + tolerance:
        raise DataError(
            "`data.times` must have a step for each frame of the horizon at least. Got steps up to "
            f"{float(ahead.diff().max()):g} frames. Forecast the frames between as well."
        )
    fits = [n for n in range(1, _FINEST + 1) if float((n * ahead - (n * ahead).round()).abs().max()) <= n * tolerance]
    if num_substeps not in fits:
        raise DataError(
            f"`data.times` must lie on the grid of `forecast_substeps` = {num_substeps} Euler steps a frame. Got "
            + "others. "
            + (f"Set `model.forecast_substeps` to a multiple of {fits[0]}." if fits else "Choose other times.")
        )
