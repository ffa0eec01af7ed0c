"""Codes of series with gaps: the encoder where frames are seen, the exact conditional where they are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_seq.distributions.filled_path import FilledPath
from pyro_seq.distributions.mixed_dynamics import MixedLinearGaussian
from tests.dense_gaussian import CODE, Gaussian, assert_moments, dense_path, normal, of_series, places, random_dynamics

TIME = 6
SEEN = torch.tensor(
    [[1, 1, 1, 1, 1, 1], [1, 0, 0, 1, 0, 1], [0, 0, 1, 1, 0, 1], [1, 1, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0], [0] * 6]
).bool()
NAMES = ("all seen", "two gaps", "a gap at the start", "a gap and a tail", "one seen", "nothing seen")
LENGTHS = (6, 6, 6, 4, 2, 0)
SERIES = len(SEEN)
KINDS = pytest.mark.parametrize("kind", ["lstm", "window", "one"])


def filled(kind: str, *, seen: Tensor = SEEN, has_inputs: bool = False, loc: Tensor | None = None) -> FilledPath:
    inputs = normal(len(seen), TIME, 2, seed=9) if has_inputs else None
    steps = torch.arange(TIME)
    lengths = torch.where(seen, steps + 1, 0).amax(-1)
    dynamics = random_dynamics(kind, input_dim=2 * has_inputs)
    prior = MixedLinearGaussian(dynamics, TIME, inputs=inputs, valid=steps < lengths[:, None])
    loc = normal(len(seen), TIME, CODE, seed=1) if loc is None else loc
    return FilledPath(loc, 0.1 + normal(len(seen), TIME, CODE, seed=2).abs(), seen, prior)


def posterior(path: FilledPath, series: int) -> Gaussian:
    """Dense Gaussian of all codes of a series with one mode: encoder where seen, conditional elsewhere."""
    zeros = torch.zeros(SERIES, TIME, CODE, dtype=torch.float64)
    dense = dense_path(of_series(path.prior.parameters(zeros), series), TIME)
    known = places(SEEN[series].nonzero().flatten().tolist(), CODE)
    mean, variance = path.loc[series].flatten()[known], path.scale[series].flatten().square()[known]
    return dense.joint.marginal(dense.codes()).with_marginal(known, mean, variance.diag()).detached()


@pytest.mark.parametrize("has_inputs", [False, True], ids=["no inputs", "inputs"])
def test_with_one_mode_the_density_is_the_encoder_times_the_exact_conditional(has_inputs):
    path, values = filled("one", has_inputs=has_inputs), normal(2, SERIES, TIME, CODE)
    got = path.log_prob(values)
    assert got.shape == (2, SERIES)
    for series, length in enumerate(LENGTHS):
        if length:
            exact = posterior(path, series)
            counted = torch.arange(length * CODE)
            expected = exact.marginal(counted).log_prob(values[:, series, :length].flatten(-2))
            torch.testing.assert_close(got[:, series], expected, rtol=0, atol=1e-9)
        else:
            assert torch.equal(got[:, series], torch.zeros(2).double())


@pytest.mark.parametrize("has_inputs", [False, True], ids=["no inputs", "inputs"])
def test_with_one_mode_draws_are_those_of_the_exact_conditional_and_the_tail_follows_them(has_inputs):
    path, num_draws = filled("one", has_inputs=has_inputs), 2500
    with torch.no_grad():
        draws = path.rsample(torch.Size([num_draws])).flatten(-2)
    for series in range(SERIES):
        assert_moments(draws[:, series], posterior(path, series))


@pytest.mark.parametrize("has_inputs", [False, True], ids=["no inputs", "inputs"])
def test_with_one_mode_the_path_of_means_is_the_exact_mean(has_inputs):
    path = filled("one", has_inputs=has_inputs)
    means = path.path_of_means().detach().flatten(-2)
    for series in range(SERIES):
        torch.testing.assert_close(means[series], posterior(path, series).mean, rtol=0, atol=1e-9)


@KINDS
def test_the_path_of_means_is_the_mean_of_gaps_given_the_seen_and_their_parameters(kind):
    path = filled(kind)
    path.scale = 1e-9 * path.scale  # the seen codes stay at their means
    with torch.no_grad():
        draws, means = path.rsample(torch.Size([2000])), path.path_of_means()
    counted = path.exists[..., None].expand_as(means)
    error = draws.std(0) / 2000**0.5
    assert bool(((draws.mean(0) - means).abs() <= 5 * error + 1e-7)[counted].all())


@KINDS
def test_the_density_is_that_of_the_draws(kind):
    """For any shift of the gaps, E[q(a + shift) / q(a)] = 1; the estimated dynamics must not depend on the gaps."""
    path, num_draws = filled(kind), 1000
    with torch.no_grad():
        draws = path.rsample(torch.Size([num_draws]))
        shift = 0.1 * normal(SERIES, TIME, CODE, seed=4) * ~SEEN[..., None]
        ratio = (path.log_prob(draws + shift) - path.log_prob(draws)).exp()
    error = ratio.std(0) / num_draws**0.5
    assert bool(((ratio.mean(0) - 1).abs() <= 5 * error + 1e-12).all())
    has_gap = torch.tensor([any(not SEEN[series, t] for t in range(LENGTHS[series])) for series in range(SERIES)])
    assert bool((error[has_gap] > 1e-4).all()), "a shift of a gap must change the density"


@KINDS
def test_hidden_values_of_the_encoder_are_never_read(kind):
    loc = normal(SERIES, TIME, CODE, seed=1)
    spoiled = torch.where(SEEN[..., None], loc, 1e6)
    values, draws = normal(SERIES, TIME, CODE), []
    for one in (filled(kind, loc=loc), filled(kind, loc=spoiled)):
        torch.manual_seed(3)
        draws.append(one.rsample(torch.Size([2])))
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(filled(kind, loc=loc).log_prob(values), filled(kind, loc=spoiled).log_prob(values))


@KINDS
def test_the_tail_does_not_count(kind):
    path = filled(kind)
    draws = path.rsample()
    spoiled = torch.where(path.prior.valid[..., None], draws, 7.0)
    assert torch.equal(path.log_prob(draws), path.log_prob(spoiled))


@KINDS
def test_tails_are_uniform_under_the_prior_given_all_before(kind):
    path = filled(kind)
    with torch.no_grad():
        draws = path.rsample(torch.Size([1500]))
        linear = path.prior.given(draws)
        moments = linear.filter(draws)
    see = linear.parameters.observation
    mean = (see @ moments.predicted_means[..., None]).squeeze(-1)
    cov = see @ moments.predicted_covs @ see.mT + linear.parameters.observation_cov
    factor = torch.linalg.cholesky(cov)
    white = torch.linalg.solve_triangular(factor, (draws - mean)[..., None], upper=False).squeeze(-1)
    tail = white[:, ~path.prior.valid].flatten(1).detach()
    count = tail.shape[1]
    assert_moments(tail, Gaussian(torch.zeros(count).double(), torch.eye(count).double()))


@KINDS
def test_gaps_are_a_function_of_seen_codes_and_noise(kind):
    path = filled(kind, has_inputs=True)
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append(path.rsample())
    assert torch.equal(draws[0], draws[1])
    # the estimate of the dynamics in a gap reads the seen codes only
    linear = path._estimated(draws[0]).parameters
    other = path._estimated(torch.where(SEEN[..., None], draws[0], -3.0)).parameters
    for one, two in zip(linear, other, strict=True):
        assert one is None or torch.equal(one, two)


@KINDS
def test_gradients_reach_the_encoder_and_the_dynamics_through_gaps(kind):
    path = filled(kind, has_inputs=True)
    loc, scale = path.loc.requires_grad_(), path.scale.requires_grad_()
    draws = path.rsample()
    hidden = torch.where(SEEN[..., None], 0.0, draws).square().sum()
    targets = [loc, scale, *(p for p in path.prior.dynamics.parameters() if p.requires_grad)]
    gradients = torch.autograd.grad(hidden, targets, retain_graph=True)
    assert all(bool(gradient.isfinite().all()) and float(gradient.abs().sum()) > 0 for gradient in gradients)
    assert float(gradients[0][~SEEN].abs().sum()) == 0.0
    scored = torch.autograd.grad(path.log_prob(draws).sum(), targets)
    assert all(bool(gradient.isfinite().all()) for gradient in scored)


@KINDS
def test_leading_axes_and_expansion(kind):
    path, values = filled(kind), normal(4, SERIES, TIME, CODE)
    alone = torch.stack([path.log_prob(value) for value in values])
    torch.testing.assert_close(path.log_prob(values), alone, rtol=1e-12, atol=1e-12)
    wide = path.expand(torch.Size([4, SERIES]))
    torch.testing.assert_close(wide.log_prob(values), alone, rtol=1e-12, atol=1e-12)
    assert wide.batch_shape == (4, SERIES) and wide.rsample().shape == values.shape
    assert path.expand(path.batch_shape) is path
    assert path.rsample(torch.Size([2])).shape == (2, SERIES, TIME, CODE)


@KINDS
@pytest.mark.parametrize("series", range(SERIES), ids=NAMES)
def test_a_series_alone_has_the_density_it_has_among_others(kind, series):
    path, values = filled(kind), normal(SERIES, TIME, CODE)
    row = slice(series, series + 1)
    prior = MixedLinearGaussian(path.prior.dynamics, TIME, valid=path.prior.valid[row])
    alone = FilledPath(path.loc[row], path.scale[row], path.seen[row], prior)
    torch.testing.assert_close(alone.log_prob(values[row]), path.log_prob(values)[row], rtol=1e-10, atol=1e-10)


def test_without_gaps_it_is_the_encoder():
    path, values = filled("lstm", seen=SEEN[:1]), normal(1, TIME, CODE)
    expected = torch.distributions.Normal(path.loc, path.scale).log_prob(values).sum((-2, -1))
    torch.testing.assert_close(path.log_prob(values), expected, rtol=1e-12, atol=0)
    torch.manual_seed(1)
    drawn = path.rsample()
    torch.manual_seed(1)
    assert torch.equal(drawn, path.loc + path.scale * torch.randn(1, TIME, CODE, dtype=torch.float64))
