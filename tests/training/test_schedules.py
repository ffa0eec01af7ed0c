"""Schedules: values by hand, and arguments out of range."""

from __future__ import annotations

import pickle

import pytest

from pyro_seq.errors import DataError
from pyro_seq.training.schedules import Constant, Cosine, Exponential, FlatThenLinear, WarmUp


@pytest.mark.parametrize(
    "schedule", [Constant(2.0), WarmUp(5), Cosine(20, warmup=4), Exponential(0.9, 3), FlatThenLinear(3, 4)], ids=str
)
def test_schedules_are_plain(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert all(0.0 <= schedule(step) <= 2.0 for step in range(40))


def test_warm_cosine_meets_in_the_middle():
    schedule = Cosine(20, warmup=4, final=0.2)
    assert [schedule(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert schedule(12) == pytest.approx(0.6) and schedule(20) == schedule(1000) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("schedule", "arguments"),
    [(WarmUp, (0,)), (Cosine, (3, 3)), (Exponential, (1.5,)), (Exponential, (0.5, 0)), (FlatThenLinear, (-1, 3))],
)
def test_schedules_check_their_arguments(schedule, arguments):
    with pytest.raises(DataError):
        schedule(*arguments)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(0.3), {0: 0.3, 999: 0.3}),
        (WarmUp(4, value=2.0, start=1.0), {0: 1.0, 1: 1.25, 4: 2.0, 99: 2.0}),
        (Cosine(6, final=0.1), {0: 1.0, 1: 0.1 + 0.9 * (2 + 3**0.5) / 4, 2: 0.1 + 0.9 * 3 / 4, 3: 0.55, 6: 0.1}),
        (Exponential(0.25, every=2), {0: 1.0, 1: 0.5, 2: 0.25, 3: 0.125}),
        (Exponential(0.25, every=2, staircase=True), {0: 1.0, 1: 1.0, 2: 0.25, 3: 0.25}),
        (FlatThenLinear(2, 4, final=0.2), {0: 1.0, 2: 1.0, 3: 0.8, 6: 0.2, 9: 0.2}),
    ],
    ids=str,
)
def test_values_by_hand(schedule, expected):
    assert {step: schedule(step) for step in expected} == pytest.approx(expected)
