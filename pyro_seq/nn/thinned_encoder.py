"""An encoder that is trained on a subset of the observations that the likelihood sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.nn.encoder import SeriesEncoder


@rebuildable
class ThinnedEncoder(nn.Module):
    """Hides a random part of the observed steps from an encoder in training, and none afterwards.

    The likelihood still uses every observation, so the encoder learns to infer all of them from a few. Latent ODEs are
    trained like this for series that are only partly observed at test time; in training the model has seen, in other
    series, the points that it later has to predict.

    Args:
        encoder: Reads the remaining steps; must skip hidden ones, as `RNNEncoder` does.
        shares: Shares of each series' observed steps to keep, one of them drawn per minibatch; at least one step is
            kept.

    Raises:
        DataError: When a share is out of range.

    Example:
        >>> from pyro_seq.nn.ode_rnn import RNNEncoder
        >>> ThinnedEncoder(RNNEncoder((1,), 4), shares=(0.1, 0.5)).dim
        4

    References:
        Rubanova, Chen, Duvenaud, "Latent ODEs for irregularly-sampled time series", NeurIPS 2019.
    """

    hides_in_training: ClassVar[bool] = True

    def __init__(self, encoder: SeriesEncoder, *, shares: Sequence[float]) -> None:
        super().__init__()
        if not shares or not all(0.0 < share <= 1.0 for share in shares):
            raise DataError(f"`shares` must be shares above 0 and up to 1, one or more. Got {shares!r}.")
        self.encoder = encoder
        self.shares = tuple(shares)

    @property
    def dim(self) -> int:
        """Size of the vector."""
        return self.encoder.dim

    @property
    def input_dim(self) -> int:
        """Size of the inputs that the encoder reads, also at steps hidden from it."""
        return getattr(self.encoder, "input_dim", 0)

    def adapt(self, data: Sequences) -> None:
        """Set the units of the frames from the training data."""
        if hasattr(self.encoder, "adapt"):
            self.encoder.adapt(data)

    def forward(self, frames: Tensor, mask: Tensor, times: Tensor, *inputs: Tensor) -> dist.TorchDistribution:
        r"""Batch (series,), event (dim,), of frames and mask (series, time, \*obs) at model times (series, time)."""
        if self.training:
            mask = mask & self._kept(mask.flatten(2).any(-1)).reshape(mask.shape[:2] + (1,) * (mask.ndim - 2))
            frames = frames.where(mask, 0)
        return self.encoder(frames, mask, times, *inputs)

    def _kept(self, is_seen: Tensor) -> Tensor:
        """Which steps (series, time) are kept."""
        share = self.shares[int(torch.randint(len(self.shares), ()))]
        order = torch.rand(is_seen.shape).to(is_seen.device).masked_fill(~is_seen, torch.inf)
        rank = order.argsort(-1).argsort(-1)
        count = (share * is_seen.sum(-1, keepdim=True)).round().clamp(min=1)
        return is_seen & (rank < count)
