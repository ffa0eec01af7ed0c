"""DCGAN and VGG: their sizes, their skips against plain concatenation, matrix products against convolutions, errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.dcgan import DCGAN
from pyro_seq.nn.image_coding import Convolution, FromVector, ToVector
from pyro_seq.nn.vgg import VGG

SMALL = {
    "DCGAN": DCGAN((4, 6, 8), code_dim=5),
    "DCGAN with skips": DCGAN((4, 6, 8), code_dim=5, has_skips=True),
    "VGG": VGG(((4, 4), (6,)), code_dim=5, has_skips=False),
    "VGG with skips": VGG(((4, 4), (6,)), code_dim=5),
}
OWNER = torch.tensor([0, 1, 1, 0, 1])


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("obs_shape", [(1, 16, 16), (3, 8, 24)])
@pytest.mark.parametrize("name", SMALL)
def test_frames_come_back_in_their_shape(name, obs_shape):
    encoder, decoder = SMALL[name].encoder(obs_shape), SMALL[name].decoder(7, obs_shape)
    codes, maps = encoder(torch.rand(2, *obs_shape))
    assert codes.shape == (2, 5) and bool((codes.abs() <= 1).all())
    assert [stage.shape[-1] for stage in maps] == sorted({stage.shape[-1] for stage in maps}, reverse=True)
    assert decoder(torch.randn(5, 7), maps, OWNER).shape == (5, *obs_shape)


def test_sizes_are_those_of_the_paper():
    """Parameters of the public code: SM-MNIST, and KTH."""
    frame = (1, 64, 64)
    assert (count(DCGAN().encoder(frame)), count(DCGAN().decoder(276, frame))) == (3_804_160, 5_016_448)
    assert (count(VGG().encoder(frame)), count(VGG().decoder(306, frame))) == (8_685_632, 13_276_992)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_skips_are_the_concatenation_of_maps(is_transposed):
    layer = Convolution(2, 3, 4, stride=2, is_transposed=is_transposed, size_beside=4).double()
    maps, skip = torch.randn(5, 2, 4, 4).double(), torch.randn(2, 4, 4, 4).double()
    convolve = functional.conv_transpose2d if is_transposed else functional.conv2d
    together = convolve(torch.cat([maps, skip[OWNER]], 1), layer.kernel.contiguous(), stride=2, padding=1)
    torch.testing.assert_close(layer(maps, skip, OWNER), together, rtol=1e-12, atol=1e-12)


def test_matrix_products_are_convolutions_of_all_pixels():
    vectors, maps = torch.randn(3, 5).double(), torch.randn(3, 2, 4, 4).double()
    seed, head = FromVector(5, (2, 4, 4), nn.BatchNorm2d).double(), ToVector((2, 4, 4), 5, nn.BatchNorm2d).double()
    kernel = seed.linear.weight.view(4, 4, 2, 5).permute(3, 2, 0, 1)
    pixel = functional.conv_transpose2d(vectors[..., None, None], kernel)
    torch.testing.assert_close(seed(vectors), seed.norm(pixel), rtol=1e-12, atol=1e-12)
    whole = functional.conv2d(maps, head.linear.weight.view(5, 4, 4, 2).permute(0, 3, 1, 2))
    torch.testing.assert_close(head(maps), head.norm(whole).tanh()[..., 0, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SMALL)
def test_weights_start_small_and_scales_at_one(name):
    for part in SMALL[name].decoder(7, (1, 16, 16)).modules():
        if isinstance(part, nn.BatchNorm2d):
            assert float((part.weight.detach() - 1).abs().max()) < 0.1 and not bool(part.bias.any())
        elif isinstance(part, Convolution | nn.Linear):
            assert getattr(part, "bias", None) is None and 0.01 < float(part.weight.detach().std()) < 0.03


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_is_used(name):
    encoder, decoder = SMALL[name].encoder((1, 16, 16)), SMALL[name].decoder(5, (1, 16, 16))
    codes, maps = encoder(torch.rand(5, 1, 16, 16))
    decoder(codes, maps, torch.arange(5)).square().sum().backward()
    parts = [*encoder.named_parameters(), *decoder.named_parameters()]
    assert not [key for key, value in parts if value.grad is None or not bool(value.grad.any())]


@pytest.mark.parametrize("obs_shape", [(1, 60, 64), (1, 64, 40), (64, 64), (3, 64, 64, 1)])
@pytest.mark.parametrize("architecture", [DCGAN(), VGG()], ids=["DCGAN", "VGG"])
def test_sizes_that_cannot_be_halved_are_refused(architecture, obs_shape):
    with pytest.raises(ShapeError, match=r"height and width multiples of 16.*Got \(.*Pad or resize the frames"):
        architecture.encoder(obs_shape)
    with pytest.raises(ShapeError, match="multiples of 16"):
        architecture.decoder(7, obs_shape)


def test_a_single_frame_is_not_normalised_over_itself():
    encoder = SMALL["DCGAN"].encoder((1, 16, 16))
    with pytest.raises(DataError, match="at least 2 frames"):
        encoder(torch.rand(1, 1, 16, 16))
    assert encoder.eval()(torch.rand(1, 1, 16, 16))[0].shape == (1, 5)
    other = DCGAN((4, 6, 8), code_dim=4, norm=lambda channels: nn.GroupNorm(2, channels)).encoder((1, 16, 16))
    assert other(torch.rand(1, 1, 16, 16))[0].shape == (1, 4)
