"""The assertions pass what is true at their stated rate and refuse what is not."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from pyro_seq.testing import assert_close_mc, assert_rng_untouched


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_false_alarms_come_at_the_stated_rate() -> None:
    def alarm(seed: int, entries: int) -> bool:
        try:
            assert_close_mc(normal(400, entries, seed=seed), 0.0, k=1.0)
        except AssertionError:
            return True
        return False

    rate = sum(alarm(seed, 1) for seed in range(400)) / 400
    assert abs(rate - 0.3173) < 4 * (0.3173 * 0.6827 / 400) ** 0.5  # chance of |normal| > 1
    many = sum(alarm(seed, 50) for seed in range(400)) / 400  # at most that of one entry: 1 - (1 - 0.3173 / 50)^50
    assert abs(many - 0.272) < 4 * (0.272 * 0.728 / 400) ** 0.5


def test_a_wrong_mean_is_refused_and_described() -> None:
    draws = normal(1000, 3)
    draws[:, 1] += 0.5
    with pytest.raises(AssertionError, match=r"1 of 3 means are off\. Worst at flat entry 1"):
        assert_close_mc(draws, 0.0)


def test_correlated_chains_count_for_less() -> None:
    noise, chains = normal(4, 2000), torch.zeros(4, 2000, dtype=torch.float64)
    for step in range(1, 2000):
        chains[:, step] = 0.95 * chains[:, step - 1] + noise[:, step]
    assert_close_mc(chains, 0.0, has_chains=True)
    standard_error = chains.std() / chains.numel() ** 0.5
    with pytest.raises(AssertionError):
        assert_close_mc(chains.flatten(), chains.mean() + 6 * standard_error)
    assert_close_mc(chains, chains.mean() + 6 * standard_error, has_chains=True)


def test_too_few_draws_and_bad_values_are_refused() -> None:
    with pytest.raises(AssertionError, match="effective draws"):
        assert_close_mc(normal(50), 0.0)
    with pytest.raises(AssertionError, match="finite"):
        assert_close_mc(torch.full((200,), float("nan")), 0.0)


def test_constant_draws_must_be_equal() -> None:
    assert_close_mc(torch.full((200,), 0.1), 0.1)
    with pytest.raises(AssertionError):
        assert_close_mc(torch.full((200,), 0.1), 0.1001)


@pytest.mark.parametrize(
    ("name", "draw"),
    [("torch", lambda: torch.rand(1)), ("numpy", lambda: np.random.rand(1)), ("random", random.random)],
)
def test_moved_random_states_are_named(name: str, draw: object) -> None:
    with pytest.raises(AssertionError, match=name), assert_rng_untouched():
        draw()
    with assert_rng_untouched():
        torch.rand(3, generator=torch.Generator().manual_seed(0))
