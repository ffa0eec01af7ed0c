"""The sub-pixel decoder against the plain computation, and images of any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_seq.errors import ShapeError
from pyro_seq.nn.emission import BernoulliEmission, GaussianEmission
from pyro_seq.nn.subpixel import SubPixelDecoder

SHAPES = [(1, 8, 8), (3, 7, 13), (2, 1, 5), (1, 32, 32)]


def decoder(obs_shape: tuple[int, ...], channels: int = 4, depth: int = 3) -> SubPixelDecoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SubPixelDecoder(2, obs_shape, channels, depth=depth).double()


def codes(*shape: int) -> Tensor:
    return torch.randn(*shape, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def plain(network: SubPixelDecoder, code: Tensor) -> Tensor:
    """The same images with the channels first throughout, and pixels laid out by hand."""
    parameters = dict(network.named_parameters())
    image = functional.linear(code, parameters["seed.weight"], parameters["seed.bias"])
    image = image.reshape(len(code), *network.seed_shape)
    layers = [name[: -len(".weight")] for name in parameters if name.startswith("stages") and name.endswith("weight")]
    for layer in layers[:-1]:
        image = functional.conv2d(image, parameters[f"{layer}.weight"], parameters[f"{layer}.bias"], padding=1).relu()
        batch, channels, height, width = image.shape
        blocks = image.reshape(batch, channels // 4, 2, 2, height, width)  # channel, row and column within a block
        image = blocks.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels // 4, 2 * height, 2 * width)
    image = functional.conv2d(image, parameters[f"{layers[-1]}.weight"], parameters[f"{layers[-1]}.bias"])
    return image[..., : network.height, : network.width]


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("obs_shape", SHAPES)
def test_values_and_gradients_are_those_of_the_plain_computation(obs_shape, depth):
    network = decoder(obs_shape, depth=depth)
    weight = torch.randn(5, *obs_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    results = []
    for compute in (network, lambda code: plain(network, code)):
        code = codes(5).requires_grad_()
        image = compute(code)
        assert image.shape == (5, *obs_shape)
        results.append([image, *torch.autograd.grad((image * weight).sum(), [code, *network.parameters()])])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


def test_images_are_contiguous_and_keep_the_type():
    for dtype in (torch.float32, torch.float64):
        image = decoder((3, 7, 13)).to(dtype)(codes(4).to(dtype))
        assert image.is_contiguous() and image.dtype == dtype


def test_a_small_image_is_the_corner_of_a_large_one():
    large, small = decoder((1, 16, 16)), decoder((1, 9, 14))
    small.load_state_dict(large.state_dict())
    torch.testing.assert_close(small(codes(3)), large(codes(3))[..., :9, :14], rtol=1e-12, atol=1e-12)


def test_default_has_the_size_that_the_paper_s_code_has():
    """Linear 2 -> 512, three convolutions 32 -> 128, one of kernel 1 to a single channel."""
    count = sum(parameter.numel() for parameter in SubPixelDecoder(2, (1, 32, 32)).parameters())
    assert count == (2 * 512 + 512) + 3 * (32 * 128 * 9 + 128) + (32 + 1)


@pytest.mark.parametrize("emission", [BernoulliEmission, GaussianEmission])
@pytest.mark.parametrize("lead", [(), (4,), (2, 3, 5)])
def test_emissions_take_any_leading_axes(emission, lead):
    part = emission(decoder((1, 7, 5))).double()
    flat = part(codes(*lead).reshape(-1, 2)).mean
    torch.testing.assert_close(part(codes(*lead)).mean, flat.reshape(*lead, 1, 7, 5), rtol=1e-12, atol=1e-12)


def test_an_empty_batch_gives_no_images():
    assert decoder((1, 7, 5))(codes(0)).shape == (0, 1, 7, 5)


def test_every_parameter_gets_a_gradient():
    network = decoder((3, 7, 13))
    network(codes(6)).square().sum().backward()
    assert all(bool(parameter.grad.any()) for parameter in network.parameters())
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules())


@pytest.mark.parametrize("obs_shape", [(3,), (8, 8), (2, 1, 8, 8)])
def test_only_images_are_decoded(obs_shape):
    with pytest.raises(ShapeError, match=r"`obs_shape` must be \(channel, height, width\)"):
        SubPixelDecoder(2, obs_shape)


def test_a_layer_in_front_is_one_more_linear_map_and_a_rectifier():
    torch.manual_seed(0)
    decoder = SubPixelDecoder(2, (1, 8, 8), 4, depth=1, hidden_dim=5).double()
    plain = SubPixelDecoder(5, (1, 8, 8), 4, depth=1).double()
    plain.load_state_dict({name: value for name, value in decoder.state_dict().items() if "before" not in name})
    code = torch.randn(3, 2, dtype=torch.float64)
    hidden = (code @ decoder.before[0].weight.T + decoder.before[0].bias).clamp(min=0)
    torch.testing.assert_close(decoder(code), plain(hidden), rtol=1e-12, atol=1e-12)
