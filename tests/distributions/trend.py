"""A damped trend, with a known start or a diffuse one, and series of it with gaps."""

from __future__ import annotations

import torch

from pyro_seq.ops.kalman import LinearGaussianParameters


def parameters(diffuse: torch.Tensor | None = torch.tensor([True, True])) -> LinearGaussianParameters:
    transition = torch.tensor([[1.0, 1.0], [0.0, 0.9]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    return LinearGaussianParameters(transition, 0.3 * eye, eye[:1], 0.5 * eye[:1, :1], 0 * eye[0], eye, diffuse=diffuse)


def observed() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 10, 1, dtype=torch.float64, generator=generator).cumsum(1)
    mask = torch.ones(3, 10, 1, dtype=torch.bool)
    mask[0, 4:7] = mask[1, 0] = mask[2, 8:] = False
    return values.masked_fill(~mask, 0.0), mask
