"""Conversions from and to Pyro's GaussianHMM keep the law of a path to rounding; what has no counterpart is refused."""

from __future__ import annotations

from itertools import product

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.ops.kalman import LinearGaussianParameters
from tests.distributions.test_linear_gaussian import random_parameters

TIME, STATE, OBS = 5, 3, 2
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def noise(*shape: int, is_diagonal: bool, has_mean: bool) -> dist.TorchDistribution:
    loc = torch.randn(*shape, dtype=torch.float64) * has_mean
    if is_diagonal:
        return dist.Normal(loc, 0.5 + torch.rand(*shape, dtype=torch.float64)).to_event(1)
    root = torch.randn(*shape, shape[-1], dtype=torch.float64)
    return dist.MultivariateNormal(loc, root @ root.mT + torch.eye(shape[-1], dtype=torch.float64))


def hmm(lead: tuple[int, ...], *, is_diagonal: bool, has_mean: bool, duration: int | None = TIME) -> dist.GaussianHMM:
    kind = {"is_diagonal": is_diagonal, "has_mean": has_mean}
    return dist.GaussianHMM(
        noise(*lead[:-1], STATE, is_diagonal=is_diagonal, has_mean=True),
        0.6 * torch.randn(*lead, STATE, STATE, dtype=torch.float64),
        noise(*lead, STATE, **kind),
        torch.randn(*lead, STATE, OBS, dtype=torch.float64),
        noise(*lead, OBS, **kind),
        duration=duration,
    )


def paths(*lead: int) -> Tensor:
    return torch.randn(*lead, TIME, OBS, dtype=torch.float64)


@pytest.mark.parametrize("lead", [(), (TIME,), (4, 1), (4, TIME)], ids=str)
def test_pyros_law_is_kept(lead):
    torch.manual_seed(0)
    for is_diagonal, has_mean in product((False, True), repeat=2):
        theirs = hmm(lead, is_diagonal=is_diagonal, has_mean=has_mean)
        ours = LinearGaussian.from_gaussian_hmm(theirs)
        assert (ours.batch_shape, ours.event_shape) == (theirs.batch_shape, torch.Size((TIME, OBS)))
        assert ours.parameters.initial_mean.shape[-1] == STATE + has_mean
        values = paths(*(lead[:-1] or (2,)))
        torch.testing.assert_close(ours.log_prob(values), theirs.log_prob(values), **EXACT)
        again = LinearGaussian.from_gaussian_hmm(theirs.expand((3, *theirs.batch_shape)))
        torch.testing.assert_close(again.log_prob(values[0]), theirs.log_prob(values[0]).expand(again.batch_shape))


def test_forecasts_are_those_of_pyro():
    torch.manual_seed(0)
    theirs = hmm((4, TIME), is_diagonal=False, has_mean=True)
    seen, later = paths(4).split([3, 2], -2)
    ahead = LinearGaussian.from_gaussian_hmm(theirs.prefix_condition(seen))
    shorter = LinearGaussian(LinearGaussian.from_gaussian_hmm(theirs).parameters, 3)
    torch.testing.assert_close(ahead.log_prob(later), shorter.future(seen, 2).log_prob(later), **EXACT)


@pytest.mark.parametrize("is_varying", [False, True])
def test_law_goes_to_pyro_and_comes_back(is_varying):
    parameters = random_parameters(is_varying=is_varying)
    ours = LinearGaussian(parameters, 6)
    theirs = ours.to_gaussian_hmm()
    assert (theirs.batch_shape, theirs.event_shape) == (ours.batch_shape, ours.event_shape)
    values = torch.randn(4, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(theirs.log_prob(values), ours.log_prob(values), **EXACT)
    back = LinearGaussian.from_gaussian_hmm(theirs)
    torch.testing.assert_close(back.log_prob(values), ours.log_prob(values), **EXACT)
    torch.testing.assert_close(back.mean, ours.mean, **EXACT)
    if not is_varying:  # inputs come back as the effect of one more state
        torch.testing.assert_close(back.parameters.initial_cov, parameters.initial_cov.expand(4, 3, 3), **EXACT)


def test_gradients_pass_through():
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    eye, values = torch.eye(1, dtype=torch.float64), torch.ones(TIME, 1, dtype=torch.float64)
    start = dist.Normal(torch.zeros(1, dtype=torch.float64), 1.0).to_event(1)
    theirs = dist.GaussianHMM(
        start, eye, dist.MultivariateNormal(values[0] * 0, eye * scale), eye, start, duration=TIME
    )
    slopes = [
        torch.autograd.grad(law.log_prob(values), scale, retain_graph=True)[0]
        for law in (theirs, LinearGaussian.from_gaussian_hmm(theirs))
    ]
    torch.testing.assert_close(*slopes, **EXACT)


def test_what_has_no_counterpart_is_refused():
    torch.manual_seed(0)
    endless = hmm((), is_diagonal=False, has_mean=False, duration=None)
    with pytest.raises(ShapeError, match="no given length"):
        LinearGaussian.from_gaussian_hmm(endless)
    assert LinearGaussian.from_gaussian_hmm(endless, num_steps=4).num_steps == 4
    known = hmm((), is_diagonal=False, has_mean=False)
    with pytest.raises(ShapeError, match="Got 4 for a `GaussianHMM` of 5 steps"):
        LinearGaussian.from_gaussian_hmm(known, num_steps=4)
    with pytest.raises(DataError, match="Got Normal"):
        LinearGaussian.from_gaussian_hmm(dist.Normal(0.0, 1.0))
    seen = dist.Normal(paths(), 1.0).to_event(2)
    with pytest.raises(UnsupportedError, match="conjugate_update"):
        LinearGaussian.from_gaussian_hmm(known.conjugate_update(seen)[0])


def test_what_pyro_cannot_hold_is_refused():
    one = torch.ones(1, 1)
    walk = LinearGaussianParameters(one, one, one, one, torch.zeros(1), one)
    with pytest.raises(UnsupportedError, match="no masks"):
        LinearGaussian(walk, 2, mask=torch.tensor([[True], [False]])).to_gaussian_hmm()
    with pytest.raises(UnsupportedError, match="diffuse"):
        LinearGaussian(walk._replace(diffuse=torch.tensor([True])), 2).to_gaussian_hmm()
    with pytest.raises(UnsupportedError, match="`transition_cov` must be positive definite"):
        LinearGaussian(walk._replace(transition_cov=0 * one), 2).to_gaussian_hmm()
