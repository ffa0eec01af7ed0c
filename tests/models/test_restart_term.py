"""The restart term of ODELEBM is a divergence: of a posterior carried along from what the encoder says further on."""

from __future__ import annotations

import dataclasses
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.infer.objective import Objective, joint_traces
from pyro_seq.models.ode_lebm import ODELEBM
from pyro_seq.nn.bayesian import BayesianMLP, DeterministicField
from pyro_seq.nn.emission import GaussianEmission
from pyro_seq.nn.flow import Flow
from pyro_seq.nn.ode_rnn import RNNEncoder
from pyro_seq.ops.odeint import RK4

F64 = torch.float64
OBS = 3
NOISE, TIME_STEP, STEPS, NUM_SERIES = 0.5, 0.3, 8, 500


def irregular(num_series: int = 4, num_steps: int = 6) -> Sequences:
    """Times of each series, hidden steps and hidden entries."""
    source = torch.Generator().manual_seed(2)
    values = torch.randn(num_series, num_steps, OBS, dtype=F64, generator=source)
    times = torch.rand(num_series, num_steps, dtype=F64, generator=source).add(0.2).cumsum(-1)
    mask = torch.rand(values.shape, generator=source) < 0.8
    mask[0, 2] = False
    return Sequences(values, times=times, mask=mask)


def traces(model: ODELEBM, data: Sequences, seed: int) -> tuple[poutine.Trace, poutine.Trace]:
    torch.manual_seed(seed)
    with pyro.settings.context(module_local_params=True):
        guide = poutine.trace(model.guide).get_trace(data)
        return poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(data), guide


@torch.no_grad()
def restart(model: ODELEBM, data: Sequences, seed: int = 0) -> Tensor:
    return model.regulariser(data, *traces(model, data, seed))["restart"]


def volume(model: ODELEBM, data: Sequences, path: Tensor, dynamic: Tensor) -> Tensor:
    """The divergence at each step of a path by automatic differentiation, (series, time)."""
    function = model.vector_field.prior()

    def rate(state: Tensor, constant: Tensor) -> Tensor:
        return function(torch.cat([state, constant], -1))

    jacobian = torch.vmap(torch.func.jacfwd(rate))
    each = [jacobian(path[:, k], dynamic).diagonal(dim1=-2, dim2=-1).sum(-1) for k in range(path.shape[1])]
    return torch.stack(each, -1)


def test_term_scores_the_state_on_the_way_by_the_encoder_given_the_rest() -> None:
    data = irregular()
    mask = data.entry_mask.clone()
    mask[1, 1:] = False  # nothing is left to read from the rest of this series
    data = dataclasses.replace(data, mask=mask)
    encoder = RNNEncoder((OBS,), 4, hidden_dim=6)
    flow = Flow(3, order=1, solver=RK4(step_size=0.01))
    model = ODELEBM((OBS,), 3, dynamic_dim=1, flow=flow, encoder=encoder, has_restart_term=True).double()
    found = []
    for seed in range(8):
        model_trace, guide_trace = traces(model, data, seed)
        path, initial = (model_trace.nodes[name]["value"] for name in ("path", "initial"))
        rates = volume(model, data, path, initial[:, 3:])
        term = model.regulariser(data, model_trace, guide_trace)["restart"]
        matches = []
        for step in range(6):
            rest = Sequences(data.values[:, step:], times=data.times[:, step:], mask=mask[:, step:])
            times = model.time_step * model.model_times(data)[:, : step + 1]
            fallen = torch.trapezoid(rates[:, : step + 1], times)  # error third order in the interval of 0.1
            expected = guide_trace.nodes["initial"]["fn"].log_prob(initial) - fallen
            expected = expected - model.encode(rest).log_prob(torch.cat([path[:, step], initial[:, 3:]], -1))
            expected[1] = 0.0
            matches += [step] if torch.allclose(term, expected, rtol=0, atol=1e-3) else []
        found += matches
    assert len(found) == 8 and set(found) == {1, 2}  # one step each, in the first half of six


def test_term_teaches_field_and_encoder_and_is_weighted_by_name() -> None:
    model = ODELEBM((OBS,), 4, encoder=RNNEncoder((OBS,), 4), has_restart_term=True).double()
    losses = []
    for scale in (0.0, 2.0):
        torch.manual_seed(4)
        losses.append(Objective(model, scales={"restart": scale})(irregular()))
    assert torch.allclose(losses[1].total - losses[0].total, 2 * losses[1].terms["restart"])
    for part in (model.vector_field, model.encoder):
        grads = torch.autograd.grad(losses[1].terms["restart"], list(part.parameters()), retain_graph=True)
        taught = [bool((grad != 0).any()) for grad in grads]
        assert sum(taught) >= len(taught) - 2  # but the layer below one that is zero at the start
    assert float(Objective(model)(Sequences(torch.randn(3, 1, OBS, dtype=F64))).terms["restart"]) == 0


