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
