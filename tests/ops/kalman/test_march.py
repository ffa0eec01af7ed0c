"""The march over parts of the series: against the dense Gaussian, and against the loop that keeps all steps."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.ops.kalman import (
    LinearGaussianParameters,
    _filter_gradient,
    _march,
    _smoother,
    kalman_filter,
    kalman_smoother,
    sample_posterior,
)
from pyro_seq.ops.kalman._choice import is_march_faster
from pyro_seq.ops.kalman.system import MOSTLY, most_seen, prepare
from tests.ops.kalman.cases import CASES, dense, largest, of_series

TIME = 7
# leading axes of A and C, and of the series
AXES = [
    ((), ()),
    ((), (5,)),
    ((5, TIME), (5,)),
    ((5, 1), (5,)),
    ((1, TIME), (5,)),
    ((3, 1, TIME), (3, 2)),
    ((1, 2, 1), (3, 2)),
]


def choose(monkeypatch, is_march: bool) -> None:
    for module in (_filter_gradient, _smoother):
        monkeypatch.setattr(module, "is_march_faster", lambda system: is_march)


def leaves(lead, batch, state=3, obs=2, time=TIME) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    unit, unit_obs = torch.eye(state, dtype=torch.float64), torch.eye(obs, dtype=torch.float64)
    tensors = [
        normal(*batch, time, obs),
        0.9 * unit + 0.2 * normal(*lead, state, state),
        0.2 * unit,
        normal(*lead, obs, state),
        0.3 * unit_obs,
        normal(state),
        5 * unit,
        normal(state, 2),
        normal(*batch, time, 2),
    ]
    return [tensor.clone().requires_grad_() for tensor in tensors]


def outputs(tensors, mask) -> list[torch.Tensor]:
    values, *parameters = tensors
    linear = LinearGaussianParameters(*parameters)
    generator = torch.Generator().manual_seed(2)
    return [
        *kalman_filter(values, linear, mask, is_parallel=False),
        *kalman_smoother(values, linear, mask, is_parallel=False),
        sample_posterior(values, linear, mask, num_samples=3, generator=generator, is_parallel=False),
    ]


def with_gradients(tensors, mask, *, twice: bool = False) -> list[torch.Tensor]:
    results = outputs(tensors, mask)
    generator = torch.Generator().manual_seed(3)
    cotangents = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in results]
    gradients = list(torch.autograd.grad(results, tensors, cotangents, create_graph=twice))
    if twice:
        gradients += torch.autograd.grad(sum(x.square().sum() for x in gradients), tensors)
    # of a covariance only the symmetric part of the gradient is defined
    number = len(tensors)
    gradients = [x + x.mT if k % number in (2, 4, 6) else x for k, x in enumerate(gradients)]
    return [x.detach() for x in results] + gradients


def require_close(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() <= 1e-11 * other.norm()


@pytest.mark.parametrize("case", CASES)
def test_dense_gaussian(case, monkeypatch):
    choose(monkeypatch, True)
    smoothed = kalman_smoother(*case, is_parallel=False)
    filtered = kalman_filter(*case, is_parallel=False)
    for place in [(0, 0), (1, 3)]:
        exact = dense(of_series(case, place))
        assert largest(smoothed.smoothed_means[place] - exact.means()) < 1e-10
        for t in range(case.values.shape[-2] - 1):
            assert largest(smoothed.smoothed_covs[place][t] - exact.block(t, t)) < 1e-10
            assert largest(smoothed.cross_covs[place][t] - exact.block(t, t + 1)) < 1e-10
        assert abs(float(filtered.log_likelihood[place] - exact.log_likelihood)) < 1e-9


@pytest.mark.parametrize(("lead", "batch"), AXES)
@pytest.mark.parametrize("hidden", [False, True])
def test_values_and_gradients_of_the_loop(lead, batch, hidden, monkeypatch):
    tensors = leaves(lead, batch)
    mask = torch.rand(*batch, TIME, 2, generator=torch.Generator().manual_seed(4)) < 0.7 if hidden else None
    choose(monkeypatch, False)
    expected = with_gradients(tensors, mask)
    choose(monkeypatch, True)
    require_close(with_gradients(tensors, mask), expected)


def test_gradients_of_gradients(monkeypatch):
    tensors = leaves((5, TIME), (5,))
    choose(monkeypatch, False)
    expected = with_gradients(tensors, None, twice=True)
    choose(monkeypatch, True)
    require_close(with_gradients(tensors, None, twice=True), expected)


def test_parts_do_not_matter(monkeypatch):
    tensors = leaves((5, TIME), (5,))
    choose(monkeypatch, True)
    expected = with_gradients(tensors, None)
    monkeypatch.setattr(_march, "CACHED", 2 * 9 * 8)
    assert [part.stop - part.start for part in _march.parts(5, 3, tensors[0])] == [2, 2, 1]
    require_close(with_gradients(tensors, None), expected)


def test_covariances_that_have_stopped_to_change_are_kept(monkeypatch):
    # the same matrices with an axis of time are not looked at
    time = 300
    tensors = leaves((), (4,), time=time)
    choose(monkeypatch, True)
    looks = []
    is_same = _march.is_same
    monkeypatch.setattr(_march, "is_same", lambda *covs: looks.append(is_same(*covs)) or looks[-1])
    found = outputs(tensors, None)
    assert looks[-1] and len(looks) < 2 * time / _march.OFTEN  # of three filters
    looks.clear()
    values, transition, *others = tensors
    expected = outputs([values, transition.expand(time, -1, -1), *others], None)
    assert not looks
    require_close(found, expected)


def test_hidden_entries_are_left_out(monkeypatch):
    tensors = leaves((), (5,), obs=12)
    root = torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    tensors[4] = (root @ root.T + torch.eye(12, dtype=torch.float64)).requires_grad_()
    mask = torch.rand(5, TIME, 12, generator=torch.Generator().manual_seed(5)) < 0.2
    mask[:, 2] = False
    linear = LinearGaussianParameters(*tensors[1:])
    counts = prepare(tensors[0], linear, mask, may_rearrange=True).counts
    assert counts == tuple(mask.sum(-1).amax(0).tolist()) and sum(counts) < MOSTLY * 12 * TIME
    assert prepare(tensors[0], linear, mask).counts is None
    choose(monkeypatch, True)
    found = with_gradients(tensors, mask)
    choose(monkeypatch, False)
    monkeypatch.setattr("pyro_seq.ops.kalman.system.most_seen", lambda seen: None)
    require_close(found, with_gradients(tensors, mask))


def test_few_entries_or_few_gaps_stay_as_they_are():
    assert most_seen(torch.ones(3, TIME, 12, dtype=torch.bool)) is None
    assert most_seen(torch.zeros(3, TIME, 2, dtype=torch.bool)) is None


def test_large_states_and_many_shared_series_march():
    def is_chosen(state: int, num_series: int, *, is_shared: bool) -> bool:
        unit = torch.eye(state, dtype=torch.float64)
        noise = unit if is_shared else unit.expand(num_series, 1, state, state)
        linear = LinearGaussianParameters(0.9 * unit, noise, unit[:1], unit[:1, :1], 0 * unit[0], unit)
        return is_march_faster(prepare(torch.zeros(num_series, 3, 1, dtype=torch.float64), linear, None))

    assert is_chosen(16, 32, is_shared=False) and is_chosen(8, 500, is_shared=True)
    assert not is_chosen(4, 500, is_shared=False) and not is_chosen(4, 500, is_shared=True)
    assert is_chosen(4, 2000, is_shared=True)
