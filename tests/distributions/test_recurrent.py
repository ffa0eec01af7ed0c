"""Recurrent paths: against the dense Gaussian of a linear recursion, and a draw against the density of it."""

from __future__ import annotations

import pytest
import torch
from pyro.distributions import Normal
from torch import Tensor
from torch.autograd.functional import jacobian

from pyro_seq.distributions.recurrent import RecurrentPath
from pyro_seq.errors import ShapeError
from pyro_seq.nn.recurrent import LSTMTransition
from pyro_seq.testing import assert_close_mc

SERIES, STEPS, CODE = 3, 6, 2
MATRIX = torch.tensor([[0.9, 0.3], [-0.2, 0.7]], dtype=torch.float64)
SCALE = torch.tensor([0.5, 1.3], dtype=torch.float64)
START = Normal(torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([0.7, 0.2], dtype=torch.float64))
HIDDEN = torch.tensor([[0, 1, 1, 0, 0, 1], [1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def autoregression(previous: Tensor, memory: tuple) -> tuple[Normal, tuple]:
    """A linear transition of first order, which needs no memory."""
    return Normal(previous @ MATRIX.mT, SCALE.expand_as(previous)), memory


def lstm() -> LSTMTransition:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transition = LSTMTransition(CODE, 5).double()
    with torch.no_grad():
        transition.log_scale.copy_(torch.tensor([-0.3, 0.4]))
    return transition


def linear_path(**options) -> RecurrentPath:
    return RecurrentPath(START.expand((SERIES, CODE)), autoregression, STEPS, **options)


def lstm_path(transition: LSTMTransition | None = None, **options) -> RecurrentPath:
    transition = lstm() if transition is None else transition
    return RecurrentPath(START.expand((SERIES, CODE)), transition, STEPS, **options)


def encoded(seed: int = 5) -> Normal:
    return Normal(random(SERIES, STEPS, CODE, seed=seed), 0.1 + random(SERIES, STEPS, CODE, seed=seed + 1).exp())


def dense_moments() -> tuple[Tensor, Tensor]:
    """Mean (time * code) and covariance of the linear path, written out block by block."""
    powers = [torch.linalg.matrix_power(MATRIX, k) for k in range(STEPS)]
    marginals = [torch.diag(START.scale**2)]
    for _ in range(STEPS - 1):
        marginals.append(MATRIX @ marginals[-1] @ MATRIX.mT + torch.diag(SCALE**2))
    rows = []
    for i in range(STEPS):
        row = [powers[i - j] @ marginals[j] if i >= j else (powers[j - i] @ marginals[i]).mT for j in range(STEPS)]
        rows.append(torch.cat(row, 1))
    return torch.cat([power @ START.loc for power in powers]), torch.cat(rows, 0)


# ---------------------------------------------------------------- closed form


def test_density_of_a_linear_path_is_the_dense_gaussian():
    value = random(4, SERIES, STEPS, CODE)
    exact = torch.distributions.MultivariateNormal(*dense_moments()).log_prob(value.flatten(-2))
    torch.testing.assert_close(linear_path().log_prob(value), exact, rtol=1e-12, atol=1e-12)


def test_draws_of_a_linear_path_have_the_dense_mean_and_covariance():
    """`follow` is linear in the noise, so its Jacobian is a square root of the covariance: no draw is needed."""
    path = RecurrentPath(START, autoregression, STEPS)
    zeros = torch.zeros(STEPS, CODE, dtype=torch.float64)
    root = jacobian(path.follow, zeros).reshape(STEPS * CODE, STEPS * CODE)
    mean, covariance = dense_moments()
    torch.testing.assert_close(path.follow(zeros).flatten(), mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(root @ root.mT, covariance, rtol=1e-12, atol=1e-12)


def test_rsample_follows_standard_normal_noise():
    torch.manual_seed(0)
    draws = RecurrentPath(START, autoregression, STEPS).rsample((4000,)).flatten(-2)
    mean, covariance = dense_moments()
    assert_close_mc(draws, mean)
    assert_close_mc((draws - mean).square(), covariance.diagonal())


@pytest.mark.parametrize("seen", [~HIDDEN, torch.ones_like(HIDDEN), torch.zeros_like(HIDDEN)])
def test_density_with_encoded_steps_is_that_of_its_draws(seen):
    """Mean and covariance of the draws, by the Jacobian, give the density by another route."""
    path, value = linear_path(encoded=encoded(), seen=seen), random(SERIES, STEPS, CODE, seed=3)
    zeros = torch.zeros(SERIES, STEPS, CODE, dtype=torch.float64)
    roots = jacobian(path.follow, zeros).reshape(SERIES, STEPS * CODE, SERIES, STEPS * CODE)
    for series in range(SERIES):
        root, mean = roots[series, :, series], path.follow(zeros)[series].flatten()
        exact = torch.distributions.MultivariateNormal(mean, root @ root.mT).log_prob(value[series].flatten())
        torch.testing.assert_close(path.log_prob(value)[series], exact, rtol=1e-9, atol=1e-9)
        for other in set(range(SERIES)) - {series}:
            assert not roots[series, :, other].any()


# ---------------------------------------------------------------- two routes


def test_sequential_draw_replays_the_parallel_density():
    path, value = lstm_path(), random(4, SERIES, STEPS, CODE)
    steps = path.conditionals(value)
    noise = (value - steps.loc) / steps.scale
    torch.testing.assert_close(path.follow(noise), value, rtol=1e-12, atol=1e-12)
    by_noise = (Normal(0.0, 1.0).log_prob(noise) - steps.scale.log()).sum((-1, -2))
    torch.testing.assert_close(path.log_prob(value), by_noise, rtol=1e-12, atol=1e-12)


def test_hidden_steps_have_the_density_of_the_prior_and_seen_steps_the_encoded_one():
    transition = lstm()
    prior, guide = lstm_path(transition), lstm_path(transition, encoded=encoded(), seen=~HIDDEN)
    value = random(SERIES, STEPS, CODE, seed=2)
    got, before, code = guide.conditionals(value), prior.conditionals(value), encoded()
    for field in ("loc", "scale"):
        expected = torch.where(HIDDEN[..., None], getattr(before, field), getattr(code, field))
        assert torch.equal(getattr(got, field), expected)


def test_hidden_steps_cancel_in_the_bound_and_in_its_gradient():
    transition, value = lstm(), random(SERIES, STEPS, CODE, seed=2)
    seen = torch.zeros_like(HIDDEN)
    seen[:, 0] = True
    guide = lstm_path(transition, encoded=encoded(), seen=seen)
    gap = guide.log_prob(value) - lstm_path(transition).log_prob(value)
    first = Normal(encoded().loc[:, 0], encoded().scale[:, 0]).log_prob(value[:, 0]) - START.log_prob(value[:, 0])
    torch.testing.assert_close(gap, first.sum(-1), rtol=1e-12, atol=1e-12)
    trained = [*transition.recurrence.lstm.parameters(), *transition.head.parameters(), transition.log_scale]
    for gradient in torch.autograd.grad(gap.sum(), trained):
        assert float(gradient.abs().max()) < 1e-12


def test_zero_noise_feeds_the_prediction_back():
    transition = lstm()
    path = lstm_path(transition).follow(torch.zeros(SERIES, STEPS, CODE, dtype=torch.float64))
    whole, _ = transition(path)
    torch.testing.assert_close(path[:, 1:], whole.loc[:, :-1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_density_splits_into_the_beginning_and_its_future(steps):
    transition, value = lstm(), random(4, SERIES, STEPS, CODE)
    start = START.expand((SERIES, CODE))
    beginning = RecurrentPath(start, transition, steps)
    future = beginning.future(value[..., :steps, :], STEPS - steps)
    assert future.batch_shape == (4, SERIES) and future.event_shape == (STEPS - steps, CODE)
    joined = beginning.log_prob(value[..., :steps, :]) + future.log_prob(value[..., steps:, :])
    torch.testing.assert_close(joined, lstm_path(transition).log_prob(value), rtol=1e-12, atol=1e-12)
    twice = future.future(value[..., steps:5, :], 1) if steps < 5 else future
    torch.testing.assert_close(
        twice.log_prob(value[..., 5:, :]),
        lstm_path(transition).conditionals(value).log_prob(value)[..., 5, :].sum(-1),
        rtol=1e-12,
        atol=1e-12,
    )


def test_future_draws_are_the_rest_of_one_long_draw():
    path, noise = lstm_path(), random(SERIES, STEPS, CODE)
    whole = path.follow(noise)
    future = RecurrentPath(START.expand((SERIES, CODE)), path.transition, 2).future(whole[:, :2], STEPS - 2)
    torch.testing.assert_close(future.follow(noise[:, 2:]), whole[:, 2:], rtol=1e-12, atol=1e-12)


def test_a_future_expands_with_its_memory():
    transition, value = lstm(), random(SERIES, 2, CODE)
    future = RecurrentPath(START.expand((SERIES, CODE)), transition, 2).future(value, 3)
    more = random(4, SERIES, 3, CODE)
    expected = torch.stack([future.log_prob(one) for one in more])
    torch.testing.assert_close(future.expand((4, SERIES)).log_prob(more), expected, rtol=1e-12, atol=1e-12)
    noise = random(4, SERIES, 3, CODE, seed=9)
    expected = torch.stack([future.follow(one) for one in noise])
    torch.testing.assert_close(future.expand((4, SERIES)).follow(noise), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("is_given", [False, True])
def test_leading_axes_are_paths_one_by_one(is_given):
    path = lstm_path(**({"encoded": encoded(), "seen": ~HIDDEN} if is_given else {}))
    values = random(4, SERIES, STEPS, CODE)
    wanted = torch.stack([path.log_prob(value) for value in values])
    torch.testing.assert_close(path.expand((4, SERIES)).log_prob(values), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(path.log_prob(values), wanted, rtol=1e-12, atol=1e-12)
    one = values[0]
    torch.testing.assert_close(
        path.expand((4, SERIES)).log_prob(one), path.log_prob(one).expand(4, -1), rtol=1e-12, atol=1e-12
    )
    wanted = torch.stack([path.follow(value) for value in values])
    torch.testing.assert_close(path.follow(values), wanted, rtol=1e-12, atol=1e-12)
    assert path.expand((4, SERIES)).rsample((2,)).shape == (2, 4, SERIES, STEPS, CODE)
    assert path.expand((SERIES,)) is path


# ---------------------------------------------------------------- what does not count


def test_steps_that_are_not_valid_count_nothing():
    lengths = torch.tensor([2, 6, 0])
    valid = torch.arange(STEPS) < lengths[:, None]
    path, value = lstm_path(valid=valid), random(SERIES, STEPS, CODE)
    terms = lstm_path().conditionals(value).log_prob(value).sum(-1)
    expected = torch.stack([terms[0, :2].sum(), terms[1].sum(), torch.zeros((), dtype=torch.float64)])
    torch.testing.assert_close(path.log_prob(value), expected, rtol=1e-12, atol=1e-12)
    other = torch.where(valid[..., None], value, torch.full_like(value, 1e3))
    torch.testing.assert_close(path.log_prob(other), expected, rtol=1e-12, atol=1e-12)
    assert path.expand((4, SERIES)).log_prob(value).shape == (4, SERIES)


def test_a_path_of_no_steps():
    path = RecurrentPath(START.expand((SERIES, CODE)), lstm(), 0)
    assert path.rsample().shape == (SERIES, 0, CODE)
    assert torch.equal(path.log_prob(path.rsample()), torch.zeros(SERIES, dtype=torch.float64))


@pytest.mark.parametrize("seen", [None, ~HIDDEN])
def test_draws_carry_gradients(seen):
    transition, code = lstm(), encoded()
    code.loc.requires_grad_()
    draw = lstm_path(transition, encoded=code, seen=seen).rsample()
    draw.square().sum().backward()
    where = torch.ones_like(HIDDEN) if seen is None else seen
    assert bool((code.loc.grad != 0)[where].all()) and not bool(code.loc.grad[~where].any())
    reached = transition.head.weight.grad is not None
    assert reached == (seen is not None)


def test_errors_name_the_argument():
    with pytest.raises(ShapeError, match=r"`initial` must have the batch shape \(..., code\)"):
        RecurrentPath(Normal(0.0, 1.0), autoregression, 3)
    with pytest.raises(ShapeError, match=r"`num_steps` = 6 .*'valid': 4"):
        linear_path(valid=torch.ones(SERIES, 4, dtype=torch.bool))
    with pytest.raises(ShapeError, match=r"'encoded': 6, 'seen': 6"):
        RecurrentPath(START, autoregression, 5, encoded=encoded(), seen=~HIDDEN)


def test_the_path_of_means_feeds_back_its_own_predictions():
    path = lstm_path()
    means = path.path_of_means()
    assert means.shape == path.batch_shape + path.event_shape
    torch.testing.assert_close(means, path.conditionals(means).loc, rtol=0, atol=1e-12)
