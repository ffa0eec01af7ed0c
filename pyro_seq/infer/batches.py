"""Minibatches as a pure function of seed and step, so that training can stop and go on anywhere."""

from __future__ import annotations

import torch

from pyro_seq._random import mixed_seed
from pyro_seq.data import Sequences
from pyro_seq.errors import UnsupportedError

_SHUFFLE = 1  # stream of random numbers, apart from those of the noise


class Batches:
    """The endless stream of minibatches of a data set; asked for by step, it has no state worth saving.

    An epoch is a fresh shuffle, cut into whole batches. The rest that does not fill a batch waits for the next shuffle:
    every batch is then a uniform draw of `size` different series, which makes each step's objective unbiased, and no
    step is noisier than the others. On several devices each takes every `world_size`-th series of a batch.

    Args:
        data: The whole data set.
        batch_size: Series in a batch, over all devices; the whole set, unshuffled, when absent or too large.
        seed: Decides the shuffles.
        rank: Number of this device.
        world_size: Number of devices.
    """

    def __init__(
        self, data: Sequences, batch_size: int | None, *, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.data = data
        self.size = min(batch_size or data.num_series, data.num_series)
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self._order = torch.arange(data.num_series, device=data.device)
        self._epoch = -1
        if self.size < world_size:
            raise UnsupportedError(
                f"A batch must have a series for every device. Got {self.size} series and {world_size} devices. "
                "Raise `batch_size` or lower `devices`."
            )

    def __getitem__(self, step: int) -> Sequences:
        """This device's part of the minibatch of `step`."""
        if self.size == self.data.num_series:
            whole = self.world_size == 1
            return self.data if whole else self.data.minibatch(self._order[self.rank :: self.world_size])
        epoch, position = divmod(step, self.data.num_series // self.size)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, _SHUFFLE, epoch))
            self._order = torch.randperm(self.data.num_series, generator=generator).to(self.data.device)
            self._epoch = epoch
        batch = self._order[position * self.size : (position + 1) * self.size]
        return self.data.minibatch(batch[self.rank :: self.world_size])

    def share(self, batch: Sequences) -> float:
        """Weight of a device's part, so that the mean over devices is the mean over the batch."""
        return batch.num_series * self.world_size / self.size
