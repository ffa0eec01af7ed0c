"""Parts as a user would write them, typed, so that `mypy` and the check suite both judge what the library takes."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyro_seq as ps

IMAGE = (1, 8, 8)
SMALL = ps.DCGAN(channels=(4, 6), code_dim=6, norm=lambda channels: nn.GroupNorm(1, channels))


class LaplaceEmission(ps.Emission):
    """Heavy tails, with one learned scale."""

    def __init__(self, decoder: nn.Module | None = None) -> None:
        super().__init__(decoder)
        self.log_scale = nn.Parameter(torch.tensor(-1.0))

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        """Laplace around what the decoder writes."""
        return dist.Laplace(decoded, self.log_scale.exp())


class MeanEncoder(nn.Module):
    """The state from the mean of the observed entries, and their first time."""

    def __init__(self, obs_shape: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.linear = nn.Linear(math.prod(obs_shape), 2 * dim)

    def forward(self, frames: Tensor, mask: Tensor, times: Tensor) -> dist.TorchDistribution:
        """Batch (series,), event (dim,)."""
        count = mask.sum(1).clamp(min=1)
        mean = torch.where(mask, frames, 0).sum(1) / count
        loc, log_scale = self.linear(mean.flatten(1)).chunk(2, -1)
        return dist.Normal(loc, log_scale.clamp(-5.0, 2.0).exp()).to_event(1)


def models() -> dict[str, ps.SequenceModel]:
    """The same emission in all five models, and the same encoder in those of a flow."""
    energy = ps.EnergyTilt(ps.EnergyMLP(4, (4,)), num_steps=2)
    return {
        "ODE2VAE": ps.ODE2VAE(
            IMAGE, 2, emission=LaplaceEmission(), encoder=MeanEncoder(IMAGE, 4), initial_prior=energy
        ),
        "ODELEBM": ps.ODELEBM(IMAGE, 3, emission=LaplaceEmission(), encoder=MeanEncoder(IMAGE, 3)),
        "KalmanVAE": ps.KalmanVAE(IMAGE, emission=LaplaceEmission()),
        "RecurrentVAE": ps.RecurrentVAE(IMAGE, emission=LaplaceEmission()),
        "SRVP": ps.SRVP(
            IMAGE,
            3,
            noise_dim=2,
            content_dim=4,
            num_frames=3,
            hidden_dim=8,
            architecture=SMALL,
            initial_prior=ps.LearnedNormal(3),
            emission=LaplaceEmission(),
        ),
    }
