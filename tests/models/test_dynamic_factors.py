"""`DynamicFactors` against the dense Gaussian of all entries: evidence, posterior, forecasts; and it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

import pyro_seq as ps
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.infer.objective import Objective
from pyro_seq.model import series_log_prob
from pyro_seq.models import dynamic_factors
from pyro_seq.testing import check_model

QUIET = ps.Trainer(progress=False, accelerator="cpu")


def make_model(obs: int = 3, factors: int = 2, has_own: bool = False) -> ps.DynamicFactors:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = ps.DynamicFactors((obs,), factors, has_own_factors=has_own).double()
        for parameter in model.emission.decoder.parameters():
            torch.nn.init.normal_(parameter) if parameter.ndim > 1 else None
    return model


def irregular(num_series: int = 4, num_steps: int = 6, obs: int = 3) -> ps.Sequences:
    """At times of their own, with hidden entries, a hidden step, and one series that ends early; in odd units."""
    generator = torch.Generator().manual_seed(0)
    times = torch.rand(num_series, num_steps, generator=generator, dtype=torch.float64).cumsum(-1)
    values = 50 + 7 * torch.randn(num_series, num_steps, obs, generator=generator, dtype=torch.float64)
    mask = torch.rand(values.shape, generator=generator) < 0.7
    mask[:, 2] = False
    mask[0, 4:] = False
    mask[:, 0, 0] = True
    return ps.Sequences(values, mask=mask, times=times)


def dense(model: ps.DynamicFactors, data: ps.Sequences, series: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of all entries (time * obs) of a series, the horizon included, from the equations."""
    times = data.times[series] / model.time_scale
    apart = (times[:, None] - times).abs()[..., None]
    covs = torch.exp(-apart / model.timescales)  # (time, time, factor)
    loadings, units = model.emission.decoder.weight, model.emission.units
    signal = torch.einsum("tsf,if,jf->tisj", covs, loadings, loadings)
    unit, count = units.unit.expand(data.obs_shape), len(times)
    cov = (signal * unit[:, None, None] * unit).reshape(count * len(unit), -1)
    cov = cov + torch.diag(model.emission.scale.expand(len(unit)).square().repeat(count))
    mean = (units.centre + units.unit * model.emission.decoder.bias).expand(data.obs_shape).repeat(count)
    return mean.detach(), cov.detach()


@pytest.fixture(params=[False, True], ids=["shared", "own"])
def fitted(request: pytest.FixtureRequest) -> tuple[ps.DynamicFactors, ps.Sequences]:
    model, data = make_model(has_own=request.param), irregular()
    model.take_units(data)
    return model, data


def test_the_bound_is_the_evidence_at_every_draw_and_so_is_its_gradient(fitted):
    model, data = fitted
    exact = []
    for series in range(len(data)):
        mean, cov = dense(model, data, series)
        seen = data.entry_mask[series].flatten()
        law = MultivariateNormal(mean[seen], cov[seen][:, seen])
        exact.append(law.log_prob(data.values[series].flatten()[seen]))
    objective, found, slopes = Objective(model), [], []
    for seed in (0, 1):
        torch.manual_seed(seed)
        loss = objective(data).total
        found.append(loss.detach())
        slopes.append(torch.autograd.grad(loss, list(model.parameters())))
    torch.testing.assert_close(found[0], -torch.stack(exact).mean(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-10)
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)
    with torch.no_grad():  # and by a central difference
        direction, width = torch.randn(len(model.log_timescales), dtype=torch.float64), 1e-5
        ends = []
        for sign in (1, -2):
            model.log_timescales += sign * width * direction
            ends.append(objective(data).total)
    slope = (slopes[0][0] * direction).sum()
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * width), slope, rtol=1e-5, atol=1e-7)


