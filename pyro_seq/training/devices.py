"""Synchronisation of several devices: figures of a step, and buffers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def mean_over_devices(own: Mapping[str, float], share: float, num_devices: int) -> dict[str, float]:
    """Means of figures over devices, weighted by their shares of the batch, over the devices that have the figure."""
    if num_devices == 1:
        return dict(own)
    rows: list[Any] = [None] * num_devices
    torch.distributed.all_gather_object(rows, (share, dict(own)))
    means = {}
    for name in dict.fromkeys(name for _, row in rows for name in row):
        known = [(weight, row[name]) for weight, row in rows if name in row]
        means[name] = sum(weight * figure for weight, figure in known) / sum(weight for weight, _ in known)
    return means


def share_buffers(model: nn.Module, num_devices: int) -> None:
    """Copy the buffers of the first device to all; since the last copy each has seen only its part of a batch."""
    if num_devices > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


def warn_of_other_number(earlier: int | None, now: int) -> None:
    """Warn if a run continues with another number of devices than before; None means unknown.

    Warns:
        UserWarning: With both numbers.
    """
    if earlier not in (None, now):
        warnings.warn(
            f"The run began on {earlier} device(s) and goes on with {now}. Each draws noise of its own, so what "
            "follows is as good as the run without the stop, but not the same.",
            stacklevel=2,
        )
