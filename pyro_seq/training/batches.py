"""Minibatches as a pure function of seed and step, so that training can stop and continue at any step."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from pyro_seq._process import read_ahead
from pyro_seq._random import mixed_seed
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.errors import DataError, UnsupportedError

_SHUFFLE = 1  # stream of random numbers, separate from the noise


class Batches:
    """The endless stream of minibatches of a data set, indexed by step; it has no state to save.

    An epoch is a fresh shuffle, cut into whole batches. A remainder that does not fill a batch is skipped until the
    next shuffle: every batch is then a uniform draw of `size` different series, so each step's objective is unbiased
    and equally noisy. On several devices each takes every `world_size`-th series of a batch.

    Threads read a source, `num_workers` minibatches ahead of the requested one.

    Args:
        data: The whole data set, or a source.
        batch_size: Series per batch, over all devices; by default, or if too large, the whole set, unshuffled.
        seed: Seed of the shuffles.
        rank: Number of this device.
        world_size: Number of devices.
        device: Device of the minibatches; that of the data by default.
        num_workers: Threads that read a source; with 0 it is read on request.
    """

    def __init__(
        self,
        data: Sequences | SequenceSource,
        batch_size: int | None,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
        num_workers: int = 0,
    ) -> None:
        if isinstance(data, SequenceSource) and batch_size is None:
            raise DataError(f"`batch_size` must be given where the data are a source. Got None for {data!r}.")
        self.data = data.to(device) if isinstance(data, Sequences) and device is not None else data
        self.size = min(batch_size or data.num_series, data.num_series)
        self.seed, self.rank, self.world_size, self.device = seed, rank, world_size, device
        self._order = torch.arange(0)
        self._epoch = -1
        self._num_ahead = num_workers if isinstance(data, SequenceSource) else 0
        self._threads = ThreadPoolExecutor(num_workers, initializer=read_ahead) if self._num_ahead else None
        self._pending: dict[int, Future[Sequences]] = {}
        if self.size < world_size:
            raise UnsupportedError(
                f"A batch must have a series for every device. Got {self.size} series and {world_size} devices. "
                "Raise `batch_size` or lower `devices`."
            )

    def __getitem__(self, step: int) -> Sequences:
        """This device's part of the minibatch of `step`."""
        if isinstance(self.data, Sequences):
            is_whole = self.size == self.data.num_series and self.world_size == 1
            return self.data if is_whole else self.data.minibatch(self._index(step))
        if self._threads is None:
            return self._read(self._index(step))
        for ahead in range(step, step + self._num_ahead + 1):
            if ahead not in self._pending:
                self._pending[ahead] = self._threads.submit(self._read, self._index(ahead))
        return self._pending.pop(step).result()

    def _index(self, step: int) -> Tensor:
        """Numbers of the series of this device's part."""
        num_series = self.data.num_series
        if isinstance(self.data, SequenceSource) and self.data.is_endless:
            batch = (step * self.size + torch.arange(self.size)) % num_series
        elif self.size == num_series:
            batch = torch.arange(num_series)
        else:
            epoch, position = divmod(step, num_series // self.size)
            if epoch != self._epoch:
                generator = torch.Generator().manual_seed(mixed_seed(self.seed, _SHUFFLE, epoch))
                self._order, self._epoch = torch.randperm(num_series, generator=generator), epoch
            batch = self._order[position * self.size : (position + 1) * self.size]
        return batch[self.rank :: self.world_size]

    def _read(self, index: Tensor) -> Sequences:
        batch = self.data.minibatch(index)
        return batch if self.device is None else batch.to(self.device)

    def share(self, batch: Sequences) -> float:
        """Weight of a device's part, so that the mean over devices is the mean over the batch."""
        return batch.num_series * self.world_size / self.size

    def close(self) -> None:
        """Stop the threads; minibatches read ahead are dropped."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
