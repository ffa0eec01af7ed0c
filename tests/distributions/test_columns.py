"""Columns of different kinds: what each part says of its own, in the order of the table."""

from __future__ import annotations

import pyro.distributions as dist
import torch

from pyro_seq.distributions.columns import Columns

NORMAL = dist.Normal(torch.tensor([1.0, -2.0]).expand(5, 2), torch.tensor([0.5, 3.0]))
POISSON = dist.Poisson(torch.tensor([40.0]).expand(5, 1))
JOINED = Columns(((2, 0), (1,)), (NORMAL, POISSON))
VALUES = torch.tensor([0.3, 38.0, 1.2]).expand(4, 5, 3)


def test_each_column_has_the_density_and_mean_of_its_part():
    found = JOINED.log_prob(VALUES)
    assert JOINED.batch_shape == (5, 3) and JOINED.event_shape == () and found.shape == (4, 5, 3)
    assert torch.equal(found[..., [2, 0]], NORMAL.log_prob(VALUES[..., [2, 0]]))
    assert torch.equal(found[..., 1:2], POISSON.log_prob(VALUES[..., 1:2]))
    assert JOINED.mean[0].tolist() == [-2.0, 40.0, 1.0] and JOINED.variance[0].tolist() == [9.0, 40.0, 0.25]


def test_draws_are_those_of_the_parts():
    torch.manual_seed(0)
    drawn = JOINED.sample((4000,)).flatten(0, 1)
    error = torch.tensor([3.0, 40**0.5, 0.5]) / len(drawn) ** 0.5
    assert bool(((drawn.mean(0) - JOINED.mean[0]).abs() < 4.5 * error).all())
    assert torch.equal(drawn[:, 1], drawn[:, 1].round())


def test_supports_and_masks_are_those_of_columns():
    assert JOINED.support.check(torch.tensor([0.5, 0.5, 0.5])).tolist() == [True, False, True]
    mask = torch.tensor([True, False, True])
    assert bool((JOINED.mask(mask).log_prob(VALUES)[..., 1] == 0).all())


def test_it_widens_as_others_do():
    wide = JOINED.expand((7, 4, 5, 3)).mask(torch.rand(5, 3) < 0.5).to_event(2)
    drawn = wide.sample()
    assert drawn.shape == (7, 4, 5, 3) and wide.log_prob(drawn).shape == (7, 4)
    assert torch.equal(JOINED.expand((4, 5, 3)).log_prob(VALUES), JOINED.log_prob(VALUES))


def test_predictions_draw_from_what_a_part_says():
    class Measured(dist.Normal):
        def predictive(self):
            return dist.Delta(torch.full((5, 2), 9.0))

    drawn = Columns(((0, 1), (2,)), (Measured(NORMAL.loc, NORMAL.scale), POISSON)).predictive().sample()
    assert bool((drawn[:, :2] == 9.0).all()) and bool((drawn[:, 2] > 9.0).all())
