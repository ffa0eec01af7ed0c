"""First calls: what makes an optimiser or gives a number passes, anything else is refused with its own words."""

from __future__ import annotations

import functools

import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.training.first_call import require_optimizer, require_schedule
from pyro_seq.training.schedules import WarmUp


@pytest.mark.parametrize(
    "optimizer", [torch.optim.Adam, torch.optim.SGD, functools.partial(torch.optim.AdamW, betas=(0.9, 0.95))]
)
def test_optimisers_pass_and_random_numbers_stay(optimizer, assert_rng_untouched) -> None:
    with assert_rng_untouched():
        require_optimizer(optimizer, 0.1)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (torch.optim.LBFGS, "closure"),
        (functools.partial(torch.optim.Adam, beta=1), "beta"),
        (lambda params, lr: params, "it made a list"),
        (lambda params: torch.optim.Adam(params), "lr"),
    ],
)
def test_what_makes_no_optimiser_is_refused_with_its_words(optimizer, words: str) -> None:
    with pytest.raises(DataError, match=f"`optimizer` must be a torch optimiser class.*{words}"):
        require_optimizer(optimizer, 0.1)


@pytest.mark.parametrize("schedule", [WarmUp(5), lambda step: 0.99**step, lambda step: torch.tensor(1.0), lambda _: 1])
def test_functions_of_the_step_pass(schedule) -> None:
    require_schedule(schedule, "schedule")


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (lambda step: 1 / step, "division by zero"),
        (lambda step: float("nan"), "at step 0 it is nan"),
        (lambda: 1.0, "argument"),
        (lambda step: None, "NoneType"),
        (torch.optim.lr_scheduler.ExponentialLR, "gamma"),
    ],
)
def test_what_gives_no_number_is_refused_by_the_name_of_the_argument(schedule, words: str) -> None:
    with pytest.raises(DataError, match=rf"`scales\['x'\]` must be a function of the step.*{words}"):
        require_schedule(schedule, "scales['x']")
