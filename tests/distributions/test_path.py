"""The base of distributions over paths: time in the event, steps that do not exist, a continuation to be written."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.distributions.path import PathDistribution
from tests.support import RandomWalk


class WithoutFuture(PathDistribution):
    arg_constraints = {}  # noqa: RUF012


def test_time_is_part_of_the_event() -> None:
    path = WithoutFuture(torch.Size([4]), torch.Size([6, 2]))
    assert path.batch_shape == (4,) and path.event_shape == (6, 2) and path.event_dim == 2
    assert path.valid is None and path.has_rsample


def test_a_continuation_must_be_written() -> None:
    with pytest.raises(NotImplementedError, match="WithoutFuture must say how a path goes on: define `future`"):
        WithoutFuture(torch.Size([4]), torch.Size([6, 2])).future(torch.zeros(4, 6, 2), 3)


def test_steps_that_are_not_valid_do_not_count() -> None:
    """With the last steps not valid, the density is that of the shorter path, and so is its gradient."""
    lengths = torch.tensor([6, 3, 1, 0])
    drift, value = torch.randn(4, 6, 2, dtype=torch.float64), torch.randn(4, 6, 2, dtype=torch.float64)
    scale = torch.tensor(0.7, dtype=torch.float64)
    masked = RandomWalk(drift, scale, torch.arange(6) < lengths[:, None])
    assert isinstance(masked, PathDistribution)
    for series, length in enumerate(lengths.tolist()):
        short = RandomWalk(drift[series, :length], scale).log_prob(value[series, :length]) if length else 0.0
        assert float(masked.log_prob(value)[series]) == pytest.approx(float(short), abs=1e-12)
