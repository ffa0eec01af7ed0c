"""DCGAN: its layers written out in torch, and another normalisation."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from pyro_seq.nn.dcgan import DCGAN


def affine(rectifier: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and offset of its normalisation."""
    return tuple(rectifier.norm.parameters())


def test_another_normalisation_takes_the_place_of_the_batch_s():
    architecture = DCGAN((4, 8), code_dim=4, norm=lambda channels: nn.GroupNorm(2, channels))
    encoder, decoder = architecture.encoder((1, 16, 16)), architecture.decoder(4, (1, 16, 16))
    frames = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(decoder(encoder(frames)[0])[:1], decoder(encoder(frames[:1])[0]))


def test_layers_are_those_of_torch():
    """Convolutions of kernel 4 and stride 2, all but the first and the last normalised, leaky rectifiers between."""
    architecture = DCGAN((4, 6), code_dim=5)
    encoder, decoder = architecture.encoder((1, 8, 8)).double(), architecture.decoder(3, (1, 8, 8)).double()
    frames, latent = torch.rand(7, 1, 8, 8, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    code, maps = encoder(frames)
    expected = frames
    for number, (convolution, rectifier) in enumerate(encoder.stages):
        expected = functional.conv2d(expected, convolution.kernel, stride=2, padding=1)
        if number:
            expected = functional.batch_norm(expected, None, None, *affine(rectifier), training=True)
        expected = functional.leaky_relu(expected, 0.2)
        torch.testing.assert_close(maps[number], expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(code, encoder.head(expected), rtol=1e-9, atol=1e-9)
    expected = decoder.seed(latent)
    for number, layer in enumerate(decoder.layers):
        expected = functional.conv_transpose2d(expected, layer.kernel, stride=2, padding=1)
        if number < len(decoder.norms):
            normalised = functional.batch_norm(expected, None, None, *affine(decoder.norms[number]), training=True)
            expected = functional.leaky_relu(normalised, 0.2)
    torch.testing.assert_close(decoder(latent), expected, rtol=1e-9, atol=1e-9)
