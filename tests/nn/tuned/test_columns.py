"""Convolutions as matrix products are torch's, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pyro_seq.nn.tuned.columns import Window, convolution, transposed_convolution

WINDOWS = [Window(4, 2, 1), Window(3, 1, 1), Window(2, 2, 0), Window(5, 3, 2)]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def with_gradients(function, images, weight):
    images, weight = images.clone().requires_grad_(), weight.clone().requires_grad_()
    result = function(images, weight)
    slope = random(*result.shape)
    return [result, *torch.autograd.grad(result, (images, weight), slope)]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_convolutions_are_those_of_torch(window):
    images, weight = random(3, 2, 7, 10), random(5, window.kernel, window.kernel, 2)
    if window.grown(window.places(7)) != 7 or window.grown(window.places(10)) != 10:
        images = images[..., : window.grown(3), : window.grown(4)]
    own = with_gradients(lambda x, w: convolution(x, w, window), images, weight)
    theirs = with_gradients(
        lambda x, w: functional.conv2d(x, w.permute(0, 3, 1, 2), None, window.stride, window.padding), images, weight
    )
    for mine, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_transposed_convolutions_are_those_of_torch(window):
    images, weight = random(3, 5, 3, 4), random(5, window.kernel, window.kernel, 2)
    own = with_gradients(lambda x, w: transposed_convolution(x, w, window), images, weight)
    theirs = with_gradients(
        lambda x, w: functional.conv_transpose2d(x, w.permute(0, 3, 1, 2), None, window.stride, window.padding),
        images,
        weight,
    )
    for mine, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_second_derivatives():
    weight = random(2, 2, 2, 3).requires_grad_()
    for function, channels in ((convolution, 3), (transposed_convolution, 2)):
        images = random(1, channels, 4, 4).requires_grad_()
        assert torch.autograd.gradgradcheck(lambda x, w, f=function: f(x, w, Window(2, 2, 0)), (images, weight))


def test_they_are_for_small_maps_of_many_channels_that_the_windows_cover():
    window = Window(4, 2, 1)
    small, large = torch.empty(1, 256, 8, 8), torch.empty(1, 256, 16, 16)
    assert window.is_better_gathered(small) and not window.is_better_gathered(large)
    assert not window.is_better_gathered(small[..., :7, :])
    assert window.is_better_spread(small[..., :4, :4]) and not window.is_better_spread(small)
    assert not window.is_better_gathered(small[:, :255]) and not window.is_better_spread(small[:, :255, :4, :4])
    assert not Window(3, 1, 1).is_better_gathered(small) and not Window(3, 1, 1).is_better_spread(small)


def test_on_other_devices_torch_is_taken():
    window, images = Window(4, 2, 1), torch.empty(1, 256, 4, 4, device="meta")
    assert not window.is_better_gathered(images) and not window.is_better_spread(images)
