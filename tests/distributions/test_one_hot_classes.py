"""One-hot classes: the categorical law, dealt out to entries."""

from __future__ import annotations

import pyro.distributions as dist
import torch

from pyro_seq.distributions.one_hot_classes import OneHotClasses

LOGITS = torch.tensor([0.2, 3.0, -1.0, 0.0, 0.0, -9.0], dtype=torch.float64)


def test_entries_of_a_group_add_up_to_the_probability_of_its_class():
    classes = torch.tensor([[0, 1], [2, 0], [1, 2]])
    entries = torch.nn.functional.one_hot(classes, 3).flatten(1).double()
    found = OneHotClasses(LOGITS, 3).log_prob(entries).unflatten(-1, (2, 3)).sum(-1)
    expected = dist.Categorical(logits=LOGITS.unflatten(-1, (2, 3))).log_prob(classes)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    shares = LOGITS.view(2, 3).softmax(-1).flatten()
    torch.testing.assert_close(OneHotClasses(LOGITS, 3).mean, shares)
    torch.testing.assert_close(OneHotClasses(LOGITS, 3).variance, dist.Bernoulli(shares).variance)


def test_draws_have_one_class_a_group_at_its_probability():
    torch.manual_seed(0)
    drawn = OneHotClasses(LOGITS, 3).expand((2, 6)).sample((10_000,))
    assert bool((drawn.unflatten(-1, (2, 3)).sum(-1) == 1).all()) and set(drawn.unique().tolist()) == {0.0, 1.0}
    share = OneHotClasses(LOGITS, 3).mean
    error = (share * (1 - share) / 20_000).sqrt()
    assert bool(((drawn.mean((0, 1)) - share).abs() < 4.5 * error + 1e-4).all())


def test_logits_that_are_no_numbers_give_none_and_leave_the_other_group():
    drawn = OneHotClasses(torch.tensor([0.0, torch.nan, 0.0, 1.0]), 2).sample((3,))
    assert bool(drawn[:, :2].isnan().all()) and bool((drawn[:, 2:].sum(-1) == 1).all())


def test_gradients_are_those_of_differences():
    logits = LOGITS.clone().requires_grad_()
    entries = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda at: OneHotClasses(at, 3).log_prob(entries), logits)


def test_it_widens_as_others_do():
    wide = OneHotClasses(LOGITS, 3).expand((4, 5, 6)).mask(torch.rand(5, 6) < 0.5).to_event(1)
    drawn = wide.sample()
    assert drawn.shape == (4, 5, 6) and wide.log_prob(drawn).shape == (4, 5)
    assert OneHotClasses(LOGITS, 3).expand((0, 6)).sample().shape == (0, 6)
