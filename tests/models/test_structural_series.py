"""`StructuralSeries` against statsmodels: likelihoods, maximum likelihood; and its own promises on odd data."""

from __future__ import annotations

import warnings

import numpy as np
import pyro
import pytest
import torch

import pyro_seq as ps
from pyro_seq.errors import DataError, NumericalError, ShapeError, UnsupportedError
from pyro_seq.nn.components import (
    Autoregression,
    Constant,
    Cycle,
    Level,
    Matern,
    Regression,
    Seasonal,
    SeasonalDummies,
    SmoothTrend,
    Trend,
)
from pyro_seq.ops.kalman import simulate
from pyro_seq.testing import check_model

QUIET = ps.Trainer(progress=False, accelerator="cpu")


def made_up(num_steps: int = 60, *, seed: int = 0, has_inputs: bool = False) -> ps.Sequences:
    """A walk with a season of twelve and five gaps."""
    source = np.random.default_rng(seed)
    steps = np.arange(num_steps)
    values = 100 + source.normal(size=num_steps).cumsum() + 5 * np.sin(2 * np.pi * steps / 12)
    inputs = source.normal(size=(num_steps, 2))
    if has_inputs:
        values += inputs @ [2.0, -1.0]
    values[[0, 3, 10, 11, 17]] = np.nan
    return ps.Sequences(values[None, :, None], inputs=inputs[None] if has_inputs else None)


def fitted(components, data: ps.Sequences) -> ps.StructuralSeries:
    """With units of the data."""
    model = ps.StructuralSeries(components).to(data.values)
    model.check(data)
    model.take_units(data)
    return model


def log_likelihood(model: ps.StructuralSeries, parameters: dict[str, float], data: ps.Sequences) -> torch.Tensor:
    return model.path(model.coordinates_of(parameters), data).log_prob(data.values).detach()


# components; parameters; options of statsmodels; its parameters from ours
SCALES = {"level_scale": 0.8, "noise_scale": 0.5}
SEASON = SCALES | {"seasonal_scale": 0.2}
TWELVE = [{"period": 12, "harmonics": 2}]
CASES = {
    "level": (Level(), SCALES, {"level": "llevel"}, lambda n, ls: [n**2, ls**2]),
    "trend": (
        Trend(),
        {"trend_level_scale": 0.8, "trend_slope_scale": 0.1, "noise_scale": 0.5},
        {"level": "lltrend"},
        lambda n, ls, s: [n**2, ls**2, s**2],
    ),
    "harmonics": (
        Level() + Seasonal(12, harmonics=2),
        SEASON,
        {"level": "llevel", "freq_seasonal": TWELVE},
        lambda n, ls, s: [n**2, ls**2, s**2],
    ),
    "all harmonics": (
        Level() + Seasonal(12),
        SEASON,
        {"level": "llevel", "freq_seasonal": [{"period": 12}]},
        lambda n, ls, s: [n**2, ls**2, s**2],
    ),
    "dummies": (
        Level() + SeasonalDummies(12),
        SEASON,
        {"level": "llevel", "seasonal": 12},
        lambda n, ls, s: [n**2, ls**2, s**2],
    ),
    "cycle": (
        Level() + Cycle(4, 30),
        SCALES | {"cycle_scale": 2.0, "cycle_period": 12.0, "cycle_damping": 0.9},
        {"level": "llevel", "cycle": True, "stochastic_cycle": True, "damped_cycle": True},
        lambda n, ls, s, p, d: [n**2, ls**2, s**2 * (1 - d**2), 2 * np.pi / p, d],
    ),
    "regression": (
        Level() + Regression(2),
        SCALES,
        {"level": "llevel", "mle_regression": False},
        lambda n, ls: [n**2, ls**2],
    ),
    "autoregression": (
        Constant() + Autoregression(2),
        {"noise_scale": 0.5, "autoregression_scale": 2.0, "autoregression_partial_1": 0.8}
        | {"autoregression_partial_2": -0.5},
        {"level": "dconstant", "autoregressive": 2},
        lambda n, s, p, q: [n**2, s**2 * (1 - p**2) * (1 - q**2), p * (1 - q), q],
    ),
}


