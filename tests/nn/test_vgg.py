"""VGG: its stages written out in torch, with the maps of another frame beside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_seq.nn.vgg import VGG

FRAME, OWNER = (1, 8, 8), torch.tensor([0, 1, 1])


def layered(stage: nn.Sequential, maps: Tensor) -> Tensor:
    """Convolutions of kernel 3, each with a normalisation and a leaky rectifier where the stage has one."""
    for layer in stage:
        if hasattr(layer, "kernel"):
            maps = functional.conv2d(maps, layer.kernel, padding=1)
        else:
            scale, offset = layer.norm.parameters()
            maps = functional.leaky_relu(functional.batch_norm(maps, None, None, scale, offset, training=True), 0.2)
    return maps


def test_an_encoder_keeps_its_maps_and_halves_them_between_stages():
    encoder = VGG(((4, 4), (6,)), code_dim=5).encoder(FRAME).double()
    frames = torch.rand(3, *FRAME, dtype=torch.float64)
    code, maps = encoder(frames)
    expected = frames
    for stage, kept in zip(encoder.stages, maps, strict=True):
        expected = layered(stage, expected)
        torch.testing.assert_close(kept, expected, rtol=1e-9, atol=1e-9)
        expected = functional.max_pool2d(expected, 2)
    torch.testing.assert_close(code, encoder.head(expected), rtol=1e-9, atol=1e-9)


def test_a_decoder_doubles_pixels_and_reads_the_maps_beside_its_own():
    architecture = VGG(((4, 4), (6,)), code_dim=5)
    encoder, decoder = architecture.encoder(FRAME).double(), architecture.decoder(3, FRAME).double()
    _, maps = encoder(torch.rand(2, *FRAME, dtype=torch.float64))
    latent = torch.randn(3, 3, dtype=torch.float64)
    expected = decoder.seed(latent)
    for door, stage, skip in zip(decoder.doors, decoder.stages, reversed(maps), strict=True):
        doubled = expected.repeat_interleave(2, -1).repeat_interleave(2, -2)
        beside = torch.cat([doubled, skip[OWNER]], 1)
        expected = layered(stage, functional.conv2d(beside, door.kernel, padding=1))
    result = decoder(latent, maps, OWNER)
    assert result.shape == (3, *FRAME)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)


def test_without_skips_maps_are_not_read():
    decoder = VGG(((4,), (6,)), has_skips=False).decoder(3, FRAME).double().eval()
    latent = torch.randn(2, 3, dtype=torch.float64)
    maps = tuple(torch.randn(2, 4, 8, 8, dtype=torch.float64) for _ in range(2))
    assert torch.equal(decoder(latent), decoder(latent, maps, torch.arange(2)))
