"""The encoder of single frames: its variance, what it may not read, and its units."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.nn.conv import ConvTrunk
from pyro_seq.nn.frame import FrameEncoder
from pyro_seq.nn.mlp import MLPTrunk
from pyro_seq.nn.units import Standardise

SHAPES = [(3,), (1, 8, 8), (3, 7, 11), (1, 1, 1)]


def encoder(obs_shape: tuple[int, ...], **options) -> FrameEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = ConvTrunk(1, obs_shape, (4, 5)) if len(obs_shape) == 3 else MLPTrunk(1, obs_shape, (6,))
        return FrameEncoder(trunk, 2, **options).double()


def frames(obs_shape: tuple[int, ...], num_series: int = 3, num_steps: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_series, num_steps, *obs_shape, dtype=torch.float64, generator=generator)


def pattern(values: Tensor) -> Tensor:
    """Hides single entries, and one frame altogether."""
    mask = torch.rand(values.shape, generator=torch.Generator().manual_seed(2)) < 0.6
    mask[1, 2] = False
    return mask


@pytest.mark.parametrize("obs_shape", SHAPES)
def test_one_code_for_each_frame_in_the_type_of_the_frames(obs_shape):
    for dtype in (torch.float32, torch.float64):
        values = frames(obs_shape).to(dtype)
        code = encoder(obs_shape).to(dtype)(values, torch.ones_like(values, dtype=torch.bool))
        assert code.batch_shape == (3, 4, 2) and code.event_shape == ()
        assert code.loc.dtype == code.scale.dtype == dtype


@pytest.mark.parametrize("obs_shape", SHAPES)
def test_no_frames_give_no_codes(obs_shape):
    values = frames(obs_shape, num_steps=0)
    assert encoder(obs_shape)(values, values.bool()).batch_shape == (3, 0, 2)


@pytest.mark.parametrize("obs_shape", SHAPES)
def test_a_code_reads_its_own_frame_only(obs_shape):
    network, values = encoder(obs_shape), frames(obs_shape)
    mask = pattern(values)
    together = network(values, mask)
    for series in range(3):
        for time in range(4):
            here = (slice(series, series + 1), slice(time, time + 1))
            alone = network(values[here], mask[here])
            torch.testing.assert_close(alone.loc, together.loc[here], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(alone.scale, together.scale[here], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("obs_shape", SHAPES)
def test_hidden_entries_are_not_read(obs_shape):
    network, values = encoder(obs_shape), frames(obs_shape)
    mask = pattern(values)
    expected = network(values, mask)
    other = network(torch.where(mask, values, 1e3), mask)
    assert torch.equal(other.loc, expected.loc) and torch.equal(other.scale, expected.scale)
    values.requires_grad_()
    network(values, mask).loc.sum().backward()
    assert not bool(values.grad[~mask].any())


def test_a_hidden_frame_is_not_an_average_one():
    network, average = encoder((3,)), torch.zeros(1, 1, 3, dtype=torch.float64)
    seen, hidden = (network(average, torch.full((1, 1, 3), flag)).loc for flag in (True, False))
    assert not torch.equal(seen, hidden)


@pytest.mark.parametrize("bound", [0.03, 1.0, 1e-6])
def test_variance_is_the_bound_times_a_sigmoid(bound):
    network, values = encoder((3,), maximum_variance=bound), frames((3,))
    spread = torch.tensor([0.4, -1.5], dtype=torch.float64)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.cat([torch.zeros(2, dtype=torch.float64), spread]))
    variance = network(values, torch.ones_like(values, dtype=torch.bool)).variance
    expected = (bound / (1 + (-spread).exp())).expand(3, 4, 2)
    torch.testing.assert_close(variance, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [-1e4, 1e4])
def test_variance_stays_positive_and_bounded(spread, dtype):
    network, values = encoder((3,)).to(dtype), frames((3,)).to(dtype)
    with torch.no_grad():
        network.head.bias[2:] = spread
    code = network(values, torch.ones_like(values, dtype=torch.bool))
    assert bool((code.scale > 0).all()) and bool((code.variance <= 0.03 * (1 + 1e-6)).all())
    code.log_prob(code.loc).sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in network.parameters())


@pytest.mark.parametrize("shape", [(), (3,)])
def test_codes_do_not_depend_on_the_unit_of_the_data(shape):
    values = frames((3,))
    codes = []
    for data in (Sequences(values), Sequences(1e3 * values - 50)):
        network = copy.deepcopy(encoder((3,), units=Standardise(shape).double()))
        network.adapt(data)
        codes.append(network(data.values, data.entry_mask))
    torch.testing.assert_close(codes[0].loc, codes[1].loc, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(codes[0].scale, codes[1].scale, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("obs_shape", SHAPES)
def test_every_parameter_gets_a_gradient(obs_shape):
    network, values = encoder(obs_shape), frames(obs_shape)
    code = network(values, torch.ones_like(values, dtype=torch.bool))
    (code.loc + code.scale).square().sum().backward()
    assert all(bool(parameter.grad.any()) for parameter in network.parameters())
