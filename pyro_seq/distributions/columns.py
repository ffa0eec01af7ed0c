"""One distribution over columns of different kinds, each with a separate distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints


class Columns(dist.TorchDistribution):
    """Joins independent distributions over parts of the last axis; batch shape (..., column), event shape ().

    Args:
        columns: Column indices of each part; together they are 0, 1, 2, ...
        parts: Distribution of each part, batch shape (..., number of columns), event shape ().
        validate_args: Check the arguments; Pyro's setting by default.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        columns: Sequence[Sequence[int]],
        parts: Sequence[dist.TorchDistribution],
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.columns, self.parts = columns, parts
        order = torch.tensor([column for part in columns for column in part])
        self._places = order.argsort().tolist()
        shape = torch.broadcast_shapes(*(part.batch_shape[:-1] for part in parts))
        super().__init__(torch.Size((*shape, len(order))), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Support of each column."""
        return _Supports(self)

    @property
    def mean(self) -> Tensor:
        """Means, of the batch shape."""
        return self._joined([part.mean for part in self.parts])

    @property
    def variance(self) -> Tensor:
        """Variances, of the batch shape."""
        return self._joined([part.variance for part in self.parts])

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of each entry of `value`, of its batch shape."""
        return self._joined([part.log_prob(own) for part, own in zip(self.parts, self.dealt(value), strict=True)])

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draws, (*sample, *batch)."""
        return self._joined([part.sample(sample_shape) for part in self.parts])

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Columns:
        """The same for more series or draws."""
        parts = [
            part.expand(torch.Size((*batch_shape[:-1], len(own))))
            for part, own in zip(self.parts, self.columns, strict=True)
        ]
        return Columns(self.columns, parts, validate_args=False)

    def predictive(self) -> Columns:
        """The distribution that predictions draw from, part by part."""
        parts = [part.predictive() if hasattr(part, "predictive") else part for part in self.parts]
        return Columns(self.columns, parts, validate_args=False)

    def dealt(self, value: Tensor) -> list[Tensor]:
        """The entries (..., column) of each part."""
        return [value[..., list(own)] for own in self.columns]

    def _joined(self, values: list[Tensor]) -> Tensor:
        leads = torch.broadcast_shapes(*(value.shape[:-1] for value in values))
        return torch.cat([value.expand(*leads, -1) for value in values], -1)[..., self._places]


class _Supports(constraints.Constraint):
    def __init__(self, joined: Columns) -> None:
        self.joined = joined
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        pairs = zip(self.joined.parts, self.joined.dealt(value), strict=True)
        return self.joined._joined([part.support.check(own) for part, own in pairs])