def test_the_law_of_the_series_is_the_dense_gaussian(fitted):
    model, data = fitted
    with torch.no_grad():
        found = model.marginal(data, {})
        for series in range(len(data)):
            mean, cov = dense(model, data, series)
            seen = data.entry_mask[series].flatten()
            exact = MultivariateNormal(mean[seen], cov[seen][:, seen]).log_prob(data.values[series].flatten()[seen])
            torch.testing.assert_close(found.log_prob(data.values)[series], exact, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(found.variance[series].flatten(), cov.diagonal(), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(found.mean.expand_as(data.values)[series].flatten(), mean)


@pytest.mark.parametrize("verb", ["impute", "forecast"])
def test_predictions_are_those_of_the_dense_gaussian(fitted, verb):
    model, data = fitted
    posterior, count = ps.GuidePosterior(model), 6000
    if verb == "forecast":
        data = data.extend(times=data.times[:, -1:] + torch.tensor([0.5, 4.0]))
        draws = ps.forecast(posterior, data, num_samples=count)
    else:
        draws = ps.impute(posterior, data, num_samples=count)
    for series in range(len(data)):
        mean, cov = dense(model, data, series)
        seen = torch.zeros(len(data.times[0]), 3, dtype=torch.bool)
        seen[: data.num_steps] = data.entry_mask[series]
        seen, steps = seen.flatten(), slice(0, None) if verb == "impute" else slice(-6, None)
        gain = torch.linalg.solve(cov[seen][:, seen], cov[seen]).mT
        centre = mean + gain @ (data.values[series].flatten()[seen[: data.values[0].numel()]] - mean[seen])
        spread = (cov - gain @ cov[seen]).diagonal().clamp(min=0).sqrt()
        wanted = ~seen if verb == "impute" else torch.arange(len(seen)) >= len(seen) - 6
        sample = draws.samples[:, series].flatten(1)
        sample = sample[:, wanted] if verb == "impute" else sample[:, steps]
        # five standard errors of a mean, and of a deviation
        error = (sample.mean(0) - centre[wanted]) / spread[wanted]
        assert float(error.abs().max()) < 5 / count**0.5
        assert float((sample.std(0) / spread[wanted] - 1).abs().max()) < 5 / (2 * count) ** 0.5


@pytest.mark.parametrize("df", [3.0, 1e8])
def test_under_heavy_tails_the_guide_is_the_posterior_under_weighted_noise(df, monkeypatch):
    """Against the dense Gaussian whose noise is divided by the weights; and these satisfy their rule."""
    monkeypatch.setattr(dynamic_factors, "_ROUNDS", 100)
    data = irregular()
    model = ps.DynamicFactors((3,), 2, emission=ps.StudentTEmission(initial_df=df)).double()
    torch.nn.init.normal_(model.emission.decoder.weight)
    model.take_units(data)
    model.eval()
    factors, series = model.encode(data), 1
    units, loadings = model.emission.units, model.emission.decoder.weight.detach()
    weights = factors.linear.parameters.observation[series, ..., 0] / loadings[:, 0]
    weights = weights.square().detach()  # (time, variable)
    apart = (data.times[series][:, None] - data.times[series]).abs()[..., None] / model.time_scale
    prior = torch.exp(-apart / model.timescales).detach()  # (time, time, factor)
    count = len(prior)
    prior = torch.einsum("tsk,kl->tksl", prior, torch.eye(2).double()).reshape(2 * count, 2 * count)
    rows = torch.kron(torch.eye(count).double(), loadings)
    noise = (model.emission.scale / units.unit).detach().square() / weights
    values = (units(data.values[series]) - model.emission.decoder.bias).detach().flatten()
    seen = data.entry_mask[series].flatten()
    rows, noise, values = rows[seen], noise.flatten()[seen], values[seen]
    gain = torch.linalg.solve(rows @ prior @ rows.mT + noise.diag(), rows @ prior).mT
    mean, cov = gain @ values, prior - gain @ rows @ prior
    path = torch.randn(2 * count).double()
    exact = MultivariateNormal(mean, cov).log_prob(path)
    value = torch.zeros(4, count, 2).double()
    value[series] = path.view(count, 2)
    torch.testing.assert_close(factors.log_prob(value)[series].detach(), exact, rtol=1e-9, atol=1e-9)
    squares = (values - rows @ mean).square() + (rows @ cov * rows).sum(-1)
    if df > 1e6:
        torch.testing.assert_close(weights.flatten()[seen], torch.ones_like(noise), rtol=1e-6, atol=0)
    else:
        variables = torch.arange(3).repeat(count)[seen]
        degrees = model.emission.df.detach()[variables]
        scaled = squares / (noise * weights.flatten()[seen])
        wanted = (degrees + 1) / (degrees + scaled)
        torch.testing.assert_close(weights.flatten()[seen], wanted, rtol=1e-3, atol=0)


@pytest.mark.parametrize("df", [2.5, 6.0])
def test_under_heavy_tails_the_bound_lies_a_little_below_the_evidence(df):
    """One factor at one step: both by sums over a grid of it, the joint density by torch's own distributions."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6, 1, 3, generator=generator, dtype=torch.float64)
    values[0, 0, 0], values[1] = 8.0, values[1] + 4.0
    data = ps.Sequences(values).hide(torch.tensor([0, 0, 1, 0, 0, 0])[:, None, None] * torch.tensor([1, 0, 0]) > 0)
    model = ps.DynamicFactors((3,), 1, emission=ps.StudentTEmission(initial_df=df, minimum_scale=0.07)).double()
    torch.nn.init.normal_(model.emission.decoder.weight, generator=generator)
    model.take_units(data)
    emission, units = model.emission, model.emission.units
    grid = torch.linspace(-12.0, 12.0, 4801, dtype=torch.float64)
    with torch.no_grad():
        means = units.restore(emission.decoder(grid[:, None]))[:, None]  # (grid, series, variable)
        noise = torch.distributions.StudentT(emission.df, means, emission.scale)
        seen = torch.where(data.entry_mask[:, 0], noise.log_prob(data.values[:, 0]), 0.0).sum(-1)
        joint = torch.distributions.Normal(0.0, 1.0).log_prob(grid)[:, None] + seen
        paths, width = grid[:, None, None, None].expand(-1, 6, 1, 1), grid[1] - grid[0]
        evidence = joint.logsumexp(0) + width.log()
        gaps = []
        for is_training in (True, False):
            model.train(is_training)
            guide = model.encode(data).log_prob(paths)
            torch.testing.assert_close(guide.exp().sum(0) * width, torch.ones(6, dtype=torch.float64))
            gaps.append(evidence - (guide.exp() * (joint - guide)).sum(0) * width)
        torch.testing.assert_close(series_log_prob(model, data, {"factors": paths}), joint, rtol=1e-9, atol=1e-9)
    assert all(bool((gap > -1e-9).all()) for gap in gaps)
    assert float(gaps[1].mean()) < 0.1 < 0.25 < float((evidence.max() - evidence.min()).abs())


def test_an_outlier_moves_a_robust_model_less():
    """The same series with one entry ten deviations off: how far its hidden neighbour's mean follows."""
    generator = torch.Generator().manual_seed(0)
    level = torch.randn(60, 1, 1, generator=generator)
    values = level + 0.3 * torch.randn(60, 10, 2, generator=generator)
    train, given = ps.Sequences(values), ps.Sequences(values[:20]).hide((torch.arange(10) == 5).expand(20, 10))
    spoilt = values[:20].clone()
    spoilt[:, 4, 0] += 10.0
    odd = ps.Sequences(spoilt).hide((torch.arange(10) == 5).expand(20, 10))
    moved = {}
    for emission in (ps.GaussianEmission(), ps.StudentTEmission(initial_df=3.0)):
        torch.manual_seed(0)
        model = ps.DynamicFactors((2,), 1, emission=emission)
        posterior = ps.fit(model, train, ps.SVI(num_steps=60, learning_rate=0.1), trainer=QUIET)
        means = [ps.impute(posterior, data, num_samples=200).mean[:, 5] for data in (given, odd)]
        moved[type(emission)] = float((means[1] - means[0]).abs().mean())
    assert moved[ps.StudentTEmission] < 0.5 * moved[ps.GaussianEmission]


def test_inputs_act_at_once_whatever_their_unit(fitted):
    """Evidence against the dense Gaussian around the mean that the inputs move; forecasts follow their future."""
    _, data = fitted
    inputs = 1e5 + 1e3 * torch.randn(4, 8, 1, dtype=torch.float64)
    given = ps.Sequences(data.values, mask=data.mask, times=data.times, inputs=inputs[:, :6])
    model = ps.DynamicFactors((3,), 2, input_dim=1).double()
    torch.nn.init.normal_(model.emission.decoder.weight)
    model.take_units(given)
    plain = make_model()
    plain.load_state_dict(
        {name: value for name, value in model.state_dict().items() if name in plain.state_dict()}
        | {"emission.decoder.weight": model.emission.decoder.weight[:, :2]},
        strict=False,
    )
    scaled = (inputs[:, :6] - model.input_units.units.centre) / model.input_units.units.unit
    shift = scaled * model.emission.decoder.weight[:, 2] * model.emission.units.unit
    moved = ps.Sequences((data.values - shift.detach()), mask=data.mask, times=data.times)
    torch.testing.assert_close(Objective(model)(given).total, Objective(plain)(moved).total, rtol=1e-10, atol=1e-10)
    law = model.marginal(given, {}).log_prob(given.values)
    torch.testing.assert_close(-law.mean(), Objective(model)(given).total, rtol=1e-9, atol=1e-9)
    later = given.extend(times=given.times[:, -1:] + 1.0, inputs=inputs[:, 6:7])
    far = given.extend(times=given.times[:, -1:] + 1.0, inputs=inputs[:, 6:7] + 1e3)
    posterior = ps.GuidePosterior(model)
    ahead = [ps.forecast(posterior, one, num_samples=5).samples for one in (later, far)]
    step = 1e3 / model.input_units.units.unit * model.emission.decoder.weight[:, 2] * model.emission.units.unit
    torch.testing.assert_close(ahead[1] - ahead[0], step.detach().expand_as(ahead[0]), rtol=1e-6, atol=1e-6)
    with pytest.raises(ShapeError, match="`data.inputs` must have 1 entries a step"):
        ps.forecast(posterior, data, horizon=1)


def test_it_keeps_every_rule():
    values = torch.randn(6, 7, 3, dtype=torch.float64).cumsum(1)
    inputs = torch.randn(6, 7, 2, dtype=torch.float64)
    for model, data in [
        (ps.DynamicFactors((3,), 2), ps.Sequences(values)),
        (ps.DynamicFactors((3,), 2, input_dim=2, emission=ps.StudentTEmission()), ps.Sequences(values, inputs=inputs)),
    ]:
        assert check_model(model.double(), data).names("failed") == ()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_it_learns_timescales_and_fills_gaps_at_random_times(seed):
    """Two processes of timescales 1 and 20 in six variables of odd units, seen at random times, a third hidden."""
    generator = torch.Generator().manual_seed(seed)
    size, steps = 120, 20
    gaps = torch.empty(size, steps, dtype=torch.float64).exponential_(1.0, generator=generator)
    times, slow = gaps.cumsum(-1), torch.exp(-gaps[..., None] / torch.tensor([1.0, 20.0], dtype=torch.float64))
    noise = torch.randn(size, steps, 2, generator=generator, dtype=torch.float64)
    factors = [noise[:, 0]]
    for step in range(1, steps):
        factors.append(slow[:, step] * factors[-1] + (1 - slow[:, step] ** 2).sqrt() * noise[:, step])
    loadings = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    clean = torch.stack(factors, 1) @ loadings.T
    values = clean + 0.3 * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    values = (values * torch.tensor([1, 1e4, 1e-3, 5, 1, 1]) + torch.tensor([0, 1e5, 7.4, 80, 0, 0])).float()
    whole = ps.Sequences(values, times=times)
    hidden = torch.rand(values.shape, generator=generator) < 1 / 3
    torch.manual_seed(seed)
    model = ps.DynamicFactors((6,), 2)
    method = ps.SVI(num_steps=80, learning_rate=0.1)
    posterior = ps.fit(model, whole[:80].hide(hidden[:80]), method, trainer=QUIET)
    scale = float(model.time_scale)
    found = np.sort((model.timescales * scale).detach().numpy())
    assert abs(np.log(found / [1.0, 20.0])).max() < np.log(2.5)
    filled = ps.impute(posterior, whole[80:].hide(hidden[80:]), num_samples=100)
    covered = ps.metrics.coverage(filled.samples, whole.values[80:], 0.9, mask=hidden[80:])
    assert abs(float(covered) - 0.9) < 0.03


@pytest.mark.parametrize(
    ("shape", "options", "error", "match"),
    [
        ((1, 8, 8), {}, ShapeError, r"`obs_shape` must be \(variables,\)"),
        ((2,), {"num_factors": 0}, DataError, "num_factors"),
        ((2,), {"shortest": 0.0}, DataError, "shortest"),
        ((2,), {"shortest": 5.0, "longest": 1.0}, DataError, "longest"),
    ],
)
def test_arguments_out_of_range_are_refused(shape, options, error, match):
    with pytest.raises(error, match=match):
        ps.DynamicFactors(shape, **options)


def test_a_file_alone_restores_it(tmp_path, fitted):
    model, data = fitted
    ps.save(ps.GuidePosterior(model), tmp_path / "model.pt")
    pair = [ps.impute(posterior, data) for posterior in (ps.GuidePosterior(model), ps.load(tmp_path / "model.pt"))]
    assert torch.equal(pair[0].samples, pair[1].samples)


@pytest.mark.parametrize("data", ["one series", "one step", "nothing seen", "single precision far from zero"])
def test_odd_data(data):
    values = 1e5 + torch.randn(3, 5, 2)
    given = {
        "one series": ps.Sequences(values[:1]),
        "one step": ps.Sequences(values[:, :1]),
        "nothing seen": ps.Sequences(values, mask=torch.tensor([[True] * 5] * 2 + [[False] * 5])),
        "single precision far from zero": ps.Sequences(values, times=1.7e9 + torch.arange(5.0, dtype=torch.float64)),
    }[data]
    model = ps.DynamicFactors((2,), 2)
    posterior = ps.fit(model, given, ps.SVI(num_steps=3), trainer=QUIET)
    draws = ps.forecast(posterior, given, horizon=2, num_samples=20).samples
    assert draws.shape == (20, len(given), 2, 2) and bool(draws.isfinite().all())
    assert float((draws.mean() - 1e5).abs()) < 10


@pytest.mark.filterwarnings("ignore:The latent 'factors' has collapsed")
def test_a_covariate_of_whole_series_moves_their_level():
    """New series of which nothing was seen are at the level that their covariate alone gives them."""
    generator = torch.Generator().manual_seed(0)
    age = torch.randn(60, 1, generator=generator)
    data = ps.Sequences(2 * age[:, None] + 0.3 * torch.randn(60, 8, 1, generator=generator), static=age)
    train, test = data[:40].with_static_as_inputs(), data[40:].hide(torch.ones(20, 8, dtype=torch.bool))
    model = ps.DynamicFactors((1,), 1, input_dim=1)
    posterior = ps.fit(model, train, ps.SVI(num_steps=60, learning_rate=0.1), trainer=QUIET)
    filled = ps.impute(posterior, test.with_static_as_inputs(), num_samples=5)
    assert (filled.mean - 2 * age[40:, None]).abs().max() < 0.2
    ahead = ps.forecast(posterior, test.extend(horizon=2).with_static_as_inputs(), num_samples=5)
    assert (ahead.mean - 2 * age[40:, None]).abs().max() < 0.2


@pytest.mark.parametrize(
    ("emission", "came"),
    [
        (ps.PoissonEmission(), "PoissonEmission"),
        (ps.GaussianEmission(has_state_noise=True), r"GaussianEmission\(has_state_noise=True\)"),
        (torch.nn.Linear(2, 2), "Linear"),
    ],
)
def test_other_emissions_are_refused_with_the_models_that_take_them(emission, came):
    with pytest.raises(DataError, match=f"`emission` must be `GaussianEmission.*Got {came}. Use `KalmanVAE.*`ODELEBM`"):
        ps.DynamicFactors((2,), emission=emission)


def test_own_factors_follow_what_is_measured_rarely():
    """A level of each series, seen at a tenth of the steps beside variables seen at all: few factors leave it out."""
    generator = torch.Generator().manual_seed(0)
    walk = torch.randn(80, 20, 1, generator=generator).cumsum(1) / 3
    level = 2 * torch.randn(80, 1, 1, generator=generator).expand(-1, 20, -1)
    values = torch.cat([walk, walk, walk, level], -1) + 0.2 * torch.randn(80, 20, 4, generator=generator)
    mask = torch.ones(80, 20, 4, dtype=torch.bool)
    mask[..., 3] = torch.rand(80, 20, generator=generator) < 0.1
    data, shares = ps.Sequences(values).hide(~mask), {}
    has_some = mask[..., 3].any(1)
    for has_own in (False, True):
        torch.manual_seed(0)
        model = ps.DynamicFactors((4,), 1, has_own_factors=has_own)
        posterior = ps.fit(model, data, ps.SVI(num_steps=60, learning_rate=0.1), trainer=QUIET)
        filled = ps.impute(posterior, data, num_samples=20).mean[..., 3]
        errors = (filled - level[..., 0])[has_some].square().mean()
        shares[has_own] = float(errors / level.var())
    assert shares[True] < 0.1 and shares[False] > 0.5, shares


def test_own_factors_go_by_the_names_of_their_variables():
    model, data = make_model(has_own=True), irregular()
    assert model.coords(data)["factor"] == ["factor_0", "factor_1", "own_x_0", "own_x_1", "own_x_2"]
    assert model.encode(data).event_shape == (6, 5) and model.timescales.tolist()[2:] == pytest.approx([30.0] * 3)
    with pytest.raises(DataError, match="`emission.decoder` must be absent, or an `OwnLoadings`"):
        ps.DynamicFactors((2,), 1, emission=ps.GaussianEmission(torch.nn.Linear(3, 2)), has_own_factors=True)
    assert "has_own_factors" not in vars(make_model())
