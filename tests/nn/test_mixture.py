"""Mixture networks: memory, causality, one mode, inputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyro_seq.errors import DataError
from pyro_seq.models.kalman_vae import KalmanVAE
from pyro_seq.nn.mixture import LSTMMixture, MixedDynamics, WindowMixture
from tests.dense_gaussian import CODE, STATE, normal, random_dynamics

TIME, MODES = 7, 3
MAKERS = {
    "lstm": lambda: LSTMMixture(CODE, MODES, hidden_dim=6),
    "window of 1": lambda: WindowMixture(CODE, MODES, length=1, hidden_dims=(6,)),
    "window of 2": lambda: WindowMixture(CODE, MODES, length=2, hidden_dims=(6,)),
    "window of 5": lambda: WindowMixture(CODE, MODES, length=5, hidden_dims=(6, 5)),
    "window longer than the series": lambda: WindowMixture(CODE, MODES, length=TIME + 3, hidden_dims=(6,)),
}
NETWORKS = pytest.mark.parametrize("name", MAKERS)


def network(name: str) -> nn.Module:
    made = MAKERS[name]().double()
    with torch.no_grad():
        for seed, parameter in enumerate(made.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=seed))
    return made


@NETWORKS
@pytest.mark.parametrize("batch", [(), (4,), (2, 4)], ids=str)
@pytest.mark.parametrize("cuts", [(1,) * TIME, (2, 5), (6, 1)], ids=str)
def test_one_call_equals_several_with_memory(name, batch, cuts):
    made, previous = network(name), normal(*batch, TIME, CODE)
    whole, last = made(previous, None)
    assert whole.shape == (*batch, TIME, MODES)
    memory, parts = None, []
    for part in previous.split(cuts, -2):
        outputs, memory = made(part, memory)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts, -2), whole, rtol=1e-12, atol=1e-12)
    for got, expected in zip(memory, last, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@NETWORKS
def test_memory_of_a_series_serves_many_draws_of_what_follows(name):
    made, past, ahead = network(name), normal(4, 3, CODE), normal(5, 4, 2, CODE, seed=1)
    _, memory = made(past, None)
    together, _ = made(ahead, memory)
    for draw in range(5):
        whole, _ = made(torch.cat([past, ahead[draw]], -2), None)
        torch.testing.assert_close(together[draw], whole[:, 3:], rtol=1e-12, atol=1e-12)


@NETWORKS
@pytest.mark.parametrize("step", [0, 3, TIME - 1])
def test_outputs_read_no_later_step(name, step):
    made, previous = network(name), normal(4, TIME, CODE)
    changed = previous.clone()
    changed[:, step] += 1.0
    before, after = made(previous, None)[0], made(changed, None)[0]
    assert torch.equal(before[:, :step], after[:, :step])
    reach = step + getattr(made, "length", TIME)
    different = (before != after).any(-1)[:, step:reach]
    assert bool(different.all()), "a step must read all codes in its reach"
    assert torch.equal(before[:, reach:], after[:, reach:])


@pytest.mark.parametrize("kind", ["lstm", "window"])
def test_weights_of_a_step_depend_on_codes_before_it_only(kind):
    model = KalmanVAE((3,), dynamics=random_dynamics(kind)).double()
    codes = normal(4, TIME, CODE)
    for step in range(TIME):
        changed = codes.clone()
        changed[:, step:] = 9.0
        before, after = model.mixing_weights(codes), model.mixing_weights(changed)
        assert torch.equal(before[:, : step + 1], after[:, : step + 1])
        assert step + 1 == TIME or not torch.allclose(before[:, step + 1], after[:, step + 1])


@pytest.mark.parametrize("kind", ["lstm", "window", "one"])
@pytest.mark.parametrize("batch", [(), (4,), (2, 4)], ids=str)
def test_matrices_are_the_modes_mixed_by_weights_that_sum_to_one(kind, batch):
    dynamics, previous = random_dynamics(kind, input_dim=2), normal(*batch, TIME, CODE)
    weights = dynamics.weights(previous)
    assert weights.shape == (*batch, TIME, dynamics.num_modes)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), rtol=1e-14, atol=0)
    assert bool((weights > 0).all())
    parameters, _ = dynamics(previous, normal(*batch, TIME, 2, seed=3), None)
    for got, modes in (
        (parameters.transition, dynamics.transition),
        (parameters.observation, dynamics.observation),
        (parameters.input_matrix, dynamics.input_matrix),
    ):
        expected = torch.einsum("...k,kij->...ij", weights, modes)
        torch.testing.assert_close(got.expand_as(expected), expected, rtol=1e-12, atol=1e-12)


def test_one_mode_has_no_network_and_shares_its_matrices():
    dynamics = MixedDynamics(CODE, STATE, 1)
    assert dynamics.mixture is None and torch.equal(dynamics.start, torch.zeros(CODE))
    parameters, memory = dynamics(torch.randn(4, TIME, CODE), None, None)
    assert memory is None and parameters.num_steps is None and parameters.inputs is None
    assert parameters.transition.shape == (STATE, STATE) and parameters.observation.shape == (CODE, STATE)
    assert all("." not in name for name, _ in dynamics.named_parameters())


@pytest.mark.parametrize("input_dim", [0, 2])
@pytest.mark.parametrize("num_modes", [1, 3])
def test_learned_inputs_follow_those_of_the_data(input_dim, num_modes):
    dynamics = MixedDynamics(CODE, STATE, num_modes, input_dim=input_dim, num_learned_inputs=2).double()
    previous = normal(5, 4, TIME, CODE)
    inputs = normal(4, TIME, input_dim, seed=1) if input_dim else None
    parameters, _ = dynamics(previous, inputs, None)
    outputs, _ = dynamics.mixture(previous, None)
    assert parameters.inputs.shape == (5, 4, TIME, input_dim + 2)
    assert parameters.input_matrix.shape[-2:] == (STATE, input_dim + 2)
    assert torch.equal(parameters.inputs[..., input_dim:], outputs[..., num_modes:])
    if input_dim:
        assert torch.equal(parameters.inputs[..., :input_dim], inputs.expand(5, -1, -1, -1))
    assert torch.equal(dynamics.weights(previous), outputs[..., :num_modes].softmax(-1))


def test_variances_start_where_asked_and_are_learned_unless_refused():
    options = {"transition_variance": 0.5, "observation_variance": 0.25, "initial_variance": 4.0}
    for has_learned_noise in (False, True):
        dynamics = MixedDynamics(CODE, STATE, has_learned_noise=has_learned_noise, **options)
        parameters, _ = dynamics(torch.randn(TIME, CODE), None, None)
        for name, size in (("transition", STATE), ("observation", CODE), ("initial", STATE)):
            cov = getattr(parameters, f"{name}_cov").detach()
            torch.testing.assert_close(cov, options[f"{name}_variance"] * torch.eye(size), rtol=1e-6, atol=0)
            assert getattr(dynamics, f"log_{name}_variance").requires_grad == has_learned_noise
        assert torch.equal(parameters.initial_mean, torch.zeros(STATE))
        assert dynamics.initial_mean.requires_grad == has_learned_noise


def test_variances_are_one_for_each_entry():
    dynamics = random_dynamics("one")
    parameters, _ = dynamics(normal(TIME, CODE), None, None)
    for name in ("transition", "observation", "initial"):
        expected = getattr(dynamics, f"log_{name}_variance").exp()
        assert expected.unique().numel() == expected.numel()
        assert torch.equal(getattr(parameters, f"{name}_cov"), expected.diag())


def test_the_recurrent_network_remembers_at_the_start():
    lstm = next(part for part in LSTMMixture(CODE, MODES, hidden_dim=6).modules() if isinstance(part, nn.LSTM))
    assert torch.equal(lstm.bias_hh_l0[6:12], torch.ones(6))


def test_errors_name_the_argument():
    with pytest.raises(DataError, match=r"`mixture` must have num_modes \+ num_learned_inputs = 4 outputs. Got .* 3"):
        MixedDynamics(CODE, STATE, 3, mixture=LSTMMixture(CODE, 3), num_learned_inputs=1)
    with pytest.raises(DataError, match="must read codes of size 2.*Got one for 5"):
        MixedDynamics(CODE, STATE, 3, mixture=LSTMMixture(5, 3))
    for sizes in ((0, 2, 3), (2, 0, 3), (2, 2, 0)):
        with pytest.raises(DataError, match="`code_dim`, `state_dim`, `num_modes` and all variances must be positive"):
            MixedDynamics(*sizes)
    for name in ("transition_variance", "observation_variance", "initial_variance"):
        for value in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(DataError, match="all variances must be positive"):
                MixedDynamics(CODE, STATE, **{name: value})
    for name in ("input_dim", "num_learned_inputs"):
        with pytest.raises(DataError, match="`input_dim` and `num_learned_inputs` must be 0 or more.*-1"):
            MixedDynamics(CODE, STATE, **{name: -1})
    with pytest.raises(DataError, match="`length` must be at least 1. Got 0"):
        WindowMixture(CODE, MODES, length=0)