# ---------------------------------------------------------------- a linear field, whose posteriors are known


class ExactEncoder(nn.Module):
    """Posterior of the state at the first frame read: x = state + noise, a standard normal prior, a linear field.

    Its deviations may be scaled by `width`, the one thing to be learned.
    """

    dim = 2

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix
        self.log_width = nn.Parameter(torch.zeros((), dtype=F64))

    def forward(self, frames: Tensor, mask: Tensor, times: Tensor) -> dist.TorchDistribution:
        carried = torch.linalg.matrix_exp(self.matrix * (times - times[:, :1])[..., None, None])
        precision = torch.eye(2, dtype=F64) + (carried.mT @ carried).sum(1) / NOISE**2
        mean = torch.linalg.solve(precision, (carried.mT @ frames[..., None]).sum(1) / NOISE**2).squeeze(-1)
        scale = precision.inverse().diagonal(dim1=-2, dim2=-1).sqrt()  # the covariance is diagonal for the fields below
        return dist.Normal(mean, scale * self.log_width.exp()).to_event(1)


class Linear(nn.Module):
    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, state: Tensor) -> Tensor:
        return state @ self.matrix.mT


def spiral(damping: float) -> Tensor:
    """A turn with damping: the carried covariance of a circle stays a circle."""
    return torch.tensor([[-damping, 1.0], [-1.0, -damping]], dtype=F64)


def linear_model(damping: float, solver: RK4) -> ODELEBM:
    return ODELEBM(
        (2,),
        2,
        flow=Flow(2, order=1, solver=solver),
        vector_field=DeterministicField(Linear(spiral(damping))),
        encoder=ExactEncoder(spiral(damping)),
        emission=GaussianEmission(nn.Identity()),
        time_step=TIME_STEP,
        has_restart_term=True,
    ).double()


def drawn_data(damping: float, num_series: int, seed: int = 0) -> Sequences:
    source = torch.Generator().manual_seed(seed)
    carried = torch.linalg.matrix_exp(spiral(damping) * TIME_STEP * torch.arange(STEPS, dtype=F64)[:, None, None])
    start = torch.randn(num_series, 1, 2, 1, dtype=F64, generator=source)
    clean = (carried @ start).squeeze(-1)
    return Sequences(clean + NOISE * torch.randn(clean.shape, dtype=F64, generator=source))


@pytest.mark.parametrize("damping", [0.0, 0.4, -0.3])
@pytest.mark.parametrize("solver", [RK4(step_size=0.02), RK4(step_size=0.02, is_dense=True)])
def test_term_is_the_log_ratio_of_the_carried_gaussian_and_the_encoder(damping, solver) -> None:
    model, data = linear_model(damping, solver), drawn_data(damping, 5)
    times = (TIME_STEP * torch.arange(STEPS, dtype=F64)).expand(5, -1)
    matched = set()
    for seed in range(6):
        model_trace, guide_trace = traces(model, data, seed)
        start, q = guide_trace.nodes["initial"]["value"], guide_trace.nodes["initial"]["fn"].base_dist
        term = model.regulariser(data, model_trace, guide_trace)["restart"]
        for step in (1, 2, 3):
            carried = torch.linalg.matrix_exp(spiral(damping) * TIME_STEP * step)
            moved = dist.MultivariateNormal(q.loc @ carried.mT, carried @ torch.diag_embed(q.variance) @ carried.mT)
            state = start @ carried.mT
            opinion = model.encoder(data.values[:, step:], data.entry_mask[:, step:], times[:, step:])
            expected = moved.log_prob(state) - opinion.log_prob(state)
            matched |= {(seed, step)} if torch.allclose(term, expected, rtol=0, atol=1e-7) else set()
    assert {seed for seed, _ in matched} == set(range(6)) and len(matched) == 6


