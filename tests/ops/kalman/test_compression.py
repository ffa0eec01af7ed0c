"""Many observations with independent noise: as the dense form has it, and as the joint Gaussian of a series does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.ops.kalman import LinearGaussianParameters, kalman_filter, kalman_smoother, sample_posterior
from pyro_seq.ops.kalman import system as systems

STATE, OBS, BATCH, TIME = 3, 9, (2,), 4
ROUTES = pytest.mark.parametrize("is_parallel", [False, True], ids=["steps", "scan"])
KINDS = pytest.mark.parametrize("varying", [False, True], ids=["shared", "varying"])
HIDING = pytest.mark.parametrize("is_hidden", [False, True], ids=["whole", "hidden"])


def sensors(varying: bool = False, obs: int = OBS) -> tuple[Tensor, LinearGaussianParameters, Tensor]:
    """Values far from zero; of the last state nothing is seen; one step and one series are hidden as a whole."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    def cov(*shape: int) -> Tensor:
        root = normal(*shape, STATE, STATE)
        return root @ root.mT / STATE + 0.1 * torch.eye(STATE, dtype=torch.float64)

    lead = (*BATCH, TIME) if varying else ()
    observation = normal(*lead, obs, STATE)
    observation[..., -1] = 0
    noise = torch.diag_embed(normal(*lead, obs).abs() + 0.2)
    parameters = LinearGaussianParameters(
        0.6 * normal(*lead, STATE, STATE), cov(*lead), observation, noise, normal(*BATCH, STATE), cov()
    )
    mask = torch.rand(*BATCH, TIME, obs, generator=generator) < 0.6
    mask[0, 2], mask[1] = False, mask[1] & (torch.arange(TIME) > 1)[:, None]
    return 30 + normal(*BATCH, TIME, obs), parameters, mask


def moments(values: Tensor, parameters: LinearGaussianParameters, mask: Tensor | None, is_parallel: bool):
    filtered = kalman_filter(values, parameters, mask, is_parallel=is_parallel)
    smoothed = kalman_smoother(values, parameters, mask, is_parallel=is_parallel)
    generator = torch.Generator().manual_seed(0)
    draws = sample_posterior(values, parameters, mask, num_samples=2, generator=generator, is_parallel=is_parallel)
    return (*filtered, *smoothed, draws)


def with_gradients(is_compressed: bool, *case, is_parallel: bool, monkeypatch) -> tuple[list[Tensor], list[Tensor]]:
    """Moments and draws, and gradients of a random function of all of them; those of covariances symmetric."""
    monkeypatch.setattr(systems, "is_compression_faster", lambda *sizes: is_compressed)
    values, parameters, mask = case
    leaves = [leaf.clone().requires_grad_() for leaf in (values, *parameters[:6])]
    found = moments(leaves[0], LinearGaussianParameters(*leaves[1:]), mask, is_parallel)
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(x.shape, dtype=x.dtype, generator=generator) for x in found]
    gradients = list(torch.autograd.grad(found, leaves, cotangents))
    for place in (2, 4, 6):
        gradients[place] = (gradients[place] + gradients[place].mT) / 2
    return [x.detach() for x in found], gradients


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    """To a relative 1e-11 of the largest entry: products of some ten numbers."""
    for got, wanted in zip(found, expected, strict=True):
        assert float((got - wanted).abs().max()) <= 1e-11 * float(wanted.abs().max())


@ROUTES
@KINDS
@HIDING
def test_values_draws_and_gradients_are_those_of_the_dense_form(varying, is_hidden, is_parallel, monkeypatch):
    """Gradients of entries of R off the diagonal too, by which a noise may become correlated."""
    values, parameters, mask = sensors(varying)
    case = values, parameters, mask if is_hidden else None
    dense = with_gradients(False, *case, is_parallel=is_parallel, monkeypatch=monkeypatch)
    compressed = with_gradients(True, *case, is_parallel=is_parallel, monkeypatch=monkeypatch)
    assert_close(compressed[0], dense[0])
    assert_close(compressed[1], dense[1])
    off_diagonal = compressed[1][4] - compressed[1][4].diagonal(dim1=-2, dim2=-1).diag_embed()
    assert float(off_diagonal.abs().max()) > 1


