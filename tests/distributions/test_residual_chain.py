"""Residual chains: a linear one against its dense Gaussian, divergences against it, Euler's order, rows in frames."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch
from pyro.distributions import MultivariateNormal, Normal
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import kl_divergence

from pyro_seq.distributions.residual_chain import ResidualChain
from pyro_seq.errors import ShapeError
from pyro_seq.nn.transition import NoisePrior, ResidualTransition
from pyro_seq.ops.odeint import RK4, odeint
from pyro_seq.testing import assert_close_mc

SERIES, STEPS, STATE, NOISE = 2, 5, 3, 2
HIDDEN = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 0, 0, 1]], dtype=torch.bool)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@dataclasses.dataclass
class Linear:
    """A linear rate of change, whose chain is Gaussian."""

    noise_dim: int = NOISE

    def __call__(self, state: Tensor, noise: Tensor, dt: float) -> Tensor:
        return state + dt * (0.5 * state @ random(STATE, STATE, seed=1) + noise @ random(self.noise_dim, STATE, seed=2))


def linear_prior(state: Tensor) -> Normal:
    """A mean linear in the state, and a scale that does not depend on it."""
    return Normal(0.3 * state @ random(STATE, NOISE, seed=3), torch.tensor([0.4, 1.2], dtype=torch.float64))


def linear_chain(num_steps: int = STEPS, **options) -> ResidualChain:
    return ResidualChain(random(SERIES, STATE, seed=4), Linear(), linear_prior, num_steps, **options)


def networks() -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ResidualTransition(STATE, NOISE, (8,)).double(), NoisePrior(STATE, NOISE, (8,)).double()


def network_chain(**options) -> ResidualChain:
    return ResidualChain(random(SERIES, STATE, seed=4), *networks(), STEPS, **options)


def encoded() -> Normal:
    return Normal(0.3 * random(SERIES, STEPS, NOISE, seed=5), 0.2 + 0.3 * random(SERIES, STEPS, NOISE, seed=6).exp())


def dense(chain: ResidualChain, series: int) -> MultivariateNormal:
    """The Gaussian of a linear chain, from the map of standard normals to paths."""
    zeros = torch.zeros(SERIES, *chain.event_shape, dtype=torch.float64)
    factor = jacobian(lambda noise: chain.follow(noise)[series].flatten(), zeros)[:, series].flatten(1)
    return MultivariateNormal(chain.follow(zeros)[series].flatten(), factor @ factor.mT)


# ---------------------------------------------------------------- density


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_substeps": 3},
        {"num_substeps": 4, "ticks": (0, 0, 3, 6, 8, 12)},
        {"num_substeps": 2, "ticks": (3, 4, 5, 6, 8, 9), "held": random(SERIES, NOISE, seed=7)},
        {"encoded": encoded(), "seen": ~HIDDEN},
    ],
    ids=["frames", "substeps", "rows within frames", "a frame under way", "hidden rows"],
)
def test_density_is_that_of_the_sampler(options):
    chain = linear_chain(**options)
    path = random(7, SERIES, STEPS, NOISE, seed=8)
    for series in range(SERIES):
        exact = dense(chain, series).log_prob(path[:, series].flatten(1))
        torch.testing.assert_close(chain.log_prob(path)[:, series], exact, rtol=1e-9, atol=1e-9)


def test_draws_have_the_moments_of_the_dense_gaussian():
    chain = linear_chain(num_substeps=2)
    draws = chain.rsample((4000,))
    for series in range(SERIES):
        exact, flat = dense(chain, series), draws[:, series].flatten(1)
        assert_close_mc(flat, exact.mean)
        assert_close_mc(flat.square(), exact.mean**2 + exact.variance)


def test_rows_that_do_not_exist_do_not_count():
    path = random(SERIES, STEPS, NOISE, seed=8)
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    got = linear_chain(valid=valid).log_prob(path)
    expected = torch.stack([linear_chain().log_prob(path)[0], linear_chain(3).log_prob(path[:, :3])[1]])
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ticks", [None, (0, 0, 2, 3, 5, 6)], ids=["frames", "cut within a frame"])
def test_future_continues_the_path(ticks):
    path, whole = random(SERIES, STEPS, NOISE, seed=8), network_chain(num_substeps=2, ticks=ticks)
    start = ResidualChain(whole.initial, *networks(), 3, num_substeps=2, ticks=whole.ticks)
    ahead = start.future(path[:, :3], 2)
    total = start.log_prob(path[:, :3]) + ahead.log_prob(path[:, 3:])
    torch.testing.assert_close(total, whole.log_prob(path), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ahead.states(path[:, 3:]), whole.states(path)[:, 3:], rtol=1e-12, atol=1e-12)


def test_a_larger_batch_is_the_same_distribution():
    path, chain = random(4, SERIES, STEPS, NOISE, seed=8), network_chain(encoded=encoded(), seen=~HIDDEN)
    wide = chain.expand(torch.Size((4, SERIES)))
    assert wide.batch_shape == (4, SERIES) and wide.rsample().shape == path.shape
    torch.testing.assert_close(wide.log_prob(path), chain.log_prob(path), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- divergence


def pair(seen: Tensor | None = None, **options) -> tuple[ResidualChain, ResidualChain]:
    """A posterior and a prior over four thousand draws of paths, and of the same initial states."""
    initial = random(SERIES, STATE, seed=4).expand(4000, SERIES, STATE)
    parts = (Linear(), linear_prior, STEPS)
    return (
        ResidualChain(initial, *parts, encoded=encoded(), seen=seen, **options),
        ResidualChain(initial, *parts, **options),
    )


@pytest.mark.parametrize("seen", [None, ~HIDDEN], ids=["all seen", "hidden rows"])
def test_divergence_has_the_exact_mean_and_less_variance(seen):
    """The mean over draws of the closed form is the divergence of the two dense Gaussians."""
    posterior, prior = pair(seen, num_substeps=2)
    path = posterior.rsample()
    sampled = posterior.log_prob(path) - prior.log_prob(path)
    closed = kl_divergence(posterior, prior)
    narrow = linear_chain(num_substeps=2, encoded=encoded(), seen=seen), linear_chain(num_substeps=2)
    exact = torch.stack([kl_divergence(dense(narrow[0], i), dense(narrow[1], i)) for i in range(SERIES)])
    assert_close_mc(closed, exact, k=3.0)
    assert_close_mc(closed - sampled, torch.zeros(SERIES, dtype=torch.float64), k=3.0)
    assert bool((closed.std(0) < 0.8 * sampled.std(0)).all())


def test_divergence_is_a_sum_over_rows_by_hand():
    posterior, prior = network_chain(encoded=encoded(), seen=~HIDDEN), network_chain()
    path = posterior.rsample()
    posterior.log_prob(path), prior.log_prob(path)
    q, state, (move, noise_prior) = encoded(), prior.initial, networks()
    expected = torch.zeros(SERIES, dtype=torch.float64)
    for row in range(1, STEPS):
        step = Normal(q.loc[:, row], q.scale[:, row])
        expected = expected + kl_divergence(step, noise_prior(state)).sum(-1) * ~HIDDEN[:, row]
        state = move(state, path[:, row], 1.0)
    torch.testing.assert_close(kl_divergence(posterior, prior), expected, rtol=1e-12, atol=1e-12)


def test_divergence_needs_the_path_that_was_drawn():
    with pytest.raises(NotImplementedError, match="needs a path that was drawn"):
        kl_divergence(network_chain(encoded=encoded()), network_chain())


# ---------------------------------------------------------------- states


def test_without_a_rate_the_state_stays():
    transition, prior = networks()
    with torch.no_grad():
        for parameter in transition.parameters():
            parameter.zero_()
    chain = ResidualChain(random(SERIES, STATE, seed=4), transition, prior, STEPS, num_substeps=3)
    noise = random(SERIES, STEPS, NOISE, seed=8)
    assert torch.equal(chain.states(noise), chain.initial[:, None].expand(-1, STEPS, -1))
    chain.distances(noise).sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in transition.parameters())


def test_halving_the_step_halves_the_error():
    noise, (move, prior) = random(SERIES, STEPS, NOISE, seed=8), networks()

    smooth = nn.Sequential(nn.Linear(STATE + NOISE, 8), nn.Tanh(), nn.Linear(8, STATE)).double()
    move.velocity = smooth
    state, times = random(SERIES, STATE, seed=4), torch.linspace(0, 1, 65, dtype=torch.float64)
    for row in noise[:, 1:].unbind(1):

        def rate(time: Tensor, state: Tensor, row: Tensor = row) -> Tensor:
            return smooth(torch.cat([state, row], -1))

        state = odeint(rate, state, times, RK4()).path[..., -1, :]
    errors = []
    for n in (8, 16, 32, 64):
        chain = ResidualChain(random(SERIES, STATE, seed=4), move, prior, STEPS, num_substeps=n)
        errors.append(float((chain.states(noise)[:, -1] - state).norm().detach()))
    orders = [math.log2(before / after) for before, after in itertools.pairwise(errors)]
    assert all(abs(order - 1) < 0.1 for order in orders), orders


def test_rows_within_frames_lie_on_the_same_path():
    coarse = network_chain(num_substeps=4)
    noise = random(SERIES, STEPS, NOISE, seed=8)
    ticks = (0, *range(0, 17))
    fine = ResidualChain(coarse.initial, *networks(), 17, num_substeps=4, ticks=ticks)
    assert list(fine.frames) == [1, 5, 9, 13]
    dense_noise = random(SERIES, 17, NOISE, seed=9)
    dense_noise[:, list(fine.frames)] = noise[:, 1:]
    torch.testing.assert_close(fine.states(dense_noise)[:, ::4], coarse.states(noise), rtol=1e-12, atol=1e-12)


def test_distances_are_sums_of_norms_by_hand():
    chain, (move, _) = network_chain(num_substeps=3), networks()
    noise = random(SERIES, STEPS, NOISE, seed=8)
    state, expected = chain.initial, [torch.zeros(SERIES, dtype=torch.float64)]
    for row in range(1, STEPS):
        expected.append(torch.zeros(SERIES, dtype=torch.float64))
        for _ in range(3):
            after = move(state, noise[:, row], 1 / 3)
            expected[-1] = expected[-1] + (after - state).square().sum(-1).sqrt()
            state = after
    torch.testing.assert_close(chain.distances(noise), torch.stack(expected, -1), rtol=1e-12, atol=1e-12)


def test_a_state_does_not_depend_on_later_noise():
    chain = network_chain()
    slope = jacobian(lambda noise: chain.states(noise)[0], random(SERIES, STEPS, NOISE, seed=8))[:, :, 0]
    reach = slope.abs().amax((1, 3)) > 0
    assert torch.equal(reach, torch.ones(STEPS, STEPS).tril().bool() & (torch.arange(STEPS) > 0))


# ---------------------------------------------------------------- without noise, and errors


def test_a_chain_without_noise_is_a_path():
    chain = ResidualChain(random(SERIES, STATE, seed=4), Linear(0), None, STEPS)
    empty = torch.zeros(SERIES, STEPS, 0, dtype=torch.float64)
    growth = torch.eye(STATE, dtype=torch.float64) + 0.5 * random(STATE, STATE, seed=1)
    expected = chain.initial @ torch.linalg.matrix_power(growth, STEPS - 1)
    torch.testing.assert_close(chain.states(empty)[:, -1], expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(chain.log_prob(empty), torch.zeros(SERIES, dtype=torch.float64))


def test_errors_name_the_argument():
    with pytest.raises(ShapeError, match=r"`num_steps` = 5 must be the time axis of all parts. Got {'valid': 4}"):
        linear_chain(valid=torch.ones(SERIES, 4, dtype=torch.bool))
    with pytest.raises(ShapeError, match=r"`ticks` must be the Euler steps passed"):
        linear_chain(ticks=(0, 0, 1, 3, 4, 5))
    with pytest.raises(ShapeError, match=r"`held` must be the noise of the frame that tick 1 is within"):
        linear_chain(num_substeps=2, ticks=(1, 2, 3, 4, 5, 6))