def width_slope(scale: float, log_width: float, num_draws: int = 15) -> tuple[Tensor, Tensor]:
    """Mean slope of the objective in the log width, a series and entry, and its standard error."""
    model = linear_model(0.0, RK4())
    model.emission.log_scale.data.fill_(math.log(NOISE - 1e-3))
    model.encoder.log_width.data.fill_(log_width)
    data, slopes = drawn_data(0.0, NUM_SERIES), []
    for seed in range(num_draws):
        torch.manual_seed(seed)
        total = Objective(model, scales={"restart": scale})(data).total
        slopes.append(torch.autograd.grad(total, model.encoder.log_width)[0] / 2)
    found = torch.stack(slopes)
    return found.mean(), found.std() / num_draws**0.5


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0])
def test_width_of_the_posterior_stays_near_the_exact_one(scale) -> None:
    """Where the field keeps volumes, the slope in the width w of a deviation, an entry, is w^2 - 1 - scale r / w^2.

    r = mean over k of 1 - var(z_0 | x) / var(z_k | x_k ...): the two posteriors are of different data, and no width
    makes them one. At the weights 0, 0.5, 1 and 2 the best deviation is 0.174, 0.183, 0.191 and 0.203, never less than
    the exact one.
    """
    left = [1 - (1 + (STEPS - k) / NOISE**2) / (1 + STEPS / NOISE**2) for k in (1, 2, 3)]
    r = sum(left) / len(left)
    best = 0.5 * math.log((1 + math.sqrt(1 + 4 * scale * r)) / 2)
    assert best >= 0
    for log_width in (-1.0, best):
        apart = scale * r * math.exp(-2 * log_width)  # a mean of squares over the series
        expected = math.exp(2 * log_width) - 1 - apart
        mean, error = width_slope(scale, log_width)
        assert abs(float(mean) - expected) < 5 * float(error) + 4 * (2 / (2 * NUM_SERIES)) ** 0.5 * apart
        assert log_width == best or mean < 0  # too narrow a posterior is pushed apart, at every weight


def test_term_does_not_fall_without_bound_as_the_encoder_narrows() -> None:
    """The mean of a log ratio is a divergence, hence never negative but for the draw."""
    model, data = linear_model(0.4, RK4(step_size=0.05)), drawn_data(0.4, 200)
    for log_width in (0.5, 0.0, -2.0, -6.0):
        model.encoder.log_width.data.fill_(log_width)
        assert float(restart(model, data).mean()) > 0


# ---------------------------------------------------------------- draws from elsewhere, weights, particles


def test_draws_that_are_not_the_encoders_have_no_density_in_the_term() -> None:
    """At draws of chains the term is the cross-entropy: minus the volume and the encoder's log density."""
    model, data = linear_model(0.4, RK4(step_size=0.02)), drawn_data(0.4, 4)
    model_trace, guide_trace = traces(model, data, 3)
    conditioned = poutine.condition(model.guide, data={"initial": guide_trace.nodes["initial"]["value"]})
    with pyro.settings.context(module_local_params=True):
        given = poutine.trace(conditioned).get_trace(data)
    torch.manual_seed(5)
    ours = model.regulariser(data, model_trace, guide_trace)["restart"]
    torch.manual_seed(5)
    chains = model.regulariser(data, model_trace, given)["restart"]
    start = guide_trace.nodes["initial"]
    assert torch.allclose(ours - chains, start["fn"].log_prob(start["value"]), rtol=1e-10)


def test_term_follows_the_very_field_that_was_drawn() -> None:
    field = BayesianMLP(3, 3, (6,), initial_scale=0.5)
    encoder = RNNEncoder((OBS,), 3, hidden_dim=6)
    model = ODELEBM((OBS,), 3, vector_field=field, encoder=encoder, has_restart_term=True).double()
    data = irregular()
    first, again = (restart(model, data, seed=1) for _ in range(2))
    assert torch.equal(first, again)
    model_trace, guide_trace = traces(model, data, 1)
    before = len(model_trace.nodes)
    torch.manual_seed(0)
    found = model.regulariser(data, model_trace, guide_trace)["restart"]
    frozen = BayesianMLP(3, 3, (6,), is_bayesian=False).double()
    frozen.loc.data.copy_(model_trace.nodes["weights"]["value"])
    model.vector_field = frozen
    torch.manual_seed(0)
    assert torch.allclose(found, model.regulariser(data, model_trace, guide_trace)["restart"])
    assert len(model_trace.nodes) == before


def test_term_has_one_value_for_each_of_several_draws() -> None:
    field = BayesianMLP(3, 3, (6,), initial_scale=0.5)
    model = ODELEBM((OBS,), 3, vector_field=field, encoder=RNNEncoder((OBS,), 3), has_restart_term=True).double()
    data = irregular()
    with pyro.settings.context(module_local_params=True):
        model_trace, guide_trace = joint_traces(model, data, 3)
    torch.manual_seed(0)
    found = model.regulariser(data, model_trace, guide_trace)["restart"]
    assert found.shape == (3, 4)
    for number in range(3):
        frozen = BayesianMLP(3, 3, (6,), is_bayesian=False).double()
        frozen.loc.data.copy_(model_trace.nodes["weights"]["value"][number].flatten())
        model.vector_field = frozen
        site = guide_trace.nodes["initial"]
        chosen = poutine.Trace()
        chosen.add_node("initial", fn=model.encode(data), value=site["value"][number], is_observed=False, type="sample")
        torch.manual_seed(0)
        assert torch.allclose(found[number], model.regulariser(data, model_trace, chosen)["restart"], rtol=1e-10)
