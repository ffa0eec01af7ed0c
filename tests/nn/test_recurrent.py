"""The recurrent transition: pieces equal the whole, and it starts as a standard normal."""

from __future__ import annotations

import copy

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.nn.recurrent import LSTMTransition


def transition() -> LSTMTransition:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LSTMTransition(2, 4).double()


def path(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_first_step_is_standard_normal_until_trained():
    first = LSTMTransition(3, 4).initial(5)
    assert first.batch_shape == (5, 3)
    torch.testing.assert_close(first.loc, torch.zeros(5, 3), rtol=0, atol=0)
    torch.testing.assert_close(first.scale, torch.ones(5, 3), rtol=1e-6, atol=0)


@pytest.mark.parametrize("lead", [(), (3,), (4, 3)])
def test_pieces_equal_the_whole(lead):
    network, steps = transition(), path(*lead, 6)
    whole, last = network(steps)
    left, memory = network(steps[..., :2, :])
    right, end = network(steps[..., 2:, :], memory)
    torch.testing.assert_close(torch.cat([left.loc, right.loc], -2), whole.loc, rtol=1e-12, atol=1e-12)
    assert whole.loc.shape == whole.scale.shape == steps.shape
    for part, other in zip(last, end, strict=True):
        assert part.shape == (*lead, 4)
        torch.testing.assert_close(part, other, rtol=1e-12, atol=1e-12)


def test_a_memory_is_shared_by_leading_axes():
    network, steps = transition(), path(5, 3, 2)
    _, memory = network(path(3, 4))
    together, _ = network(steps, memory)
    alone = torch.stack([network(one, memory)[0].loc for one in steps])
    torch.testing.assert_close(together.loc, alone, rtol=1e-12, atol=1e-12)


def test_units_change_codes_and_their_predictions_together():
    """In units c + u a the same network predicts c + u times what it predicts of a."""
    network, steps = transition(), path(3, 6)
    unit, centre = torch.tensor([100.0, 0.01], dtype=torch.float64), torch.tensor([5.0, -3.0], dtype=torch.float64)
    before, first = network(steps)[0], network.initial(3)
    moved = copy.deepcopy(network)
    moved.units.unit.copy_(unit)
    moved.units.centre.copy_(centre)
    after, start = moved(centre + unit * steps)[0], moved.initial(3)
    for got, expected in ((after, before), (start, first)):
        torch.testing.assert_close(got.loc, centre + unit * expected.loc, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(got.scale, unit * expected.scale, rtol=1e-12, atol=0)


def test_units_are_those_of_the_codes():
    codes = Sequences(5.0 + 3.0 * path(40, 6), torch.rand(40, 6, generator=torch.Generator().manual_seed(1)) < 0.7)
    network = transition()
    network.adapt_codes(codes)
    seen = codes.values[codes.mask]
    first = network.initial(1)
    torch.testing.assert_close(first.loc[0], seen.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(first.scale[0], seen.std(0, correction=0), rtol=1e-6, atol=0)


def test_a_step_depends_on_the_steps_before_only():
    network, steps = transition(), path(3, 6)
    later = steps.clone()
    later[:, 4:] += 10.0
    torch.testing.assert_close(network(later)[0].loc[:, :4], network(steps)[0].loc[:, :4], rtol=0, atol=0)
    assert bool((network(later)[0].loc[:, 4:] != network(steps)[0].loc[:, 4:]).all())


def test_scales_have_a_floor_and_a_gradient_at_it():
    network = LSTMTransition(2, 4, minimum_scale=0.01)
    with torch.no_grad():
        network.log_scale.fill_(-10.0)
        network.initial_log_scale.fill_(-10.0)
    steps, _ = network(torch.zeros(1, 1, 2))
    scales = torch.stack([steps.scale[0, 0], network.initial(1).scale[0]])
    torch.testing.assert_close(scales, torch.full_like(scales, 0.01), rtol=0.01, atol=0)
    scales.sum().backward()
    assert bool((network.log_scale.grad > 0).all()) and bool((network.initial_log_scale.grad > 0).all())


@pytest.mark.parametrize("options", [{"code_dim": 0}, {"code_dim": 2, "hidden_dim": 0}])
def test_sizes_must_be_positive(options):
    with pytest.raises(DataError, match="`code_dim` and `hidden_dim` must be positive"):
        LSTMTransition(**options)


def test_floor_must_be_below_the_first_scale():
    with pytest.raises(DataError, match="`minimum_scale` must be at least 0 and below 1"):
        LSTMTransition(2, minimum_scale=1.0)
