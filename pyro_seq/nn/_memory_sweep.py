r"""Memories that move by Euler's method and jump, with gradients by one sweep back over all steps.

Between readings :math:`m \leftarrow m + h f(m)` for the first part m of a memory; at each requested time a cell updates
the memory from the features there, for series with an observation. The derivatives are those of backpropagation through
the same arithmetic, but the gradients of weights are formed once over all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_seq.nn._memory_cells import Perceptron, Reader, reader_of
from pyro_seq.ops._sweep import _Path
from pyro_seq.ops._time_grid import TimeGrid


class Schedule(NamedTuple):
    """The order of Euler steps and readings.

    Attributes:
        lengths: Length of each Euler step for each series, (series, 1); 0 where nothing has been read yet.
        counts: Number of Euler steps that lead to each requested time.
        is_seen: Which series read something at each requested time, (series, 1).
    """

    lengths: list[Tensor]
    counts: list[int]
    is_seen: list[Tensor]

    @classmethod
    def of(cls, grid: TimeGrid, is_seen: Tensor, is_moving: Tensor, like: Tensor) -> Schedule:
        """From masks (series, time) and steps that are common to all series."""
        counts = [0, *grid.ends.diff().tolist()]
        interval = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(like.device)
        lengths = grid.stacked_lengths(like[:, 0]) * is_moving.to(like)[:, interval].mT[..., None]
        return cls(list(lengths.unbind(0)), counts, list(is_seen.mT[..., None].unbind(0)))


class Memory:
    """The recursion of one field and cell.

    Args:
        field: Moves the first part of the memory.
        reader: Reads features.
        size: Size of the memory.
    """

    def __init__(self, field: Perceptron, reader: Reader, size: int) -> None:
        self.field, self.reader, self.size = field, reader, size
        self.dim = field.layers[-1][0].shape[0]
        self.tensors = (*field.tensors, *reader.tensors)

    @classmethod
    def of(cls, field: nn.Module, cell: nn.Module, size: int) -> Memory | None:
        """The recursion of these parts, or None if one of them has no hand-written gradients."""
        moves, reads = Perceptron.of(field), reader_of(cell)
        return None if moves is None or reads is None else cls(moves, reads, size)

    def takes(self, features: Tensor) -> bool:
        """Whether ordinary gradients are needed, in one floating type, with some input that requires them."""
        return (
            torch.is_grad_enabled()
            and any(tensor.requires_grad for tensor in (features, *self.tensors))
            and all(tensor.dtype == features.dtype for tensor in self.tensors)
            and not torch._C._are_functorch_transforms_active()
            and not torch.is_autocast_enabled(features.device.type)
        )

    def path(self, features: Tensor, schedule: Schedule, plain: Callable[[Tensor], Tensor]) -> Tensor:
        """Memories (time, series, memory) from features (time, series, feature).

        Args:
            features: Features at each requested time.
            schedule: Order of Euler steps and readings.
            plain: The same function by backpropagation, for second derivatives.
        """

        def twice(features: Tensor) -> tuple[Tensor, Tensor]:
            return plain(features), features.new_zeros(0)

        def recorded(features: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
            return self._recorded(features, schedule)

        def back(
            tensors: tuple[Tensor, ...], records: tuple[Tensor, ...], by_frame: Tensor, _: Tensor | None
        ) -> tuple[Tensor, ...]:
            return self._back(records, schedule, by_frame)

        path: Tensor = _Path.apply(twice, recorded, back, features, *self.tensors)[0]
        return path

    def _recorded(self, features: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        memory = features.new_zeros(features.shape[1], self.size)
        moves, reads, path, lengths = [], [], [], iter(schedule.lengths)
        for read, count, is_seen in zip(features.unbind(0), schedule.counts, schedule.is_seen, strict=True):
            for _ in range(count):
                slope, record = self.field.record(memory[:, : self.dim])
                moves.append(record)
                memory = memory.clone()
                memory[:, : self.dim].addcmul_(next(lengths), slope)
            new, record = self.reader.record(read, memory)
            reads.append(record)
            memory = torch.where(is_seen, new, memory)
            path.append(memory)
        self._num_moves = len(moves[0]) if moves else 0
        records = [torch.stack(parts) for kind in (moves, reads) for parts in zip(*kind, strict=True)]
        return torch.stack(path), features.new_zeros(0), tuple(records)

    def _back(self, records: tuple[Tensor, ...], schedule: Schedule, by_frame: Tensor) -> tuple[Tensor, ...]:
        moved, number = records[: self._num_moves], len(schedule.lengths)
        sweep = self.field.sweep(moved) if moved else None
        self.reader.start_back(records[self._num_moves :])
        cotangent = torch.zeros_like(by_frame[0])
        for step in reversed(range(len(schedule.counts))):
            cotangent = cotangent + by_frame[step]
            read = cotangent * schedule.is_seen[step]
            cotangent = (cotangent - read).add_(self.reader.pull(step, read))
            for _ in range(schedule.counts[step]):
                number -= 1
                assert sweep is not None
                force = cotangent[:, : self.dim] * schedule.lengths[number]
                cotangent[:, : self.dim] += sweep.pull(number, force)
        by_features, by_reader = self.reader.gradients()
        by_field = sweep.gradients() if sweep else [torch.zeros_like(tensor) for tensor in self.field.tensors]
        return by_features, *by_field, *by_reader
