"""Buffers come back as they were, and are finite but for those that never were."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pyro_seq.training.buffers import Buffers


@pytest.fixture
def model():
    part = nn.BatchNorm1d(2)
    part.register_buffer("unseen", torch.tensor([math.inf, 1.0]))
    part.register_buffer("measured", None)
    return nn.Sequential(part, nn.Linear(2, 2))


def test_a_step_is_undone(model):
    buffers = Buffers(model)
    model(torch.randn(5, 2))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for _ in range(2):  # what was kept is not what is written to next
        buffers.keep()
        model(torch.randn(5, 2))
        model[0].running_mean = torch.full((2,), math.nan)  # another tensor of the same name
        assert not torch.equal(model[0].running_var, before["0.running_var"])
        buffers.restore()
        assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_what_was_infinite_may_stay_so_and_nothing_else(model):
    buffers = Buffers(model)
    assert bool(buffers.largest().isfinite()) and buffers.not_finite() == []
    for value in (math.inf, math.nan):
        model[0].running_var[1] = value
        assert not bool(buffers.largest().isfinite()) and buffers.not_finite() == ["0.running_var"]
    model[0].running_var.fill_(1.0)
    model[0].unseen[1] = math.nan
    assert buffers.not_finite() == ["0.unseen"]


def test_a_model_without_buffers():
    buffers = Buffers(nn.Linear(2, 2))
    buffers.keep()
    buffers.restore()
    assert bool(buffers.largest().isfinite()) and buffers.not_finite() == []
