"""Perceptrons: layers by hand, rates of change between frames, missing entries, noise in training alone."""

from __future__ import annotations

import torch
from torch import nn

from pyro_seq.nn.mlp import MLPDecoder, MLPTrunk, mlp

GAPS = torch.tensor([[0.5, 1.5], [0.5, 0.0]], dtype=torch.float64)


def window() -> tuple[torch.Tensor, torch.Tensor]:
    """Two windows of three frames; in the second, one entry of the middle frame and the whole last frame lack."""
    mask = torch.ones(2, 3, 2, dtype=torch.float64)
    mask[1, 1, 0] = mask[1, 2] = 0
    return torch.randn(2, 3, 2, dtype=torch.float64) * mask, mask


def inputs_of(trunk: MLPTrunk, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the first layer reads."""
    read = []
    handle = trunk.layers[0][0].register_forward_hook(lambda layer, given, result: read.append(given[0]))
    trunk(frames, mask, GAPS)
    handle.remove()
    return read[0]


def test_layers_by_hand():
    network, value = mlp((3, 5, 2)).double(), torch.randn(4, 3, dtype=torch.float64)
    first, second = (part for part in network if isinstance(part, nn.Linear))
    expected = torch.tanh(value @ first.weight.T + first.bias) @ second.weight.T + second.bias
    torch.testing.assert_close(network(value), expected, rtol=1e-12, atol=1e-12)


def test_a_trunk_reads_the_first_frame_the_rates_from_it_the_mask_and_the_gaps():
    trunk, (frames, mask) = MLPTrunk(3, (2,), (6, 5)).double(), window()
    rates = torch.zeros(2, 2, 2, dtype=torch.float64)
    for series, step, entry in [(0, 1, 0), (0, 1, 1), (0, 2, 0), (0, 2, 1), (1, 1, 1)]:
        change = frames[series, step, entry] - frames[series, 0, entry]
        rates[series, step - 1, entry] = change / GAPS[series, :step].sum()
    expected = torch.cat([frames[:, 0], rates.flatten(1), mask.flatten(1), GAPS], -1)
    torch.testing.assert_close(inputs_of(trunk, frames, mask), expected, rtol=1e-12, atol=1e-12)
    assert trunk(frames, mask, GAPS).shape == (2, trunk.num_features) == (2, 5)


def test_noise_is_for_training_alone():
    trunk, (frames, mask) = MLPTrunk(3, (2,), (6,), noise=0.3).double(), window()
    noisy, again = (inputs_of(trunk.train(), frames, mask) for _ in range(2))
    plain = inputs_of(trunk.eval(), frames, mask)
    assert bool((noisy != again)[:, :6].all())
    assert torch.equal(noisy[:, 6:], plain[:, 6:]), "masks and gaps are exact"
    assert torch.equal(plain, inputs_of(trunk, frames, mask))


def test_a_decoder_shapes_what_the_layers_give():
    decoder, position = MLPDecoder(2, (3, 4), (6,)).double(), torch.randn(5, 2, dtype=torch.float64)
    expected = decoder.layers[0](position).reshape(5, 3, 4)
    assert torch.equal(decoder(position), expected)
