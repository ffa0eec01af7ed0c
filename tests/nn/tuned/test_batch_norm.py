"""Batch normalisation and rectifier in one pass: torch's values, gradients and averages, and fewer digits lost."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pyro_seq.nn.normalised import SLOPE, Rectified
from pyro_seq.nn.tuned import batch_norm
from pyro_seq.nn.tuned.batch_norm import is_better_in_one_pass


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
    monkeypatch.setattr(batch_norm, "_CACHED", chunk)
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


def test_no_digits_are_lost_over_many_pixels():
    """A quarter of a million pixels far from zero: within 20 units in the last place of single precision."""
    layer = part(torch.float32)
    images = (5 + torch.randn(60, 3, 64, 64)).to(memory_format=torch.channels_last)
    exact = plain(copy.deepcopy(layer).double(), images.double())
    error = float((layer(images).double() - exact).abs().max().detach())
    assert error < 20 * torch.finfo(torch.float32).eps * float(images.abs().max())


def test_mixed_precision_keeps_its_type():
    layer = part(torch.float32)
    images = torch.randn(50, 3, 4, 6)
    low = layer(images.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), layer(images), rtol=0.02, atol=0.02)


def test_it_is_for_plain_batch_normalisation_in_training_on_a_processor():
    norm, images = nn.BatchNorm2d(3), torch.empty(5, 3, 4, 6)
    assert is_better_in_one_pass(norm, images) and not is_better_in_one_pass(norm, images.to("meta"))
    assert not is_better_in_one_pass(copy.deepcopy(norm).eval(), images)
    assert not is_better_in_one_pass(norm, images.bfloat16())
    others = [nn.GroupNorm(1, 3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3, momentum=None)]
    assert not any(is_better_in_one_pass(other, images) for other in others)
