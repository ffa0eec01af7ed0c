"""Dynamics in continuous time: exact moves of mixed drifts, even grids, hidden steps, inputs, gaps that are read."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.distributions.mixed_dynamics import MixedLinearGaussian
from pyro_seq.errors import DataError
from pyro_seq.models.kalman_vae import KalmanVAE
from pyro_seq.nn.continuous_mixture import ContinuousDynamics
from pyro_seq.nn.mixture import LSTMMixture, MixedDynamics, WindowMixture
from pyro_seq.ops.kalman import LinearGaussianParameters
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.verbs import forecast, impute
from tests.dense_gaussian import CODE, STATE, normal, random_dynamics

TIME, SERIES, MODES = 6, 4, 3
KINDS = pytest.mark.parametrize("kind", ["continuous lstm", "continuous window", "continuous one"])


def gaps_between(*shape: int, seed: int = 9) -> Tensor:
    """Gaps (..., time, 1) between 0.2 and 1.7, as the last of the inputs."""
    return 0.2 + 1.5 * normal(*shape, TIME, 1, seed=seed).sigmoid()


def moves(dynamics: ContinuousDynamics, previous: Tensor, inputs: Tensor) -> LinearGaussianParameters:
    return dynamics(previous, inputs, None)[0]


@KINDS
@pytest.mark.parametrize("batch", [(), (SERIES,), (2, SERIES)], ids=str)
def test_a_move_is_the_exponential_of_the_mixed_drifts(kind, batch):
    """And its noise the integral, by Simpson's rule."""
    dynamics, previous, gaps = random_dynamics(kind), normal(*batch, TIME, CODE), gaps_between(*batch)
    parameters, weights = moves(dynamics, previous, gaps), dynamics.weights(previous, gaps)
    drift = torch.einsum("...k,kij->...ij", weights, dynamics.drift)
    diffusion = torch.einsum("...k,ki->...i", weights, dynamics.log_diffusion.exp()).diag_embed()
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), rtol=1e-14, atol=0)
    exact = torch.linalg.matrix_exp(drift * gaps[..., None])
    torch.testing.assert_close(parameters.transition, exact, rtol=1e-11, atol=1e-12)
    nodes, heights = simpson(gaps[..., 0])
    spread = torch.linalg.matrix_exp(drift * nodes[..., None, None])
    integral = (heights[..., None, None] * (spread @ diffusion @ spread.mT)).sum(0)
    torch.testing.assert_close(parameters.transition_cov, integral, rtol=1e-7, atol=1e-8)
    see = torch.einsum("...k,kij->...ij", weights, dynamics.observation)
    torch.testing.assert_close(parameters.observation.expand_as(see), see, rtol=1e-12, atol=1e-13)


