"""Posteriors of weights: Bayesian linear regression, whose posterior is known, and each family as its theory says."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import kl_divergence

import pyro_seq as ps
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.infer.objective import Objective, joint_traces
from pyro_seq.model import local_parameters
from pyro_seq.nn.weight_posterior import FullCovariance, LowRank, MeanField, WeightPosterior
from pyro_seq.training import schedules
from tests.make_believe_gpu import make_believe_gpu

NOISE, NUM_POINTS = 0.3, 24
GUIDES = [MeanField(0.1), MeanField(0.1, is_tied=True), LowRank(2, 0.1), FullCovariance(0.1)]


def features() -> Tensor:
    """Two that are nearly equal, so that only the sum of their weights is well known."""
    common, difference = torch.randn(2, NUM_POINTS, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.cat([common, common + 0.8 * difference], 1)


def outcomes() -> ps.Sequences:
    """Two of each point, as series of one step."""
    generator = torch.Generator().manual_seed(2)
    truth = torch.tensor([[1.0, -0.4], [0.3, 0.8]], dtype=torch.float64)
    noise = torch.randn(NUM_POINTS, 2, generator=generator, dtype=torch.float64)
    return ps.Sequences((features() @ truth.T + 0.5 + NOISE * noise)[:, None])


class Regression(ps.SequenceModel):
    """A field of one linear layer, seen with known noise: a conjugate model of its six weights."""

    dims = {"weights": ("weight",)}  # noqa: RUF012

    def __init__(self, guide: WeightPosterior | None = None) -> None:
        super().__init__()
        self.obs_shape = (2,)
        self.field = ps.BayesianMLP(2, 2, (), guide=guide)
        self.register_buffer("features", features())

    def model(self, data: ps.Sequences) -> None:
        self.bind()
        function = self.field.prior()
        with self.series(data):
            self.observe(lambda mean: dist.Normal(mean, NOISE), function(self.features)[..., None, :], data)

    def guide(self, data: ps.Sequences) -> None:
        self.bind()
        self.field.posterior()


def exact() -> dist.MultivariateNormal:
    """The posterior by the normal equations; the weights come row by row, then the biases."""
    points, values = features(), outcomes().values[:, 0]
    row = torch.zeros(2, NUM_POINTS, 6, dtype=torch.float64)
    for output in range(2):
        row[output, :, 2 * output : 2 * output + 2] = points
        row[output, :, 4 + output] = 1.0
    design, flat = row.reshape(-1, 6), values.T.reshape(-1)
    precision = design.T @ design / NOISE**2 + torch.eye(6, dtype=torch.float64)
    mean = torch.linalg.solve(precision, design.T @ flat / NOISE**2)
    return dist.MultivariateNormal(mean, precision_matrix=precision)


def dense(q: dist.TorchDistribution) -> dist.MultivariateNormal:
    """The same Gaussian with its whole covariance."""
    cov = q.covariance_matrix if hasattr(q, "covariance_matrix") else q.variance.diag_embed()
    return dist.MultivariateNormal(q.mean.detach(), cov.detach())


@pytest.fixture(scope="module")
def fitted() -> dict[str, dist.MultivariateNormal]:
    """What `SVI` makes of each family."""
    method = ps.SVI(
        num_steps=400, learning_rate=0.1, num_particles=32, schedule=schedules.Cosine(400), average=0.95, clip_norm=None
    )
    found = {}
    for guide in (MeanField(0.1), LowRank(2, 0.1, initial_factor=1.0), FullCovariance(0.1)):
        torch.manual_seed(0)
        model = Regression(guide).double()
        posterior = ps.fit(model, outcomes(), method, trainer=ps.Trainer(progress=False))
        found[type(guide).__name__] = dense(posterior.model.field.weight_distribution())
    return found


def test_each_family_comes_as_near_to_the_exact_posterior_as_it_can(fitted):
    truth = exact()
    away = {name: float(kl_divergence(q, truth)) for name, q in fitted.items()}
    precision = truth.precision_matrix
    best = 0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))  # of independent weights
    assert best > 1.0  # nats: the example tells the families apart
    assert away["MeanField"] == pytest.approx(best, rel=0.05)
    assert away["LowRank"] < 0.25 * best  # a Gaussian of six weights is not of rank two
    assert away["FullCovariance"] < 0.05


def test_a_mean_field_has_the_variances_of_the_precision(fitted):
    variances, truth = fitted["MeanField"].variance, exact()
    torch.testing.assert_close(variances, 1 / truth.precision_matrix.diagonal(), rtol=0.15, atol=0.0)
    assert bool((variances < truth.variance).all())
    assert float((variances / truth.variance)[:4].max()) < 0.4  # of the correlated slopes; the biases stand alone
    torch.testing.assert_close(fitted["FullCovariance"].variance, truth.variance, rtol=0.25, atol=0.0)


def test_at_the_exact_posterior_every_draw_has_the_log_evidence():
    truth, model, data = exact(), Regression(FullCovariance()).double(), outcomes()
    root = truth.scale_tril
    model.field.load_state_dict(
        {
            "loc": truth.mean,
            "log_scale": root.diagonal().log(),
            "lower": (root / root.diagonal()[:, None]).tril(-1),
        }
    )
    torch.testing.assert_close(model.field.weight_distribution().covariance_matrix, truth.covariance_matrix)
    with local_parameters():
        model_trace, guide_trace = joint_traces(model, data, 5)
    nodes = model_trace.nodes
    joint = nodes["x"]["log_prob"].sum(-1) + nodes["weights"]["log_prob"][:, 0]
    evidence = joint - guide_trace.nodes["weights"]["log_prob"][:, 0]
    flat = torch.cat([features(), torch.ones(NUM_POINTS, 1, dtype=torch.float64)], 1)
    cov = flat @ flat.T + NOISE**2 * torch.eye(NUM_POINTS, dtype=torch.float64)
    marginal = dist.MultivariateNormal(torch.zeros(NUM_POINTS, dtype=torch.float64), cov)
    expected = marginal.log_prob(data.values[:, 0].T).sum()
    torch.testing.assert_close(evidence, expected.expand(5), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("guide", GUIDES, ids=repr)
def test_divergence_is_the_closed_form_and_that_of_draws(guide):
    torch.manual_seed(3)
    field = ps.BayesianMLP(2, 2, (3,), guide=guide, prior_scale=0.7).double()
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    q = poutine.trace(field.posterior).get_trace().nodes["weights"]["fn"]
    p = poutine.trace(field.prior).get_trace().nodes["weights"]["fn"]
    prior = dist.MultivariateNormal(p.mean, 0.7**2 * torch.eye(field.num_weights, dtype=torch.float64))
    closed = kl_divergence(q, p).detach()
    torch.testing.assert_close(closed, kl_divergence(dense(q), prior), rtol=1e-10, atol=1e-10)
    draws = q.sample((4000,))
    gaps = (q.log_prob(draws) - p.log_prob(draws)).detach()
    assert abs(float(gaps.mean() - closed)) < 5 * float(gaps.std()) / 4000**0.5


@pytest.mark.parametrize("guide", GUIDES, ids=repr)
def test_draws_have_the_covariance_that_the_density_has(guide):
    torch.manual_seed(4)
    field = ps.BayesianMLP(1, 1, (2,), guide=guide).double()
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    q = field.weight_distribution()
    count, cov = 20_000, dense(q).covariance_matrix
    draws = q.sample((count,))
    # of Gaussian draws, an entry of the sample covariance has the variance (c_ii c_jj + c_ij^2) / count
    error = ((cov.diagonal()[:, None] * cov.diagonal() + cov.square()) / count).sqrt()
    assert float(((draws.T.cov() - cov) / error).abs().max()) < 5.0
    assert float(((draws.mean(0) - field.loc.detach()) / (cov.diagonal() / count).sqrt()).abs().max()) < 5.0


@pytest.mark.parametrize("guide", GUIDES, ids=repr)
@pytest.mark.parametrize("num_particles", [1, 3])
def test_gradients_are_those_of_finite_differences(guide, num_particles):
    torch.manual_seed(5)
    objective = Objective(Regression(guide).double(), num_particles=num_particles, scales={"weights": 0.5})

    def loss() -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(6)  # the same noise each time
            return objective(outcomes()).total

    loss().backward()
    for name, parameter in objective.model.field.named_parameters():
        direction = torch.randn_like(parameter)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * 1e-6 * direction)
                ends.append(float(loss()))
                parameter.sub_(sign * 1e-6 * direction)
        expected = (ends[0] - ends[1]) / 2e-6
        assert float((parameter.grad * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-6), name


def test_a_mean_field_keeps_the_names_and_the_draws_that_it_had():
    torch.manual_seed(0)
    earlier = ps.BayesianMLP(3, 2, (4,), initial_scale=0.2)
    torch.manual_seed(0)
    today = ps.BayesianMLP(3, 2, (4,), guide=MeanField(0.2))
    assert list(earlier.state_dict()) == list(today.state_dict()) == ["loc", "log_scale"]
    torch.manual_seed(1)
    draw = today.weight_distribution().rsample()
    torch.manual_seed(1)
    assert torch.equal(draw, earlier.loc + earlier.log_scale.exp() * torch.randn(earlier.num_weights))


@pytest.mark.parametrize("guide", GUIDES, ids=repr)
def test_a_saved_model_is_built_anew_with_its_guide(guide, tmp_path):
    field = ps.BayesianMLP(2, 1, (3,), guide=guide)
    data = ps.Sequences(torch.rand(3, 5, 2))
    model = ps.ODE2VAE(obs_shape=(2,), state_dim=1, vector_field=field)
    posterior = ps.fit(model, data, ps.SVI(num_steps=2), trainer=ps.Trainer(progress=False))
    posterior = ps.fit(posterior.model, data, ps.SVI(num_steps=2), trainer=ps.Trainer(progress=False))
    ps.save(posterior, tmp_path / "model.pt")
    again = ps.load(tmp_path / "model.pt")
    for prediction in (ps.forecast(each, data, horizon=2, num_samples=3, seed=1) for each in (posterior, again)):
        assert prediction.samples.shape == (3, 3, 2, 2)
    q, other = (each.model.vector_field.weight_distribution() for each in (posterior, again))
    assert type(q) is type(other)
    assert torch.equal(dense(q).covariance_matrix, dense(other).covariance_matrix)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"guide": "low rank"}, "`guide` must be an object such as"),
        ({"guide": LowRank}, "`guide` must be an object such as"),
        ({"guide": LowRank(17)}, "`rank` must be at most the number of weights, 16"),
        ({"guide": LowRank(2), "is_bayesian": False}, "`guide` has no effect with"),
        ({"guide": LowRank(2), "initial_scale": 0.1}, r"Pass them to it, as in `LowRank\(initial_scale=...\)`"),
        ({"guide": FullCovariance(), "has_tied_scale": True}, "`initial_scale` and `has_tied_scale` are those of"),
        ({"guide": FullCovariance(), "hidden_dims": (1100,)}, "`FullCovariance` takes at most 4096 weights. Got 5501"),
    ],
)
def test_what_does_not_fit_is_refused(options, match):
    with pytest.raises(DataError, match=match):
        ps.BayesianMLP(**{"in_dim": 3, "out_dim": 1, "hidden_dims": (3,)} | options)


@pytest.mark.parametrize("make", [lambda: MeanField(0.0), lambda: LowRank(2, -1.0), lambda: FullCovariance(torch.nan)])
def test_scales_must_be_positive(make):
    with pytest.raises(DataError, match="`initial_scale` must be a positive number"):
        make()


def test_rank_is_a_whole_number_from_one():
    with pytest.raises(DataError, match="`rank` must be a whole number from 1"):
        LowRank(0)


def test_a_fixed_field_has_no_distribution():
    with pytest.raises(UnsupportedError, match=r"They are `field.loc`"):
        ps.BayesianMLP(2, 1, (3,), is_bayesian=False).weight_distribution()


def test_other_priors_have_no_closed_form():
    q = dist.MultivariateNormal(torch.zeros(2), torch.eye(2))
    with pytest.raises(NotImplementedError):
        kl_divergence(q, dist.Laplace(torch.zeros(2), 1.0).to_event(1))


@pytest.mark.parametrize("guide", GUIDES, ids=repr)
def test_weights_stay_on_their_device(guide):
    field = ps.BayesianMLP(2, 1, (3,), guide=guide)
    with make_believe_gpu() as device:
        q = field.to(device).weight_distribution()
        assert q.rsample().device == device
        p = dist.Normal(torch.zeros(field.num_weights, device=device), 1.0).to_event(1)
        assert kl_divergence(q, p).device == device