def reference(name: str, data: ps.Sequences):
    """The model of statsmodels, with a stationary part that starts so, as ours does."""
    from statsmodels.tsa.statespace.initialization import Initialization
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    values = torch.where(data.mask, data.values[..., 0], torch.nan)[0].numpy()
    inputs = None if data.inputs is None else data.inputs[0].numpy()
    model = UnobservedComponents(values, exog=inputs, use_exact_diffuse=True, **CASES[name][2])
    if name == "cycle":
        start = Initialization(3)
        start.set(0, "diffuse")
        start.set((1, 3), "stationary")
        model.ssm.initialization = start
    return model


def theirs(name: str, parameters: dict[str, float]) -> np.ndarray:
    others = [value for key, value in parameters.items() if key != "noise_scale"]
    return np.array(CASES[name][3](parameters["noise_scale"], *others))


@pytest.mark.parametrize("name", CASES)
def test_likelihood_is_that_of_statsmodels(name):
    data = made_up(has_inputs=name == "regression")
    components, parameters = CASES[name][:2]
    found = float(log_likelihood(fitted(components, data), parameters, data))
    assert found == pytest.approx(reference(name, data).loglike(theirs(name, parameters)), rel=1e-9)


def simulated(name: str) -> ps.Sequences:
    """From the model at its parameters, with the gaps of the others."""
    data = made_up(160, has_inputs=name == "regression")
    components, parameters = CASES[name][:2]
    model = fitted(components, data)
    system = model.system(model.coordinates_of(parameters), data)._replace(diffuse=None)
    torch.manual_seed(5)
    return ps.Sequences(simulate(system, 160, batch_shape=torch.Size((1,))).values, mask=data.mask, inputs=data.inputs)


