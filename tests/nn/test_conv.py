"""Convolutional trunk and decoder: sizes of any image, the layers written out, series that do not meet."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from pyro_seq.errors import ShapeError
from pyro_seq.nn.conv import ConvDecoder, ConvTrunk

SHAPES = [(1, 8, 8), (3, 7, 11), (1, 1, 1)]


@pytest.mark.parametrize("obs_shape", SHAPES)
def test_features_are_those_of_convolutions_over_frames_and_masks(obs_shape):
    trunk = ConvTrunk(2, obs_shape, (4, 5)).double()
    frames, gaps = torch.randn(3, 2, *obs_shape, dtype=torch.float64), torch.rand(3, 1, dtype=torch.float64)
    mask = torch.ones_like(frames)
    image = torch.cat([frames.flatten(1, 2), mask.flatten(1, 2)], 1)
    for layer in (part for part in trunk.layers if isinstance(part, nn.Conv2d)):
        image = functional.conv2d(image, layer.weight, layer.bias, stride=2, padding=2).relu()
    features = trunk(frames, mask, gaps)
    assert features.shape == (3, trunk.num_features)
    torch.testing.assert_close(features, torch.cat([image.flatten(1), gaps], -1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("obs_shape", SHAPES)
def test_images_have_the_shape_asked_for(obs_shape):
    assert ConvDecoder(2, obs_shape, (4, 3), hidden_dim=6)(torch.randn(5, 2)).shape == (5, *obs_shape)


def test_a_small_image_is_the_corner_of_a_large_one():
    large, small = (ConvDecoder(2, shape, (4, 3), hidden_dim=6).double() for shape in ((1, 8, 8), (1, 7, 5)))
    small.load_state_dict(large.state_dict())
    code = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(small(code), large(code)[..., :7, :5], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("obs_shape", [(3,), (8, 8), (2, 1, 8, 8)])
def test_only_images_are_convolved(obs_shape):
    for make in (lambda: ConvTrunk(1, obs_shape), lambda: ConvDecoder(2, obs_shape)):
        with pytest.raises(ShapeError, match=r"`obs_shape` must be \(channel, height, width\)"):
            make()
