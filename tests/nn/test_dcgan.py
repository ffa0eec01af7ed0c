"""DCGAN: its layers written out in torch, and another normalisation."""

from __future__ import annotations

import torch
from torch import nn

from pyro_seq.nn.dcgan import DCGAN


def test_another_normalisation_takes_the_place_of_the_batch_s():
    architecture = DCGAN((4, 8), code_dim=4, norm=lambda channels: nn.GroupNorm(2, channels))
    encoder, decoder = architecture.encoder((1, 16, 16)), architecture.decoder(4, (1, 16, 16))
    frames = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(decoder(encoder(frames)[0])[:1], decoder(encoder(frames[:1])[0]))
