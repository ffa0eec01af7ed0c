"""A posterior between two: at its ends the two, half way the mean of both draws, series by series where asked for."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.errors import ShapeError
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.interpolated import InterpolatedPosterior
from pyro_seq.predict.verbs import forecast
from tests.support import Walks, binary_series

HERE, THERE = binary_series(12)[:6], binary_series(12)[6:]


def test_the_ends_are_the_two_posteriors():
    posterior = GuidePosterior(Walks())
    for weight, data in ((0.0, HERE), (1.0, THERE)):
        got = InterpolatedPosterior(posterior, THERE, weight).draws(HERE, 4, seed=3)
        assert torch.equal(got["walk"], posterior.draws(data, 4, seed=3)["walk"])


def test_each_series_has_its_own_weight():
    posterior, weight = GuidePosterior(Walks()), torch.linspace(0, 1, 6)
    got = InterpolatedPosterior(posterior, THERE, weight).draws(HERE, 4, seed=3)["walk"]
    start, end = (posterior.draws(data, 4, seed=3)["walk"] for data in (HERE, THERE))
    for series, share in enumerate(weight):
        torch.testing.assert_close(got[:, series], (1 - share) * start[:, series] + share * end[:, series])


def test_every_verb_takes_it():
    between = InterpolatedPosterior(GuidePosterior(Walks()), THERE)
    prediction = forecast(between, HERE, horizon=3, num_samples=4, seed=3)
    assert prediction.samples.shape == (4, 6, 3, 3)


def test_the_other_series_must_match():
    with pytest.raises(ShapeError, match="`other` must have as many series, steps and entries as `data`"):
        InterpolatedPosterior(GuidePosterior(Walks()), THERE[:2]).draws(HERE, 4)