def simpson(lengths: Tensor, pieces: int = 200) -> tuple[Tensor, Tensor]:
    """Nodes and weights, (node, ...), of an integral from 0 to lengths (...)."""
    heights = torch.tensor([2.0, 4.0] * (pieces // 2) + [1.0], dtype=torch.float64)
    heights[0] = 1.0
    shape = (-1,) + (1,) * lengths.ndim
    nodes = torch.linspace(0, 1, pieces + 1, dtype=torch.float64).reshape(shape) * lengths
    return nodes, heights.reshape(shape) * lengths / (3 * pieces)


def turning(rates: Tensor, angles: Tensor) -> Tensor:
    """Drifts (mode, 2, 2) that fade at rates and turn by angles a unit of time."""
    eye, turn = torch.eye(2, dtype=torch.float64), torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    return angles[:, None, None] * turn - rates[:, None, None] * eye


class Switch(torch.nn.Module):
    """All weight on one mode, by the sign of the last code; a gap after it is not read."""

    def __init__(self, size: int, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.start = torch.nn.Parameter(torch.zeros(size, dtype=torch.float64))

    def forward(self, previous: Tensor, memory: None) -> tuple[Tensor, None]:
        sign = (previous[..., :1] > 0).to(previous)
        return 1e4 * torch.cat([sign, 1 - sign], -1), None


@pytest.mark.parametrize("num_modes", [1, 2])
def test_on_an_even_grid_it_is_the_discrete_form_with_the_exponentials_of_its_drifts(num_modes):
    """Densities, imputations and forecasts, draw by draw."""
    rates, angles = torch.tensor([[0.2, 0.7], [0.9, -0.4]], dtype=torch.float64)[:, :num_modes]
    # of a drift that turns and fades, independent noise stays independent
    noise = torch.tensor([0.3, 0.5], dtype=torch.float64)[:num_modes]
    networks = [Switch(size, 2) if num_modes > 1 else None for size in (CODE + 1, CODE)]
    continuous = ContinuousDynamics(CODE, 2, num_modes, mixture=networks[0]).double()
    discrete = MixedDynamics(CODE, 2, num_modes, mixture=networks[1]).double()
    spread = noise * (1 - torch.exp(-2 * rates)) / (2 * rates)
    with torch.no_grad():
        continuous.drift.copy_(turning(rates, angles))
        continuous.observation.copy_(normal(num_modes, CODE, 2))
        # both modes gather the same noise in a unit of time, as the discrete form has one for all
        continuous.log_diffusion.copy_((noise * spread[0] / spread).log()[:, None].expand(-1, 2))
        discrete.transition.copy_(torch.linalg.matrix_exp(continuous.drift))
        discrete.observation.copy_(continuous.observation)
        discrete.log_transition_variance.fill_(float(spread[0].log()))
    data = Sequences(normal(SERIES, TIME, CODE, seed=1), times=2.5 * torch.arange(TIME))
    data = data.hide(normal(SERIES, TIME, seed=2) > 0.5)
    predicted = []
    for dynamics in (continuous, discrete):
        torch.manual_seed(0)
        model = KalmanVAE((CODE,), dynamics=dynamics).double()
        model.adapt(data)
        codes = normal(SERIES, TIME, CODE, seed=3)
        score = model.prior(data).log_prob(codes)
        filled = impute(GuidePosterior(model), data, num_samples=5, seed=1)
        ahead = forecast(GuidePosterior(model), data, horizon=4, num_samples=5, seed=1)
        predicted.append([score, filled.samples, ahead.samples, ahead.latents["states_future"]])
    for got, expected in zip(*predicted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_a_hidden_step_changes_nothing_at_the_others_with_one_mode():
    dynamics, gaps = random_dynamics("continuous one"), gaps_between(SERIES)
    codes, hidden = normal(SERIES, TIME, CODE), 3
    mask = torch.ones(SERIES, TIME, 1, dtype=torch.bool)
    mask[:, hidden] = False
    whole = MixedLinearGaussian(dynamics, TIME, inputs=gaps).given(codes, mask)
    rest = [step for step in range(TIME) if step != hidden]
    joined = gaps.clone()
    joined[:, hidden + 1] += joined[:, hidden]
    without = MixedLinearGaussian(dynamics, TIME - 1, inputs=joined[:, rest]).given(codes[:, rest])
    torch.testing.assert_close(whole.log_prob(codes), without.log_prob(codes[:, rest]), rtol=1e-11, atol=0)
    smoothed, expected = whole.smooth(codes), without.smooth(codes[:, rest])
    torch.testing.assert_close(smoothed.smoothed_covs[:, rest], expected.smoothed_covs, rtol=1e-10, atol=1e-12)


def test_an_input_is_held_over_the_gap():
    """Two half gaps with one input move the state as the whole gap does."""
    dynamics, previous = random_dynamics("continuous one", input_dim=2), normal(2, CODE)
    inputs = normal(2, 2, seed=4)[:1].expand(2, -1)
    halves = moves(dynamics, previous, torch.cat([inputs, torch.full((2, 1), 0.7)], -1))
    whole = moves(dynamics, previous, torch.cat([inputs, torch.full((2, 1), 1.4)], -1))
    shift = (halves.input_matrix @ halves.inputs[..., None])[0]
    state = normal(STATE, 1, seed=5)
    twice = halves.transition[0] @ (halves.transition[0] @ state + shift) + shift
    once = whole.transition[0] @ state + whole.input_matrix[0] @ whole.inputs[0, :, None]
    torch.testing.assert_close(twice, once, rtol=1e-12, atol=1e-12)
    start = moves(dynamics, previous, torch.cat([inputs, torch.zeros(2, 1)], -1))
    assert not bool(start.input_matrix.any()), "no time, no shift"


@pytest.mark.parametrize("kind", ["continuous lstm", "continuous window"])
@pytest.mark.parametrize("cuts", [(1,) * TIME, (2, 4), (5, 1)], ids=str)
def test_one_call_equals_several_with_memory(kind, cuts):
    dynamics, previous, gaps = random_dynamics(kind), normal(SERIES, TIME, CODE), gaps_between(SERIES)
    whole = moves(dynamics, previous, gaps)
    memory, parts = None, []
    for codes, waits in zip(previous.split(cuts, -2), gaps.split(cuts, -2), strict=True):
        parameters, memory = dynamics(codes, waits, memory)
        parts.append(parameters.transition)
    torch.testing.assert_close(torch.cat(parts, -3), whole.transition, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ["continuous lstm", "continuous window"])
def test_weights_read_codes_before_a_step_and_gaps_up_to_it(kind):
    dynamics, previous, gaps = random_dynamics(kind), normal(SERIES, TIME, CODE), gaps_between(SERIES)
    before = dynamics.weights(previous, gaps)
    for step in range(TIME):
        for is_code in (False, True):
            changed = previous.clone(), gaps.clone()
            changed[0 if is_code else 1][:, step] += 1.0
            after = dynamics.weights(*changed)
            assert torch.equal(before[:, :step], after[:, :step])
            assert bool((before != after).any(-1)[:, step].all())


@pytest.mark.parametrize("kind", ["continuous lstm", "continuous window"])
def test_the_code_before_the_first_is_what_the_network_has_learned(kind):
    dynamics = random_dynamics(kind)
    assert torch.equal(dynamics.start, dynamics.mixture.start[:CODE]) and dynamics.start.shape == (CODE,)


def test_one_mode_has_no_network_and_shares_what_does_not_depend_on_time():
    dynamics = ContinuousDynamics(CODE, STATE, 1)
    assert dynamics.mixture is None and torch.equal(dynamics.start, torch.zeros(CODE))
    parameters = moves(dynamics, torch.zeros(TIME, CODE), torch.ones(TIME, 1))
    assert parameters.observation.shape == (CODE, STATE) and parameters.transition.shape == (TIME, STATE, STATE)
    assert parameters.input_matrix is None and parameters.inputs is None
    torch.testing.assert_close(parameters.transition_cov, 0.08 * torch.eye(STATE).expand(TIME, -1, -1))
    assert torch.equal(dynamics.weights(torch.zeros(TIME, CODE), torch.ones(TIME, 1)), torch.ones(TIME, 1))


def test_errors_name_the_argument():
    with pytest.raises(DataError, match=r"`mixture` must have .* = 3 outputs. Got one with 4"):
        ContinuousDynamics(CODE, STATE, 3, mixture=LSTMMixture(CODE + 1, 4))
    with pytest.raises(DataError, match="must read codes of size 3, the `code_dim` and one for the gap. Got one for 2"):
        ContinuousDynamics(CODE, STATE, 3, mixture=WindowMixture(CODE, 3))
    with pytest.raises(DataError, match="all variances must be positive"):
        ContinuousDynamics(CODE, STATE, diffusion=0.0)
    with pytest.raises(DataError, match="`input_dim` must be a whole number from 0"):
        ContinuousDynamics(CODE, STATE, input_dim=-1)
    with pytest.raises(DataError, match="depend on the gaps. Got none"):
        ContinuousDynamics(CODE, STATE).weights(torch.zeros(TIME, CODE))
