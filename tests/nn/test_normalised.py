"""Normalisation and rectifier are torch's, one after the other."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from pyro_seq.nn.normalised import SLOPE, Rectified


def plain(layer: Rectified, images: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(layer.norm(images), SLOPE)


def test_it_is_the_plain_one_when_not_in_training():
    layer, images = Rectified(3).double().eval(), torch.randn(5, 3, 4, 6, dtype=torch.float64)
    nn.init.normal_(layer.norm.weight)
    nn.init.normal_(layer.norm.bias)
    assert torch.equal(layer(images), plain(layer, images))


def test_other_normalisations_are_called_as_they_are():
    layer = Rectified(4, lambda channels: nn.GroupNorm(2, channels))
    images = torch.randn(5, 4, 4, 6)
    assert torch.equal(layer(images), plain(layer, images))