def test_the_likelihood_is_that_of_the_joint_gaussian():
    values, parameters, mask = sensors()
    (transition, process, observation, noise, start, cov), value, seen = parameters[:6], values[0], mask[0].flatten()
    means, covs = [start[0]], {(0, 0): cov}
    for t in range(1, TIME):
        means.append(transition @ means[-1])
        for s in range(t):
            covs[t, s] = transition @ covs[t - 1, s]
            covs[s, t] = covs[t, s].mT
        covs[t, t] = transition @ covs[t - 1, t - 1] @ transition.mT + process
    whole = torch.cat([torch.cat([covs[t, s] for s in range(TIME)], 1) for t in range(TIME)])
    design = torch.block_diag(*[observation] * TIME)
    joint = design @ whole @ design.mT + torch.block_diag(*[noise] * TIME)
    mean = design @ torch.cat(means)
    expected = MultivariateNormal(mean[seen], joint[seen][:, seen]).log_prob(value.flatten()[seen])
    found = kalman_filter(value, parameters._replace(initial_mean=start[0]), mask[0]).log_likelihood
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@ROUTES
def test_gradients_of_gradients(is_parallel):
    values, parameters, mask = sensors(obs=8)
    leaves = [leaf.clone().requires_grad_() for leaf in (values, *parameters[:6])]
    leaves[4] = parameters.observation_cov.diagonal().clone().requires_grad_()

    def likelihood(values, transition, process, observation, noise, start, cov):
        covs = [(x + x.mT) / 2 for x in (process, cov)]
        model = LinearGaussianParameters(transition, covs[0], observation, torch.diag(noise), start, covs[1])
        return kalman_filter(values, model, mask, is_parallel=is_parallel).log_likelihood

    assert systems.prepare(values, parameters, mask, may_rearrange=True).is_compressed
    assert torch.autograd.gradcheck(likelihood, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(likelihood, leaves, fast_mode=True)
    # the form that can be differentiated again is another one
    plain = torch.autograd.grad(likelihood(*leaves).sum(), leaves)
    again = torch.autograd.grad(likelihood(*leaves).sum(), leaves, create_graph=True)
    assert_close([gradient.detach() for gradient in again], list(plain))


def test_nothing_as_large_as_the_observations_is_factored(monkeypatch):
    sizes = []
    for name in ("cholesky_ex", "cholesky"):
        original = getattr(torch.linalg, name)
        monkeypatch.setattr(torch.linalg, name, lambda x, f=original: sizes.append(x.shape[-1]) or f(x))
    values, parameters, mask = sensors(obs=300)
    moments(values, parameters, mask, False)
    assert set(sizes) == {STATE}


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model._replace(observation_cov=model.observation_cov + 0.1),  # correlated
        lambda model: model._replace(observation_cov=model.observation_cov * (torch.arange(OBS) > 0)),  # noiseless
        lambda model: model._replace(observation=model.observation[:7], observation_cov=model.observation_cov[:7, :7]),
    ],
)
def test_other_observations_stay_as_they_are(change):
    values, parameters, _ = sensors()
    changed = change(parameters)
    system = systems.prepare(values[..., : changed.observation.shape[-2]], changed, None, may_rearrange=True)
    assert not system.is_compressed


def test_covariances_that_all_series_share_are_computed_once():
    values, parameters, mask = sensors()
    assert systems.prepare(values, parameters, None, may_rearrange=True).num_covs == 1
    assert systems.prepare(values, parameters, mask, may_rearrange=True).num_covs == 2
    assert kalman_filter(values, parameters).filtered_covs.stride(0) == 0


def test_single_precision_keeps_its_digits():
    """The likelihood is some thousand nats; values lie 30 units from zero, with noise of one."""
    values, parameters, mask = sensors(obs=400)
    single = LinearGaussianParameters(*(x.float() for x in parameters[:6]))
    found = LinearGaussian(single, TIME, mask=mask).log_prob(values.float()).double()
    exact = LinearGaussian(parameters, TIME, mask=mask).log_prob(values)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=0)
