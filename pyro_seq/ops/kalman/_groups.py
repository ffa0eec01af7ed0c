"""A system by groups of series that share covariances, and results by groups in the batch axes again."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.ops.kalman.system import System


class Groups(NamedTuple):
    """The batch axes in two sets: groups, along which covariances change, and columns, the series of a group.

    Attributes:
        batch: Shape of the batch.
        group_axes, column_axes: The axes of the two sets.
    """

    batch: torch.Size
    group_axes: tuple[int, ...]
    column_axes: tuple[int, ...]

    @classmethod
    def of(cls, system: System) -> Groups:
        """The groups of a system."""
        batch = system.batch_shape
        matrices = (system.transition, system.transition_cov, system.observation, system.observation_cov)
        shapes = [matrix.shape[:-3] for matrix in matrices] + [system.initial_cov.shape[:-2]]
        varies = [False] * len(batch)
        for shape in shapes:
            for back, size in enumerate(reversed(shape), 1):
                varies[-back] |= size > 1
        axes = range(len(batch))
        return cls(batch, tuple(i for i in axes if varies[i]), tuple(i for i in axes if not varies[i]))

    def with_samples(self, number: int) -> Groups:
        """The same with an axis of samples in front, which are columns."""
        axes = (tuple(axis + 1 for axis in kind) for kind in (self.group_axes, self.column_axes))
        groups, columns = axes
        return Groups(torch.Size((number, *self.batch)), groups, (0, *columns))

    @property
    def group_shape(self) -> list[int]:
        return [self.batch[axis] for axis in self.group_axes]

    @property
    def column_shape(self) -> list[int]:
        return [self.batch[axis] for axis in self.column_axes]

    def matrices(self, quantity: Tensor) -> Tensor:
        """From (*batch, time, row, column), constant along the axes of columns, to (group or 1, time, row, column)."""
        return self._arranged(quantity, 3).squeeze(-1)

    def columns(self, quantity: Tensor) -> Tensor:
        """From (*batch, time, row, 1) to (group or 1, time, row, column or 1)."""
        return self._arranged(quantity.squeeze(-1), 2)

    def matrices_of_time(self, quantity: Tensor) -> Tensor:
        """From (*batch, time, row, column), constant along the axes of columns, to (time, group, row, column)."""
        return self._of_time(self.matrices(quantity))

    def columns_of_time(self, quantity: Tensor) -> Tensor:
        """From (*batch, time, row, 1) to (time, group, row, column)."""
        columns = self._of_time(self.columns(quantity))
        return columns.expand(*columns.shape[:-1], math.prod(self.column_shape))

    def _of_time(self, quantity: Tensor) -> Tensor:
        return quantity.expand(math.prod(self.group_shape), *quantity.shape[1:]).movedim(1, 0)

    def _arranged(self, quantity: Tensor, num_own: int) -> Tensor:
        """Axes of groups in front, those of columns last, flattened: whole, or 1 if nothing changes along them."""
        own, total = quantity.shape[quantity.ndim - num_own :], len(self.batch) + num_own
        quantity = quantity.reshape((1,) * (total - quantity.ndim) + quantity.shape)
        quantity = quantity.permute(*self.group_axes, *range(len(self.batch), total), *self.column_axes)
        sizes, number = list(quantity.shape), len(self.group_axes)
        groups = sizes[:number] if math.prod(sizes[:number]) == 1 else self.group_shape
        columns = sizes[number + num_own :] if math.prod(sizes[number + num_own :]) == 1 else self.column_shape
        quantity = quantity.expand(*groups, *own, *columns)
        return quantity.reshape(math.prod(groups), *own, math.prod(columns))

    def back(self, columns: Tensor) -> Tensor:
        """From (time, group, row, column) to (*batch, time, row, 1)."""
        time, _, rows, _ = columns.shape
        columns = columns.reshape(time, *self.group_shape, rows, *self.column_shape)
        return columns.permute(*self._order(1, 1), 0, 1 + len(self.group_axes)).unsqueeze(-1)

    def covs_back(self, covs: Tensor) -> Tensor:
        """From (time, group, row, column) to (*batch, time, row, column), of size 1 along axes of columns."""
        time, _, rows, columns = covs.shape
        covs = covs.reshape(time, *self.group_shape, rows, columns, *(1 for _ in self.column_axes))
        return covs.permute(*self._order(1, 2), 0, 1 + len(self.group_axes), 2 + len(self.group_axes))

    def by_series(self, quantity: Tensor) -> Tensor:
        """From (group, column) to (*batch,)."""
        return quantity.reshape((*self.group_shape, *self.column_shape)).permute(self._order(0, 0))

    def by_group(self, quantity: Tensor) -> Tensor:
        """From (time, group) to (time, *batch), of size 1 along axes of columns."""
        quantity = quantity.reshape(-1, *self.group_shape, *(1 for _ in self.column_axes))
        return quantity.permute(0, *self._order(1, 0))

    def _order(self, before: int, between: int) -> list[int]:
        """Where each axis of the batch is, in (before, *groups, between, *columns)."""
        place = {axis: before + k for k, axis in enumerate(self.group_axes)}
        start = before + len(self.group_axes) + between
        place |= {axis: start + k for k, axis in enumerate(self.column_axes)}
        return [place[axis] for axis in range(len(self.batch))]
