"""The importance-weighted bound against the evidence lower bound, exact evidence, and a second route."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO

from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.iwae import IWAE
from pyro_seq.infer.objective import Objective
from pyro_seq.model import SequenceModel
from pyro_seq.predict.verbs import forecast
from pyro_seq.testing.checks import check_model
from tests.support import Walks, binary_series


class Levels(SequenceModel):
    """One level per series, seen under noise: its evidence is a Gaussian. The guide's scale is wrong by a factor."""

    dims = {"level": ("level",)}  # noqa: RUF012

    def __init__(self, factor: float = 1.5) -> None:
        super().__init__()
        self.factor = factor
        self.obs_shape = (1,)
        self.loc = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def model(self, data: Sequences) -> None:
        self.bind()
        with self.series(data):
            level = pyro.sample("level", dist.Normal(self.loc.expand(1), 1.0).to_event(1))
            path = pyro.deterministic("path", level[..., None, :].expand(*level.shape[:-1], data.times.shape[-1], 1))
            self.observe(lambda states: dist.Normal(states, 1.0), path, data)

    def guide(self, data: Sequences) -> None:
        self.bind()
        data = data.seen()
        precision = 1.0 + data.step_mask.to(data.dtype).sum(1, keepdim=True)
        with self.series(data):
            loc = (self.loc + data.values.sum(1)) / precision
            pyro.sample("level", dist.Normal(loc, self.factor * precision**-0.5).to_event(1))


def evidence(data: Sequences) -> torch.Tensor:
    """Log density of each series of `Levels` whose mean is 0, (series,)."""
    cov = torch.eye(data.num_steps, dtype=torch.float64) + 1.0
    return torch.distributions.MultivariateNormal(cov.new_zeros(data.num_steps), cov).log_prob(data.values[..., 0])


@pytest.fixture
def data() -> Sequences:
    return Sequences(torch.randn(6, 4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))


def bound(model: SequenceModel, data: Sequences, num_particles: int, seed: int = 0, **options: object) -> float:
    objective = IWAE(num_steps=1, num_particles=num_particles, **options).objective(model, data)
    with isolated_rng(seed):
        return objective(data).total.item()


def test_one_draw_gives_the_evidence_lower_bound(data):
    model = Levels()
    with isolated_rng(0):
        elbo = Objective(model, analytic_kl=False)(data).total.item()
    assert bound(model, data, 1) == pytest.approx(elbo, rel=1e-12)


def test_gradient_of_one_draw_is_that_of_the_evidence_lower_bound():
    data, gradients = binary_series(), []
    for one in (Objective(Walks(), analytic_kl=False), IWAE(num_steps=1, num_particles=1).objective(Walks(), data)):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            for parameter in one.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
        with isolated_rng(0):
            one(data).total.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in one.parameters()]))
    torch.testing.assert_close(*gradients)


def test_exact_guide_gives_the_evidence_whatever_the_number_of_draws(data):
    assert bound(Levels(factor=1.0), data, 7) == pytest.approx(-evidence(data).mean().item(), rel=1e-12)


def test_bound_rises_to_the_evidence(data):
    # the relative variance v of a weight is known for Gaussians: the bound lacks v / 2K and little more
    factor = 1.5
    excess = factor**2 / math.sqrt(2 * factor**2 - 1) - 1
    exact = -evidence(data).mean().item()
    num_draws, rounds = 50, 200
    gaps = torch.tensor([bound(Levels(factor), data, num_draws, seed) - exact for seed in range(rounds)])
    error = (gaps.std() / math.sqrt(rounds)).item()
    assert gaps.mean().item() == pytest.approx(excess / (2 * num_draws), abs=4 * error + 0.1 * excess / num_draws)
    assert bound(Levels(factor), data, 1) > exact


def test_agrees_with_the_bound_of_pyro(data):
    # Pyro's RenyiELBO at alpha = 0 is the same bound of the whole set; with one series the two agree draw by draw
    model, one = Levels(), data[:1]
    with pyro.settings.context(module_local_params=True), isolated_rng(0):
        theirs = RenyiELBO(alpha=0.0, num_particles=9, vectorize_particles=True, max_plate_nesting=1).loss(
            model.model, model.guide, one
        )
    assert bound(model, one, 9) == pytest.approx(theirs, rel=1e-12)


def test_minibatches_are_unbiased(data):
    model = Levels(factor=1.0)
    parts = [bound(model, data.minibatch(torch.tensor([i, i + 1])), 4) for i in (0, 2, 4)]
    assert sum(parts) / 3 == pytest.approx(bound(model, data, 4), rel=1e-12)


def test_fit_logs_and_forecasts(data, quiet):
    model = Levels().double()
    posterior = fit(model, Sequences(data.values + 3), IWAE(num_steps=200, learning_rate=0.1), trainer=quiet)
    assert posterior.history["bound"][-1] < posterior.history["bound"][0]
    assert 1.0 <= posterior.history["effective_draws"][-1] <= 10.0
    # the evidence is highest at the mean of the series' means
    assert model.loc.item() == pytest.approx(data.values.mean().item() + 3, abs=0.05)
    assert forecast(posterior, data, horizon=2).samples.shape == (100, 6, 2, 1)


def test_wrong_use_is_refused(toy, data):
    with pytest.raises(DataError, match="num_particles"):
        IWAE(num_steps=1, num_particles=0)
    with pytest.raises(DataError, match="learning_rate"):
        IWAE(num_steps=1, learning_rate=-1.0)
    with pytest.raises(DataError, match=r"scales.*\['nothing'\]"):
        bound(Levels(), data, 2, scales={"nothing": 1.0})
    lines = IWAE(num_steps=1).objective(toy.make_lines(), toy.make_data())
    with pytest.raises(UnsupportedError, match="drift"):
        lines(toy.make_data())


def test_the_model_of_this_test_keeps_the_rules(data):
    check_model(Levels(), data)
