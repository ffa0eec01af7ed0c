"""Levels against their equations."""

from __future__ import annotations

import torch

from pyro_seq.nn.components.level import Constant, Level


def test_a_level_drifts_with_time():
    block = Level().block({"scale": torch.tensor([[2.0], [3.0]])}, torch.tensor([1.0, 2.5]))
    assert block.transition.flatten().tolist() == [1.0]
    assert block.transition_cov[..., 0, 0].tolist() == [[4.0, 10.0], [9.0, 22.5]]


def test_a_constant_stays():
    block = Constant().block({}, torch.tensor([1.0, 2.5]))
    assert block.transition.flatten().tolist() == [1.0] and block.transition_cov.flatten().tolist() == [0.0]
    assert Constant().parameters() == () and Constant.is_static and Constant.has_level
