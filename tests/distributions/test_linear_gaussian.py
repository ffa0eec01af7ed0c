"""The distribution of observed paths against Pyro's GaussianHMM, its draws and its factors; diffuse starts."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.states_given_path import StatesGivenPath
from pyro_seq.errors import DataError, NumericalError, ShapeError, UnsupportedError
from pyro_seq.ops.kalman import LinearGaussianParameters, kalman_filter, kalman_smoother, simulate
from tests.distributions.trend import observed, parameters

SERIES, TIME, STATE, OBS, INPUT = 4, 6, 3, 2, 2
ROUTES = pytest.mark.parametrize("is_parallel", [False, True], ids=["sequential", "parallel"])
VARYING = pytest.mark.parametrize("is_varying", [False, True], ids=["constant", "varying"])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_cov(*shape: int, seed: int) -> Tensor:
    root = normal(*shape, shape[-1], seed=seed) / math.sqrt(shape[-1])
    return root @ root.mT + 0.1 * torch.eye(shape[-1], dtype=torch.float64)


def random_parameters(*, is_varying: bool, num_steps: int = TIME) -> LinearGaussianParameters:
    lead = (SERIES, num_steps) if is_varying else ()
    return LinearGaussianParameters(
        normal(*lead, STATE, STATE, seed=1) * 0.6,
        random_cov(*lead, STATE, seed=2),
        normal(*lead, OBS, STATE, seed=3),
        random_cov(*lead, OBS, seed=4),
        normal(SERIES, STATE, seed=5),
        random_cov(STATE, seed=6),
        normal(*lead, STATE, INPUT, seed=7) if is_varying else None,
        normal(SERIES, num_steps, INPUT, seed=8) if is_varying else None,
    )


def random_mask(num_steps: int = TIME) -> Tensor:
    return torch.rand(SERIES, num_steps, OBS, generator=torch.Generator().manual_seed(9)) < 0.6


def gaussian_hmm(parameters: LinearGaussianParameters, mask: Tensor) -> dist.GaussianHMM:
    """Pyro's distribution: its move before the first step is made to forget everything and to draw the start.

    A hidden entry is 0 with variance 1 / (2 pi), so that its log density is 0.
    """

    def along(matrix: Tensor, size: tuple[int, ...]) -> Tensor:
        return matrix.expand(SERIES, TIME, *size).clone()

    transition, noise = (along(matrix, (STATE, STATE)) for matrix in parameters[:2])
    observation, observation_cov = along(parameters[2], (OBS, STATE)), along(parameters[3], (OBS, OBS))
    loc = torch.zeros(SERIES, TIME, STATE, dtype=torch.float64)
    if parameters.inputs is not None:
        loc = (parameters.input_matrix @ parameters.inputs[..., None]).squeeze(-1)
    transition[:, 0], noise[:, 0], loc[:, 0] = 0.0, parameters.initial_cov, parameters.initial_mean
    seen = mask.double()
    observation_cov = seen[..., None] * observation_cov * seen[..., None, :] + torch.diag_embed((1 - seen) / math.tau)
    return dist.GaussianHMM(
        dist.MultivariateNormal(torch.zeros(STATE).double(), torch.eye(STATE).double()),
        transition.mT,
        dist.MultivariateNormal(loc, noise),
        (seen[..., None] * observation).mT,
        dist.MultivariateNormal(torch.zeros(OBS).double(), observation_cov),
    )


@ROUTES
@VARYING
@pytest.mark.parametrize("is_masked", [False, True])
def test_log_prob_is_that_of_pyro(is_varying, is_masked, is_parallel):
    parameters, values = random_parameters(is_varying=is_varying), normal(SERIES, TIME, OBS)
    mask = random_mask() if is_masked else torch.ones(SERIES, TIME, OBS, dtype=torch.bool)
    paths = LinearGaussian(parameters, TIME, mask=mask if is_masked else None, is_parallel=is_parallel)
    theirs = gaussian_hmm(parameters, mask).log_prob(values * mask)
    torch.testing.assert_close(paths.log_prob(values), theirs, rtol=0, atol=1e-9)


def unit_noise(monkeypatch: pytest.MonkeyPatch, *sizes: int) -> int:
    """Make successive calls of `randn` for all series together return 0 first and then each unit vector."""
    total = TIME * sum(sizes)
    blocks = torch.cat([torch.zeros(1, total), torch.eye(total)]).double().split([TIME * size for size in sizes], -1)
    draws = iter([block.unflatten(-1, (TIME, -1, 1))[:, None].expand(-1, SERIES, -1, -1, -1) for block in blocks])
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(draws))
    return total + 1


@ROUTES
@VARYING
def test_draws_have_the_density(is_varying, is_parallel, monkeypatch):
    parameters = random_parameters(is_varying=is_varying)
    paths = LinearGaussian(parameters, TIME, is_parallel=is_parallel)
    values = normal(10, SERIES, TIME, OBS, seed=10)
    draws = paths.rsample((unit_noise(monkeypatch, STATE, OBS),))
    assert draws.shape[1:] == (SERIES, TIME, OBS)
    columns = (draws[1:] - draws[0]).flatten(-2)
    cov = torch.einsum("nsi,nsj->sij", columns, columns)
    exact = torch.distributions.MultivariateNormal(draws[0].flatten(-2), cov)
    torch.testing.assert_close(paths.log_prob(values), exact.log_prob(values.flatten(-2)), rtol=0, atol=1e-9)
    torch.testing.assert_close(paths.mean, draws[0], rtol=0, atol=1e-9)
    torch.testing.assert_close(paths.variance.flatten(-2), exact.variance, rtol=0, atol=1e-9)


@ROUTES
@VARYING
@pytest.mark.parametrize("start", [1, 4])
def test_past_and_future_factorise(is_varying, start, is_parallel):
    parameters, values, mask = random_parameters(is_varying=is_varying), normal(SERIES, TIME, OBS), random_mask()
    mask[:, start:] = True
    whole = LinearGaussian(parameters, TIME, mask=mask, is_parallel=is_parallel)
    past = LinearGaussian(parameters, start, mask=mask[:, :start], is_parallel=is_parallel)
    future = past.future(values[:, :start], TIME - start)
    assert future.batch_shape == (SERIES,) and future.event_shape == (TIME - start, OBS)
    total = past.log_prob(values[:, :start]) + future.log_prob(values[:, start:])
    torch.testing.assert_close(total, whole.log_prob(values), rtol=0, atol=1e-9)


def test_future_of_many_paths_at_once():
    paths = LinearGaussian(random_parameters(is_varying=True), 4)
    values = normal(5, SERIES, 4, OBS)
    together = paths.future(values, 2)
    assert together.batch_shape == (5, SERIES) and together.rsample((3,)).shape == (3, 5, SERIES, 2, OBS)
    torch.testing.assert_close(together.mean[2], paths.future(values[2], 2).mean, rtol=0, atol=1e-12)


def test_states_given_a_path():
    parameters, values, mask = random_parameters(is_varying=True), normal(SERIES, TIME, OBS), random_mask()
    paths = LinearGaussian(parameters, mask=mask)
    expected = kalman_smoother(values, parameters, mask)
    torch.testing.assert_close(paths.smooth(values).smoothed_covs, expected.smoothed_covs, rtol=0, atol=1e-9)
    draws = paths.sample_states(values, 2000, generator=torch.Generator().manual_seed(0))
    deviation = expected.smoothed_covs.diagonal(dim1=-2, dim2=-1).sqrt()
    # the largest of 72 standard normal numbers is below 4.5 with probability 0.9995
    assert ((draws.mean(0) - expected.smoothed_means).abs() < 4.5 * deviation / 2000**0.5).all()


def test_a_mask_over_steps():
    parameters, values = random_parameters(is_varying=False), normal(SERIES, TIME, OBS)
    steps = random_mask()[..., :1]
    expected = LinearGaussian(parameters, TIME, mask=steps.expand(-1, -1, OBS)).log_prob(values)
    assert torch.equal(LinearGaussian(parameters, TIME, mask=steps).log_prob(values), expected)
    hidden = torch.where(steps, values, torch.nan)
    assert torch.equal(LinearGaussian(parameters, TIME, mask=steps).log_prob(hidden), expected)


def test_expand():
    paths = LinearGaussian(random_parameters(is_varying=False), TIME, mask=random_mask())
    larger = paths.expand((7, SERIES))
    values = normal(SERIES, TIME, OBS)
    assert paths.expand((SERIES,)) is paths
    assert larger.batch_shape == (7, SERIES) and larger.rsample((2,)).shape == (2, 7, SERIES, TIME, OBS)
    torch.testing.assert_close(larger.log_prob(values), paths.log_prob(values).expand(7, -1), rtol=0, atol=1e-12)


def test_as_a_site_of_a_model():
    one = torch.ones(1, 1)
    still = LinearGaussianParameters(one, 0.01 * one, one, one, torch.zeros(1), one)
    values = simulate(
        still._replace(observation_cov=4 * one), 30, batch_shape=(50,), generator=torch.Generator().manual_seed(1)
    ).values

    def model() -> None:
        noise = pyro.param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
        with pyro.plate("series", 50, subsample=torch.arange(0, 50, 2)) as index:
            pyro.sample("x", LinearGaussian(still._replace(observation_cov=noise * one), 30), obs=values[index])

    trace = pyro.poutine.trace(model).get_trace()
    trace.compute_log_prob()
    site = trace.nodes["x"]
    assert site["log_prob"].shape == (25,) and site["fn"].event_shape == (30, 1)
    plain = LinearGaussian(still, 30).log_prob(values[::2])
    torch.testing.assert_close(site["log_prob"].detach(), 2 * plain)

    svi = SVI(model, lambda: None, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(80):
        svi.step()
    # 750 observations: the standard error of a variance of 4 is about 4 sqrt(2 / 750) = 0.21
    noise = pyro.param("noise").item()
    pyro.clear_param_store()
    assert abs(noise - 4) < 3 * 0.21


def test_errors():
    varying, constant = random_parameters(is_varying=True), random_parameters(is_varying=False)
    with pytest.raises(ShapeError, match="`num_steps` .* parameters that are constant"):
        LinearGaussian(constant)
    with pytest.raises(ShapeError, match="Got 7 for 6 steps"):
        LinearGaussian(varying, 7)
    with pytest.raises(ShapeError, match=r"`mask` must be \(\*batch, time 6, obs 2 or 1\)"):
        LinearGaussian(varying, mask=random_mask()[..., 0])
    with pytest.raises(DataError, match="`mask` must be boolean"):
        LinearGaussian(varying, mask=random_mask().double())
    with pytest.raises(ShapeError, match="A path must be .*time 6, obs 2"):
        LinearGaussian(varying).log_prob(normal(SERIES, 5, OBS))
    with pytest.raises(ShapeError, match="`horizon` must be at least 1, .* Got 3 after 4 steps, with parameters for 6"):
        LinearGaussian(varying, 4).future(normal(SERIES, 4, OBS), 3)
    with pytest.raises(ShapeError, match="`num_steps` must be at least 1"):
        simulate(constant, 0)


def test_log_prob_is_the_diffuse_likelihood():
    values, mask = observed()
    path = LinearGaussian(parameters(), 10, mask=mask)
    assert path.batch_shape == (3,) and path.event_shape == (10, 1)
    torch.testing.assert_close(path.log_prob(values), kalman_filter(values, parameters(), mask).log_likelihood)
    wider = path.expand((4, 3))
    assert wider.batch_shape == (4, 3)
    torch.testing.assert_close(wider.log_prob(values), path.log_prob(values).expand(4, 3))
    known = LinearGaussian(parameters(torch.tensor([False, False])), 10, mask=mask)
    torch.testing.assert_close(known.log_prob(values), LinearGaussian(parameters(None), 10, mask=mask).log_prob(values))


def test_future_continues_the_likelihood():
    """The density of the continuation is the ratio of those of the longer and of the shorter path."""
    values, mask = observed()
    whole = LinearGaussian(parameters(), 10, mask=mask)
    past = LinearGaussian(parameters(), 6, mask=mask[:, :6])
    future = past.future(values[:, :6], 4)
    assert isinstance(future, LinearGaussian) and future.parameters.diffuse is None
    seen = torch.tensor([False, True, False])  # the series whose last steps are all observed
    ratio = whole.log_prob(values) - past.log_prob(values[:, :6])
    torch.testing.assert_close(future.log_prob(values[:, 6:])[seen], ratio[seen], rtol=1e-9, atol=1e-9)


def test_future_with_parameters_that_change():
    values, _ = observed()
    changing = parameters()._replace(
        transition_cov=torch.linspace(0.1, 1.0, 10, dtype=torch.float64)[:, None, None] * torch.eye(2).double()
    )
    past = LinearGaussian(changing, 6)
    ratio = LinearGaussian(changing, 10).log_prob(values) - past.log_prob(values[:, :6])
    torch.testing.assert_close(past.future(values[:, :6], 4).log_prob(values[:, 6:]), ratio, rtol=1e-9, atol=1e-9)
    with pytest.raises(ShapeError, match="`horizon`"):
        past.future(values[:, :6], 5)


def test_what_does_not_exist_is_refused():
    values, mask = observed()
    path = LinearGaussian(parameters(), 10, mask=mask)
    with pytest.raises(UnsupportedError, match="diffuse start"):
        path.sample()
    with pytest.raises(UnsupportedError, match="diffuse start"):
        path.rsample()
    with pytest.raises(NumericalError, match="determine the diffuse states"):
        _ = path.mean
    with pytest.raises(UnsupportedError, match="known start"):
        StatesGivenPath(path, values)
    with pytest.raises(UnsupportedError, match="no density"):
        path.replicate(values).log_prob(values)
    with pytest.raises(ShapeError, match="A path must be"):
        path.log_prob(values[:, 1:])
    with pytest.raises(ShapeError, match="`num_steps`"):
        LinearGaussian(parameters())