@pytest.mark.parametrize("name", [name for name in CASES if name != "all harmonics"])
def test_maximum_is_that_of_statsmodels(name):
    """From the end of our search, theirs finds nothing higher, and goes nowhere else."""
    data = simulated(name)
    model = ps.StructuralSeries(CASES[name][0]).double()
    posterior = ps.fit(model, data, ps.Mode(has_prior=False, num_starts=1), trainer=QUIET)
    shown = model.parameters_at(posterior.sites["coordinates"])
    ours = theirs(name, {key: float(shown[key]) for key in CASES[name][1]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = reference(name, data).fit(ours, disp=False, method="bfgs", gtol=1e-8, maxiter=200)
    assert posterior.history["log_density"][-1] == pytest.approx(best.llf, abs=1e-6)
    np.testing.assert_allclose(ours, best.params, rtol=1e-4)


def test_published_estimates():
    """The Nile: 15098.5 and 1469.2 (Durbin and Koopman)."""
    data = ps.datasets.nile()
    model = ps.StructuralSeries(Level()).double()
    posterior = ps.fit(model, data, ps.Mode(has_prior=False, num_starts=1), trainer=QUIET)
    found = model.parameters_at(posterior.sites["coordinates"])
    assert float(found["noise_scale"] ** 2) == pytest.approx(15098.5, abs=0.1)
    assert float(found["level_scale"] ** 2) == pytest.approx(1469.2, abs=0.1)


# ---------------------------------------------------------------------- time


ANY_GAP = Level() + Seasonal(5.5, harmonics=2) + Cycle(3, 20) + Matern(1.5)
WHOLE = Trend() + SeasonalDummies(4) + Autoregression(2)


@pytest.mark.parametrize("components", [ANY_GAP, WHOLE, SmoothTrend() + Seasonal(4)], ids=["any", "whole", "smooth"])
def test_steps_that_are_left_out_are_hidden_steps(components):
    """The same few values, on a grid with hidden steps and at their own times; shared, and for each series."""
    full = made_up(30)
    model = fitted(components, full)
    hidden = torch.rand(1, 30, generator=torch.Generator().manual_seed(1)) < 0.4
    hidden[0, 1] = False
    thinned = full.hide(hidden | ~full.mask)
    kept = [thinned.take_steps(thinned.mask[0].nonzero()[:, 0])]
    both = ps.Sequences(
        kept[0].values.expand(2, -1, -1), times=torch.stack([kept[0].times, kept[0].times + 1000.0]).double()
    )
    coordinates = torch.randn(3, 1, len(model.names), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = model.path(coordinates, thinned).log_prob(thinned.values)
    torch.testing.assert_close(model.path(coordinates, kept[0]).log_prob(kept[0].values), expected, rtol=1e-9, atol=0)
    found = model.path(coordinates, both).log_prob(both.values)
    torch.testing.assert_close(found, expected.expand(3, 2), rtol=1e-9, atol=0)


def test_the_unit_of_time_does_not_matter():
    data = made_up(40)
    other = ps.Sequences(data.values, mask=data.mask, times=1.7e9 + 604800 * data.times)  # weeks, in seconds
    parameters = SEASON
    found = [float(log_likelihood(fitted(CASES["harmonics"][0], one), parameters, one)) for one in (data, other)]
    assert found[1] == pytest.approx(found[0], rel=1e-9)


def test_a_step_of_ones_own():
    """Half a year in months, though most gaps are of two."""
    times = torch.tensor([0.0, 2.0, 4.0, 5.0, 7.0, 9.0, 11.0])
    data = ps.Sequences(torch.randn(1, 7, 1, generator=torch.Generator().manual_seed(0)), times=times)
    model = ps.StructuralSeries(Trend(), step=1.0)
    ps.fit(model, data, ps.Mode(num_starts=1), trainer=QUIET)
    assert float(model.time_scale) == 1.0
    with pytest.raises(DataError, match=r"whole steps of 2 for Trend. Got a gap of 0.5 steps.*step="):
        ps.fit(ps.StructuralSeries(Trend()), data, ps.Mode(num_starts=1), trainer=QUIET)
    refused = ps.StructuralSeries(Trend())
    with pytest.raises(DataError, match="whole steps of 2"):
        ps.fit(refused, data, ps.Mode(num_starts=1), trainer=QUIET)
    ps.fit(refused, ps.Sequences(data.values), ps.Mode(num_starts=1), trainer=QUIET)  # nothing is left of what was not
    posterior = ps.fit(ps.StructuralSeries(Level()), data, ps.Mode(num_starts=1), trainer=QUIET)  # takes any
    assert ps.forecast(posterior, data, times=[11.3, 12.0], num_samples=2).samples.shape == (2, 1, 2, 1)


def test_a_forecast_between_steps_is_refused_where_steps_are_whole():
    data = made_up(20)
    posterior = ps.fit(ps.StructuralSeries(Trend()).double(), data, ps.Mode(num_starts=1), trainer=QUIET)
    with pytest.raises(DataError, match=r"Got a gap of 0.5 steps"):
        ps.forecast(posterior, data, times=[19.5, 21.0])
    with pytest.raises(DataError, match="whole steps"):  # also past the door
        posterior.model.path(posterior.sites["coordinates"], data.extend(times=[19.5]))
    far = ps.forecast(posterior, data, times=[20.0, 25.0], num_samples=2)
    assert far.samples.shape == (2, 1, 2, 1)


# ---------------------------------------------------------------------- verbs


def test_predictions_are_those_of_statsmodels():
    """Mean and standard deviation of forecasts, and the smoothed level and season, at the same parameters."""
    data = made_up(48)
    model = fitted(CASES["harmonics"][0], data)
    posterior = ps.PointPosterior(model, {"coordinates": model.coordinates_of(SEASON)})
    count = 1000
    ahead = ps.forecast(posterior, data, horizon=5, num_samples=count)
    known = reference("harmonics", data).smooth(theirs("harmonics", SEASON))
    forecast = known.get_forecast(5)
    mean, deviation = torch.as_tensor(forecast.predicted_mean), torch.as_tensor(np.sqrt(forecast.var_pred_mean))
    error = 4.5 * deviation / count**0.5
    assert bool(((ahead.samples[:, 0, :, 0].mean(0) - mean).abs() < error).all())
    assert bool(((ahead.samples[:, 0, :, 0].std(0) / deviation - 1).abs() < 4.5 / (2 * count) ** 0.5).all())
    paths = ahead.latents["components"][:, 0]  # (sample, time, component), the horizon included
    assert paths.shape == (count, 53, 2)
    torch.testing.assert_close(paths[:, 48:].sum(-1).mean(0), mean, rtol=0, atol=float(error.max()))
    for place, part in enumerate((known.level, known.freq_seasonal[0])):
        smooth, spread = torch.as_tensor(part.smoothed), torch.as_tensor(np.sqrt(part.smoothed_cov))
        assert bool(((paths[:, :48, place].mean(0) - smooth).abs() < 4.5 * spread / count**0.5).all())


def test_the_log_score_of_a_forecast_is_that_of_statsmodels():
    """The mean log density of what came under the forecast from the first 43 months."""
    data = made_up(48)
    model = fitted(CASES["harmonics"][0], data)
    posterior = ps.PointPosterior(model, {"coordinates": model.coordinates_of(SEASON)})
    scores = ps.evaluate(posterior, data, ps.Forecasting(43), num_samples=3)
    known = reference("harmonics", data.first(43)).smooth(theirs("harmonics", SEASON)).get_forecast(5)
    law = torch.distributions.Normal(*map(torch.as_tensor, (known.predicted_mean, np.sqrt(known.var_pred_mean))))
    torch.testing.assert_close(scores.log_score, law.log_prob(data.values[0, 43:, 0]).mean()[None], rtol=1e-8, atol=0)


def test_the_log_score_of_a_filled_gap_is_what_it_adds_to_the_likelihood():
    """Of several parameters the mean density; each entry that is hidden alone, by the difference of two likelihoods."""
    data = made_up(40)
    model = fitted(Level() + Cycle(4, 30), data)
    draws = 0.5 * torch.randn(1, 6, len(model.names), generator=torch.Generator().manual_seed(1)).double()
    posterior = ps.StoredPosterior(model, data, {"coordinates": draws}, frozenset({"coordinates"}))
    task = ps.Imputation(0.03, seed=2)
    place = task.scored(data).nonzero()
    assert len(place) == 1
    heights = [model.path(draws[0, :, None], one).log_prob(one.values) for one in (data, task.given(data))]
    expected = (heights[0] - heights[1]).logsumexp(0) - np.log(6)
    torch.testing.assert_close(ps.evaluate(posterior, data, task, num_samples=6).log_score, expected)


def test_a_filter_on_line_ends_where_the_batch_does():
    data = made_up(24)
    model = fitted(Trend() + Seasonal(4, harmonics=1) + Cycle(), data)
    numbers = {"trend_level_scale": 0.5, "trend_slope_scale": 0.1, "seasonal_scale": 0.1, "noise_scale": 0.5}
    numbers |= {"cycle_scale": 1.0, "cycle_period": 9.0, "cycle_damping": 0.8}
    posterior = ps.PointPosterior(model, {"coordinates": model.coordinates_of(numbers)})
    state = ps.start_filter(posterior, data.first(18), num_samples=1)
    for step in range(18, 24):
        state = ps.filter_step(state, data.values[:, step], time=data.times[step])
    law = model.path(posterior.sites["coordinates"], data)
    torch.testing.assert_close(state.means[0], law.filter(data.values).filtered_means[:, -1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state.log_likelihood[0], law.log_prob(data.values), rtol=1e-10, atol=0)


def test_every_verb_and_labels():
    data = made_up(30)
    model = ps.StructuralSeries(Level() + Cycle()).double()
    posterior = ps.fit(
        model, data, ps.MCMC(ps.NUTS(max_tree_depth=3), num_samples=6, warmup_steps=6, num_chains=2), trainer=QUIET
    )
    filled = ps.impute(posterior, data, num_samples=5)
    assert torch.equal(filled.samples[0, 0, 1], data.values[0, 1]) and filled.samples[:, 0, 0].std() > 0
    assert set(model.names) <= filled.latents.keys() and filled.latents["cycle_damping"].shape == (5,)
    scores = ps.evaluate(posterior, data, ps.Forecasting(num_observed=25), num_samples=5).means()
    assert np.isfinite(scores["mse"])
    idata = ps.to_arviz(posterior, data.extend(horizon=3))
    assert idata["posterior"]["level_scale"].shape == (2, 6)
    paths = idata["posterior"]["components"].sel(component="cycle")
    assert paths.dims == ("chain", "draw", "series", "time") and paths.shape == (2, 6, 1, 30)
    assert idata["predictions"]["components"].shape == (2, 6, 1, 3, 2)
    assert list(idata["posterior"]["coordinates"]["parameter"].values) == list(model.names)
    with pytest.raises(UnsupportedError, match="no prior"):
        ps.sample(posterior, data)


def test_stationary_series_can_be_sampled():
    data = made_up(30)
    model = fitted(Autoregression(1), data)
    parameters = {"autoregression_scale": 2.0, "autoregression_partial_1": 0.5, "noise_scale": 1.0}
    posterior = ps.PointPosterior(model, {"coordinates": model.coordinates_of(parameters)})
    drawn = ps.sample(posterior, data, num_samples=4000).samples[:, 0, :, 0]
    assert float(drawn.var(0).mean()) == pytest.approx(5.0, rel=0.05)
    assert float((drawn[:, 1:] * drawn[:, :-1]).mean()) == pytest.approx(2.0, rel=0.1)


@pytest.mark.slow
def test_svi_finds_the_posterior_of_nuts():
    data = ps.datasets.nile()
    method = ps.SVI(num_steps=300, learning_rate=0.05, num_particles=4)
    guide = ps.fit(ps.StructuralSeries(Level()).double(), data, method, trainer=QUIET)
    chains = ps.MCMC(ps.NUTS(), num_samples=150, warmup_steps=100)
    exact = ps.fit(ps.StructuralSeries(Level()).double(), data, chains, seed=1, trainer=QUIET).sites["coordinates"]
    draws = guide.draws(data, 2000)["coordinates"][:, 0]
    deviation = exact[0].std(0)
    assert bool(((draws.mean(0) - exact[0].mean(0)).abs() < 0.5 * deviation).all())
    assert bool(((draws.std(0) / deviation).log().abs() < 0.4).all())


# ---------------------------------------------------------------------- the contract


@pytest.mark.parametrize(
    "components",
    [Trend() + Seasonal(3), Level() + Regression(), Cycle() + Autoregression(2), Constant() + Matern()],
    ids=["trend", "regression", "stationary", "matern"],
)
def test_it_keeps_the_contract(components):
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 14, 1, generator=source) if Regression() in getattr(components, "components", ()) else None
    data = ps.Sequences(10 + torch.randn(4, 14, 1, generator=source).cumsum(1), inputs=inputs)
    check_model(ps.StructuralSeries(components), data)


@pytest.mark.parametrize("is_parallel", [False, True])
def test_predictive_of_pyro_forecasts_from_its_guide(is_parallel):
    """Whose draws have no axis for the series, because it has no site of single ones."""
    data = ps.Sequences(10 + torch.randn(4, 14, 1, generator=torch.Generator().manual_seed(0)).cumsum(1))
    model = ps.StructuralSeries(Constant() + Matern())
    model.take_units(data)
    predict = pyro.infer.Predictive(model.model, guide=model.guide, num_samples=3, parallel=is_parallel)
    with pyro.get_param_store().scope():
        assert predict(data.extend(horizon=2))["x_future"].shape == (3, 4, 2, 1)


def test_a_file_holds_it(tmp_path):
    data = made_up(30)
    components = Level(name="base") + Seasonal(6, harmonics=2) + Cycle(2, 9)
    posterior = ps.fit(ps.StructuralSeries(components, step=1).double(), data, ps.Mode(num_starts=1), trainer=QUIET)
    ps.save(posterior, tmp_path / "model.pt")
    again = ps.load(tmp_path / "model.pt")
    assert again.model.components == components and again.history == posterior.history
    one, other = (ps.forecast(fit, data, horizon=3, num_samples=3).samples for fit in (posterior, again))
    assert torch.equal(one, other)
    changed = ps.StructuralSeries(Level(name="base") + Seasonal(7, harmonics=2) + Cycle(2, 9), step=1).double()
    with pytest.raises(ps.CheckpointError, match=r"period: 6.0 in the file, 7.0 here"):
        ps.load(tmp_path / "model.pt", changed)


# ---------------------------------------------------------------------- odd data


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_values_does_not_matter(unit):
    data = made_up(40)
    other = ps.Sequences(unit * data.values, mask=data.mask)
    method = ps.Mode(num_starts=1)
    one, two = (ps.fit(ps.StructuralSeries(Trend()).double(), part, method, trainer=QUIET) for part in (data, other))
    torch.testing.assert_close(two.sites["coordinates"], one.sites["coordinates"], rtol=1e-4, atol=1e-4)
    shown = two.model.parameters_at(one.sites["coordinates"])["noise_scale"] / unit
    torch.testing.assert_close(shown, one.model.parameters_at(one.sites["coordinates"])["noise_scale"])


@pytest.mark.parametrize("level", [0.0, 1e5])
def test_single_precision(level):
    """Errors of the log likelihood of sixty values, in nats: far from zero the values themselves are rounded."""
    data = made_up()
    data = ps.Sequences((data.values + level).float(), mask=data.mask)
    exact = log_likelihood(
        fitted(CASES["harmonics"][0], data.to(dtype=torch.float64)), SEASON, data.to(dtype=torch.float64)
    )
    single = log_likelihood(fitted(CASES["harmonics"][0], data), SEASON, data)
    assert single.dtype == torch.float32
    assert abs(float(single) - float(exact)) < (1e-3 if level == 0 else 0.05)


def test_gaps_at_the_start_and_series_of_their_own_length():
    data = made_up(24)
    mask = torch.ones(3, 24, dtype=torch.bool)
    mask[0, :9], mask[1, 12:] = False, False
    many = ps.Sequences(data.values.expand(3, -1, -1), mask=mask & data.mask)
    model = ps.StructuralSeries(Trend() + Seasonal(4, harmonics=1)).double()
    posterior = ps.fit(model, many, ps.Mode(num_starts=1), trainer=QUIET)
    assert ps.impute(posterior, many, num_samples=3).samples.isfinite().all()
    assert ps.forecast(posterior, many, horizon=2, num_samples=3).samples.shape == (3, 3, 2, 1)
    again = ps.fit(model, many, ps.Mode(num_starts=1), trainer=QUIET)  # a second fit, in the same units
    torch.testing.assert_close(again.sites["coordinates"], posterior.sites["coordinates"])


SURE = {
    "constant": (torch.full((30,), 5.0), Level(), 5.0),
    "line": (3.0 * torch.arange(30.0), Trend(), 90.0),
    "season": (torch.arange(60.0).mul(torch.pi / 6).sin(), Level() + Seasonal(12), 0.0),
}


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, torch.float64) for name in SURE), ("constant", torch.float32), ("line", torch.float32)]
)
def test_what_holds_no_surprise_goes_on(name, dtype):
    """The noise ends at its floor, where the likelihood has a maximum and numbers their digits."""
    path, components, following = SURE[name]
    data = ps.Sequences(path[None, :, None].to(dtype))
    model = ps.StructuralSeries(components).to(dtype)
    method = ps.Mode(has_prior=False, num_starts=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # single precision may not see the last of the slope
        posterior = ps.fit(model, data, method, trainer=QUIET)
    ahead = ps.forecast(posterior, data, horizon=1, num_samples=20).samples
    assert bool(((ahead - following).abs() < 0.02 * float(model.units.change)).all())
    assert float(model.parameters_at(posterior.sites["coordinates"])["noise_scale"]) >= 1e-3 * float(model.units.change)


def test_a_forecast_follows_its_inputs():
    """One more of an input adds its coefficient, by least squares 2."""
    data = made_up(60, has_inputs=True)
    model = fitted(Level() + Regression(2), data)
    posterior = ps.PointPosterior(model, {"coordinates": model.coordinates_of(SCALES)})
    means = []
    for size in (0.0, 1.0):
        inputs = torch.tensor([[[size, 0.0]]], dtype=torch.float64)
        means.append(ps.forecast(posterior, data, horizon=1, inputs=inputs, num_samples=2).mean)
    assert float(means[1] - means[0]) == pytest.approx(2.0, abs=0.5)
    assert posterior.model.has_inputs and not fitted(Level(), made_up()).has_inputs


def test_what_it_refuses():
    data = made_up(30)
    with pytest.raises(DataError, match="components"):
        ps.StructuralSeries("trend")
    with pytest.raises(DataError, match="step"):
        ps.StructuralSeries(Level(), step=0.0)
    with pytest.raises(ShapeError, match="2 entries a step"):
        fitted(Level() + Regression(2), data)
    with pytest.raises(ShapeError, match=r"1 entries a step.*Got 2"):
        fitted(Level() + Regression(), made_up(has_inputs=True))
    with pytest.raises(UnsupportedError, match="inputs"):
        fitted(Level(), made_up(has_inputs=True))
    with pytest.raises(ShapeError, match="obs_shape"):
        fitted(Level(), ps.Sequences(torch.zeros(1, 5, 2)))
    with pytest.raises(DataError, match="at least 13 observed entries"):
        fitted(Trend() + Seasonal(12), data.first(12))
    twice = fitted(Level() + Constant(), data)
    with pytest.raises(NumericalError, match="determine"):
        log_likelihood(twice, SCALES, data)
    with pytest.raises(NumericalError, match="None of 1 starts.*must determine the diffuse states"):
        ps.fit(twice, data, ps.Mode(num_starts=1), trainer=QUIET)
    with pytest.raises(DataError, match="named"):
        twice.coordinates_of({"level_scale": 1.0})
