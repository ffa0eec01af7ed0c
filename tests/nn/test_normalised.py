"""Normalisation and rectifier in one pass: torch's values, gradients and averages, and fewer digits lost."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pyro_seq.nn import normalised
from pyro_seq.nn.normalised import SLOPE, Rectified


def part(dtype: torch.dtype = torch.float64) -> Rectified:
    layer = Rectified(3).to(dtype)
    nn.init.normal_(layer.norm.weight)
    nn.init.normal_(layer.norm.bias)
    return layer


def plain(layer: Rectified, images: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(layer.norm(images), SLOPE)


@pytest.mark.parametrize("chunk", [2**18, 64, 1])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_values_gradients_and_averages_are_those_of_torch(monkeypatch, memory_format, chunk):
    monkeypatch.setattr(normalised, "_CACHED", chunk)
    ours = part()
    theirs, outcomes = copy.deepcopy(ours), []
    images, target = torch.randn(2, 5, 3, 4, 6, dtype=torch.float64).unbind(0)
    for layer, run in ((ours, Rectified.forward), (theirs, plain)):
        given = (2 + 3 * images).to(memory_format=memory_format).requires_grad_()
        result = run(layer, given)
        (result * target).sum().backward()
        outcomes.append([result, given.grad, *(p.grad for p in layer.parameters()), *layer.buffers()])
    for mine, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_it_is_the_plain_one_when_not_in_training():
    layer, images = part().eval(), torch.randn(5, 3, 4, 6, dtype=torch.float64)
    assert torch.equal(layer(images), plain(layer, images))


def test_no_digits_are_lost_over_many_pixels():
    """A quarter of a million pixels far from zero: within 20 units in the last place of single precision."""
    layer = part(torch.float32)
    images = (5 + torch.randn(60, 3, 64, 64)).to(memory_format=torch.channels_last)
    exact = plain(copy.deepcopy(layer).double(), images.double())
    error = float((layer(images).double() - exact).abs().max().detach())
    assert error < 20 * torch.finfo(torch.float32).eps * float(images.abs().max())


def test_other_normalisations_are_called_as_they_are():
    layer = Rectified(4, lambda channels: nn.GroupNorm(2, channels))
    images = torch.randn(5, 4, 4, 6)
    assert torch.equal(layer(images), plain(layer, images))


def test_mixed_precision_keeps_its_type():
    layer = part(torch.float32)
    images = torch.randn(50, 3, 4, 6)
    low = layer(images.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), layer(images), rtol=0.02, atol=0.02)
