"""Multilayer perceptrons: trunks that read frames, and decoders of frames."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable


def mlp(sizes: Sequence[int], activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """Linear layers of the given sizes with an activation between them, none after the last."""
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), activation()]
    return nn.Sequential(*layers[:-1])


@rebuildable
class MLPTrunk(nn.Module):
    r"""Features of a window of frames: the first frame, and the rates of change from it to each later one.

    Rates, :math:`(x_k - x_0) / (t_k - t_0)`, show a velocity more clearly than frames that differ little. Rates to or
    from a missing entry are zero; the mask and the gaps between the frames are inputs too.

    Args:
        num_frames: Length of the window.
        obs_shape: Shape of one frame.
        hidden_dims: Widths of the hidden layers; the last is the number of features.
        activation: After each layer.
        noise: Standard deviation of noise on frames and rates while training, in units of the data's deviation; it
            reduces overfitting of an encoder trained on few series.
    """

    def __init__(
        self,
        num_frames: int,
        obs_shape: Sequence[int],
        hidden_dims: Sequence[int] = (60, 60),
        *,
        activation: type[nn.Module] = nn.Tanh,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.noise = noise
        self.num_features = hidden_dims[-1]
        size_in = 2 * num_frames * math.prod(obs_shape) + num_frames - 1
        self.layers = nn.Sequential(mlp((size_in, *hidden_dims), activation), activation())

    def forward(self, frames: Tensor, mask: Tensor, gaps: Tensor) -> Tensor:
        r"""Features (batch, feature) of frames and mask (batch, frame, \*obs), `gaps` (batch, frame - 1) apart."""
        frames, mask = frames.flatten(2), mask.flatten(2)
        elapsed = gaps.cumsum(-1)[..., None]
        rates = (frames[:, 1:] - frames[:, :1]) / elapsed.clamp(min=torch.finfo(frames.dtype).tiny)
        motion = torch.cat([frames[:, :1], rates * mask[:, 1:] * mask[:, :1] * (elapsed > 0)], 1)
        if self.training and self.noise:
            motion = motion + self.noise * torch.randn_like(motion)
        return self.layers(torch.cat([motion.flatten(1), mask.flatten(1), gaps], -1))


@rebuildable
class MLPDecoder(nn.Module):
    r"""Means or logits (batch, \*obs) of an observation given a latent position (batch, dim).

    Args:
        dim: Size of the position.
        obs_shape: Shape of one observation.
        hidden_dims: Widths of the hidden layers.
        activation: Between the layers.
    """

    def __init__(
        self,
        dim: int,
        obs_shape: Sequence[int],
        hidden_dims: Sequence[int] = (60, 60),
        activation: type[nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            mlp((dim, *hidden_dims, math.prod(obs_shape)), activation), nn.Unflatten(1, tuple(obs_shape))
        )

    def forward(self, position: Tensor) -> Tensor:
        """Decode positions (batch, dim)."""
        return self.layers(position)
