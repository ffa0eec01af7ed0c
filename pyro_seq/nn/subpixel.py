"""A decoder of images with sub-pixel convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_seq._arguments import require_channel_first
from pyro_seq._recipes import rebuildable
from pyro_seq.errors import ShapeError

# Images decoded at a time, to fit in the cache of a core. With 16 channels this is 1.5 times as fast as 640 at once,
# and channels-last twice as fast again.
_CACHED = 128


@rebuildable
class SubPixelDecoder(nn.Module):
    """Images from a latent code: one linear layer, then convolutions with kernel 3 whose channels become pixels.

    Each of `depth` stages computes four times as many channels as it outputs and rearranges them into an image of twice
    the size, which avoids chequerboard artefacts. Most time is spent in the last stage; cost grows with the square of
    `channels`.

    Args:
        dim: Size of the code.
        obs_shape: (channel, height, width) of one image; excess pixels from doubling are cropped.
        channels: Channels between the stages.
        depth: Number of doublings.
        hidden_dim: Width of a further linear layer in front, which allows codes simpler than the shape of an image; 0
            for none, as in the public code of the Kalman VAE.

    Raises:
        ShapeError: When `obs_shape` is not that of an image.

    References:
        Shi, Caballero, Huszar and others, "Real-time single image and video super-resolution using an efficient
        sub-pixel convolutional neural network", CVPR 2016.
    """

    def __init__(
        self, dim: int, obs_shape: Sequence[int], channels: int = 32, *, depth: int = 3, hidden_dim: int = 0
    ) -> None:
        super().__init__()
        if len(obs_shape) != 3:
            raise ShapeError(f"`obs_shape` must be (channel, height, width) for convolutions. Got {tuple(obs_shape)}.")
        require_channel_first(obs_shape, "obs_shape")
        colours, self.height, self.width = obs_shape
        self.seed_shape = (channels, -(-self.height // 2**depth), -(-self.width // 2**depth))
        self.before = nn.Sequential(nn.Linear(dim, hidden_dim), nn.ReLU()) if hidden_dim else nn.Identity()
        self.seed = nn.Linear(hidden_dim or dim, channels * self.seed_shape[1] * self.seed_shape[2])
        stages: list[nn.Module] = []
        for _ in range(depth):
            stages += [nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.ReLU(), nn.PixelShuffle(2)]
        self.stages = nn.Sequential(*stages, nn.Conv2d(channels, colours, 1))

    def forward(self, code: Tensor) -> Tensor:
        """Images (batch, channel, height, width) of codes (batch, dim)."""
        seeds = self.seed(self.before(code)).unflatten(1, self.seed_shape).contiguous(memory_format=torch.channels_last)
        images = torch.cat([self.stages(seed) for seed in seeds.split(_CACHED)])
        return images[..., : self.height, : self.width].contiguous()
