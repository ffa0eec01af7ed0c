"""``SequenceSource``: a data set that is read or generated in parts and never held in memory as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq.data._selection import series_selector
from pyro_seq.data.sequences import Sequences
from pyro_seq.errors import DataError, shape_text


class SequenceSource(ABC):
    """Base class of data sets too large for memory or generated during training: implement `num_series` and `load`.

    Pass a source to `fit` in place of `Sequences`; only a few minibatches are in memory at a time, prepared ahead by
    threads. Pass ``source[:16]`` to every other verb: it reads these series into memory as `Sequences`.

    `load` must depend on the series' numbers only, must not use a global random state, and must allow calls from
    several threads. A run that stops and resumes then ends with the same bits as one that did not stop.

    Attributes:
        num_series: Number of series.
        is_endless: True if every number gives a new series. Minibatches are then ``0, 1, 2, ...`` in order, without a
            shuffle, and `num_series` is larger than training will ever reach.

    Example:
        >>> class Noise(SequenceSource):
        ...     num_series = 1_000_000
        ...
        ...     def load(self, index):
        ...         seeds = [torch.Generator().manual_seed(number) for number in index.tolist()]
        ...         return Sequences(torch.stack([torch.randn(5, 2, generator=seed) for seed in seeds]))
        >>> Noise()
        Noise((series 1000000, time 5, obs 2))
        >>> Noise()[[3, 8]]
        Sequences((series 2, time 5, obs 2), 0 % missing, total 2)
    """

    num_series: int
    is_endless: bool = False

    @abstractmethod
    def load(self, index: Tensor) -> Sequences:
        """The series numbered `index` (series,), in this order, on the CPU, all on a time grid of the same length."""

    # ------------------------------------------------------------------ what every source gets

    @property
    def total(self) -> int:
        """Number of series, under the same name as in `Sequences`."""
        return self.num_series

    @property
    def num_steps(self) -> int:
        """Number of steps of a series."""
        return self._first.num_steps

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self._first.obs_shape

    @cached_property
    def _first(self) -> Sequences:
        return self[0]

    def __len__(self) -> int:
        return self.num_series

    def __repr__(self) -> str:
        sizes = (self.num_series, *self._first.values.shape[1:])
        number = f"(series endless{shape_text(sizes, ('series', 'time')).removeprefix(f'(series {sizes[0]}')}"
        return f"{type(self).__name__}({number if self.is_endless else shape_text(sizes, ('series', 'time'))})"

    def __getitem__(self, item: Any) -> Sequences:
        """Read series by number, slice, list or boolean mask into memory; the result is a separate data set."""
        return self.load(self._numbers(item))

    def minibatch(self, index: Tensor) -> Sequences:
        """Read series as a subsample that keeps their positions in the whole data set and its size."""
        index = self._numbers(index)
        return self.load(index)._with(index=index, total=self.num_series)

    def _numbers(self, item: Any) -> Tensor:
        if isinstance(item, slice):
            if self.is_endless and item.stop is None:
                raise DataError(
                    f"`index` must end somewhere, for this {type(self).__name__} is endless. Pass `[:100]`."
                )
            item = range(self.num_series)[item]
        numbers = series_selector(item, self.num_series)
        assert isinstance(numbers, Tensor)  # only slices stay what they are
        return numbers

    def preview(self, num_series: int = 32) -> Sequences:
        """A few series, evenly spread over the source, used to check that a model accepts it and to choose units."""
        count = min(whole_number(num_series, "num_series", 1), self.num_series)
        if self.is_endless:
            return self[:count]
        return self[torch.arange(count) * self.num_series // count]
