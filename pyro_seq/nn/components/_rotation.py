"""Rotations of the plane."""

from __future__ import annotations

import torch
from torch import Tensor


def rotation(angles: Tensor) -> Tensor:
    """(..., 2, 2): rotations by `angles`; the first coordinate of a rotating point follows a cosine."""
    cosine, sine = angles.cos(), angles.sin()
    return torch.stack([cosine, sine, -sine, cosine], -1).unflatten(-1, (2, 2))
