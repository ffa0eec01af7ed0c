"""The constant content of a sequence, inferred from a set of its frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Content(nn.Module):
    r"""A vector for a set of frames, independent of their order.

    .. math::
        w = \tanh\left(B\, \tfrac{k}{|S|} \sum_{t \in S} \mathrm{relu}(A c_t + a) + b\right)

    where S are the chosen frames and k is their usual number: with fewer frames, each counts more.

    Args:
        code_dim: Size of the code c of a frame.
        dim: Size of the vector w, and of the layer below it.
        num_frames: Usual number k of frames.

    References:
        Franceschi, Delasalles, Chen, Lamprier, Gallinari, "Stochastic latent residual video prediction", ICML 2020.
    """

    def __init__(self, code_dim: int, dim: int = 256, num_frames: int = 5) -> None:
        super().__init__()
        self.dim, self.num_frames = dim, num_frames
        self.each = nn.Sequential(nn.Linear(code_dim, dim), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.Tanh())

    def forward(self, codes: Tensor, chosen: Tensor) -> Tensor:
        """Content (series, dim) of codes (series, time, code) of the frames `chosen`, True in (series, time)."""
        weight = self.num_frames / chosen.sum(-1, keepdim=True).clamp(min=1)
        features = torch.where(chosen[..., None], self.each(codes), 0.0) * weight[..., None]
        return self.head(features.sum(-2))


def last_frames(seen: Tensor, count: int) -> Tensor:
    """True at the last `count` frames that were `seen`, (series, time)."""
    remaining = seen.long().flip(-1).cumsum(-1).flip(-1)
    return seen & (remaining <= count)


def random_frames(seen: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """True at `count` frames of each series, drawn without replacement from those that were `seen`, (series, time)."""
    order = torch.rand(seen.shape, generator=generator).to(seen.device) + (~seen)
    return seen & (order.argsort(-1).argsort(-1) < count)
