"""On-line filtering: one observation after another gives what a batch gives, at a cost that does not grow."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_seq as ps
from pyro_seq.data import Labels
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.ops.kalman import LinearGaussianParameters, kalman_filter
from pyro_seq.posterior import StoredPosterior
from pyro_seq.testing import assert_close_mc

NAN = float("nan")


class Level(ps.SequenceModel):
    """A level that drifts with the time between observations, by an input too; its scales are shared latents."""

    dims: ClassVar = {"scales": ("component",)}
    is_conditional = True
    has_inputs = True
    obs_shape = (1,)

    def system(self, scales: torch.Tensor, data: ps.Sequences) -> LinearGaussianParameters:
        one = torch.ones(1, 1).to(data.values)
        noise, drift = scales.square()[..., None, None].split(1, -3)
        times = self.exact_times(data).to(data.dtype)
        gaps = times.diff(dim=-1, prepend=times[..., :1])[..., None, None]
        given = {} if data.inputs is None else {"input_matrix": one, "inputs": data.inputs}
        unknown = one[0] > 0
        return LinearGaussianParameters(
            one, drift * gaps, one, noise, one[0], noise[..., 0, :, :], diffuse=unknown, **given
        )

    def model(self, data: ps.Sequences) -> None:
        self.bind()
        scales = pyro.sample("scales", dist.HalfNormal(torch.ones(2).to(data.values)).to_event(1))
        path = LinearGaussian(self.system(scales, data), data.num_steps, mask=data.entry_mask)
        with self.series(data):
            pyro.sample("x", path, obs=data.values)
            if data.horizon:
                pyro.sample("x_future", path.future(data.values, data.horizon))


def level_posterior(data: ps.Sequences, num_draws: int = 3) -> StoredPosterior:
    draws = 0.5 + torch.rand(1, num_draws, 2, generator=torch.Generator().manual_seed(0)).to(data.values)
    return StoredPosterior(Level(), data, {"scales": draws}, frozenset({"scales"}))


def make_series(num_steps: int, *, obs: int = 1, num_series: int = 2, own_times: bool = True) -> ps.Sequences:
    """At uneven times, with a fifth of the entries hidden."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(num_series, num_steps, obs, generator=generator, dtype=torch.float64).cumsum(1)
    seen = torch.rand(values.shape, generator=generator) < 0.8
    seen[:, :3] = True
    rows = (num_series,) if own_times else ()
    times = (0.1 + torch.rand(*rows, num_steps, generator=generator, dtype=torch.float64)).cumsum(-1) + 1e3
    return ps.Sequences(values, mask=seen, times=times)


def factors_posterior(data: ps.Sequences, factors: int = 2) -> ps.GuidePosterior:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = ps.DynamicFactors(data.obs_shape, factors).double()
        torch.nn.init.normal_(model.emission.decoder.weight)
    model.take_units(data)
    return ps.GuidePosterior(model)


def run(posterior: ps.GuidePosterior | StoredPosterior, data: ps.Sequences, start: int) -> ps.FilterState:
    state = ps.start_filter(posterior, data.first(start), num_samples=3)
    for number in range(start, data.num_steps):
        time = data.times[..., number]
        inputs = None if data.inputs is None else data.inputs[:, number]
        state = ps.filter_step(state, data.values[:, number], time, mask=data.mask[:, number], inputs=inputs)
    return state


def assert_same_state(state: ps.FilterState, other: ps.FilterState) -> None:
    for name in ("means", "covs", "log_likelihood"):
        found, expected = getattr(state, name), getattr(other, name)
        assert float(((found - expected).abs() / (1 + expected.abs())).max()) < 1e-9, name
    assert torch.equal(state.ends, other.ends)


@pytest.mark.parametrize("own_times", [True, False])
def test_one_by_one_is_the_batch_filter(own_times: bool) -> None:
    """Means, covariances and likelihood of two series at uneven times, and of a hand-written model with draws."""
    data = make_series(60, obs=3, own_times=own_times)
    posterior = factors_posterior(data)
    assert_same_state(run(posterior, data, 1), ps.start_filter(posterior, data))
    levels = make_series(60, own_times=own_times)
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(2, 60, 1, generator=generator, dtype=torch.float64)
    levels = ps.Sequences(levels.values, mask=levels.mask, times=levels.times, inputs=inputs)
    for given in (levels, ps.Sequences(levels.values, mask=levels.mask, times=levels.times)):
        posterior = level_posterior(given)
        state = run(posterior, given, 2)
        assert_same_state(state, ps.start_filter(posterior, given, num_samples=3))
        system = posterior.model.system(posterior.sites["scales"][0, :, None], given)
        batch = kalman_filter(given.values, system, given.entry_mask)
        torch.testing.assert_close(state.means, batch.filtered_means[..., -1, :], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DynamicFactors", "Level"])
def test_ten_thousand_steps_are_one_batch(name: str) -> None:
    data = make_series(10_003, obs=2 if name == "DynamicFactors" else 1)
    posterior = factors_posterior(data) if name == "DynamicFactors" else level_posterior(data)
    assert_same_state(run(posterior, data, 3), ps.start_filter(posterior, data, num_samples=3))


def test_a_step_looks_at_three_steps_whatever_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths that the model is run on, and all that is kept: the same after 4 as after 400 steps."""
    data = make_series(403, own_times=False)
    posterior, lengths = level_posterior(data), []
    original = Level.model
    monkeypatch.setattr(Level, "model", lambda self, data: (lengths.append(data.num_steps), original(self, data))[1])
    found = []
    for start in (4, 400):
        state = ps.start_filter(posterior, data.first(start))
        lengths.clear()
        for number in (start, start + 1, start + 2):
            state = ps.filter_step(state, data.values[:, number], data.times[number])
        ps.filter_forecast(state, horizon=5)
        kept = sum(value.numel() for value in vars(state).values() if isinstance(value, torch.Tensor))
        found.append((list(lengths), kept))
    assert found[0] == found[1] and found[0][0] == [3, 3, 3, 7]


def test_forecasts_are_those_of_the_batch() -> None:
    """Exact means by the other verb, and draws of the same variance; from one step of a stationary model as well."""
    data = make_series(12, own_times=False)
    posterior = level_posterior(data)
    ahead = data.times[-1] + torch.tensor([0.5, 2.0, 9.0], dtype=torch.float64)
    expected = ps.forecast(posterior, data, times=ahead, num_samples=3)
    found = ps.filter_forecast(run(posterior, data, 4), times=ahead, num_samples=3000)
    torch.testing.assert_close(found.emission_means[:3], expected.emission_means, rtol=1e-9, atol=1e-9)
    assert torch.equal(found.latents["scales"][:3], expected.latents["scales"])
    system = posterior.model.system(posterior.sites["scales"][0, :, None], data.extend(times=ahead))
    path = LinearGaussian(system, 12, mask=data.entry_mask, batch_shape=torch.Size((3, 2)))
    variance = path.future(data.values, 3).variance
    squares = (found.samples - found.emission_means).square().reshape(1000, 3, 2, 3, 1)
    assert_close_mc(squares, variance)
    table = make_series(9, obs=3)
    factors = factors_posterior(table)
    found = ps.filter_forecast(run(factors, table, 1), horizon=3, num_samples=2)
    drawn = ps.forecast(factors, table.extend(times=found.times), num_samples=4000)
    assert_close_mc(drawn.samples, found.mean)
    alone = ps.filter_forecast(ps.start_filter(factors, table.first(1)), horizon=2, num_samples=2)
    drawn = ps.forecast(factors, table.first(1).extend(times=alone.times), num_samples=4000)
    assert_close_mc(drawn.samples, alone.mean)


def test_a_density_of_a_step_is_that_given_those_before() -> None:
    data = make_series(8, own_times=False)
    posterior = level_posterior(data, 1)
    state = ps.start_filter(posterior, data.first(7))
    after = ps.filter_step(state, data.values[:, 7], data.times[7], mask=torch.ones(2, dtype=torch.bool))
    draws = ps.filter_forecast(state, times=data.times[7:], num_samples=2)
    system = posterior.model.system(posterior.sites["scales"][0], data)
    path = LinearGaussian(system, 7, mask=data.entry_mask[:, :7], batch_shape=torch.Size((2,)))
    spread = path.future(data.values[:, :7], 1).variance[:, 0, 0].sqrt()
    expected = torch.distributions.Normal(draws.mean[:, 0, 0], spread).log_prob(data.values[:, 7, 0])
    torch.testing.assert_close((after.log_likelihood - state.log_likelihood)[0], expected)


def test_hidden_entries_and_steps_left_out_say_nothing() -> None:
    """A step of NaN at a time leaves what is known later as it is without that step."""
    data = make_series(8, own_times=False)
    posterior = level_posterior(data)
    state = ps.start_filter(posterior, data.first(6))
    between = ps.filter_step(state, [[NAN], [NAN]], (data.times[5] + data.times[6]) / 2)
    assert torch.equal(between.log_likelihood, state.log_likelihood)
    assert_same_state(
        ps.filter_step(between, data.values[:, 6], data.times[6]),
        ps.filter_step(state, data.values[:, 6], data.times[6]),
    )


def test_time_is_one_spacing_later_or_a_date() -> None:
    dates = pd.date_range("2020-01-01", periods=9, freq="D")
    labels = Labels(variables=["flow"], series=["Aswan", "Cairo"])
    data = ps.Sequences(make_series(9).values, times=dates, labels=labels)
    posterior = factors_posterior(data)
    state = ps.start_filter(posterior, data.first(8))
    for other in (None, dates[8], data.times[8], float(data.times[8])):
        assert_same_state(ps.filter_step(state, data.values[:, 8], other), ps.start_filter(posterior, data))
    ahead = ps.filter_forecast(state, times=dates[8:], num_samples=2)
    assert data.calendar.dates(ahead.times)[0] == dates[8]
    assert ahead.to_dataframe()["time"].iloc[0] == dates[8]
    assert ahead.labels == data.labels


def test_values_far_from_those_of_training_are_pointed_out() -> None:
    data = make_series(9, obs=3)
    state = ps.start_filter(factors_posterior(data), data)
    with pytest.warns(UserWarning, match="far outside of what the model was trained on"):
        ps.filter_step(state, data.values[:, -1] + 1e4)


class Counting(Level):
    """The noise of the third and every further step is that of its number."""

    def system(self, scales: torch.Tensor, data: ps.Sequences) -> LinearGaussianParameters:
        system = super().system(scales, data)
        number = torch.arange(1, data.times.shape[-1] + 1).to(data.values)[:, None, None]
        return system._replace(observation_cov=system.observation_cov * number)


def test_what_is_not_linear_gaussian_is_refused_with_a_way_out() -> None:
    data = make_series(6, own_times=False)
    draws = level_posterior(data)
    with pytest.raises(ps.UnsupportedError, match="`observation_cov` at a step depends on its time"):
        ps.start_filter(StoredPosterior(Counting(), data, draws.sites, draws.global_sites), data)
    even = ps.Sequences(data.values.float())
    for other in (ps.ODE2VAE((1,), 2), ps.RecurrentVAE((1,), 2), ps.ODELEBM((1,), 2)):
        with pytest.raises(ps.UnsupportedError, match=r"draws latents of single series, .*is_causal=True"):
            ps.start_filter(ps.GuidePosterior(other), even)
    chains = StoredPosterior(ps.KalmanVAE((1,)), even, {"codes": torch.zeros(1, 2, 2, 6, 2)})
    with pytest.raises(ps.UnsupportedError, match=r"single series, \['codes'\]"):
        ps.start_filter(chains, even)


def test_wrong_arguments() -> None:
    data = make_series(6, own_times=False)
    state = ps.start_filter(level_posterior(data), data)
    value = data.values[:, 0]
    with pytest.raises(ps.DataError, match="`state` must be a `FilterState`"):
        ps.filter_step(None, value)
    with pytest.raises(ps.ShapeError, match="one observation of each of 2 series"):
        ps.filter_step(state, value[:1])
    with pytest.raises(ps.ShapeError, match=r"observations of shape \(1,\). Got \(2,\)"):
        ps.filter_step(state, value.expand(2, 2))
    with pytest.raises(ps.DataError, match="Convert them"):
        ps.filter_step(state, value.float())
    with pytest.raises(ps.DataError, match="must be after that of the last step"):
        ps.filter_step(state, value, data.times[-1])
    with pytest.raises(ps.DataError, match="one for all or one for each of 2 series"):
        ps.filter_step(state, value, torch.arange(3) + 2e3)
    with pytest.raises(ps.ShapeError, match="`inputs` must have 0 entries a step.* Got 2"):
        ps.filter_step(state, value, inputs=torch.zeros(2, 2))
    given = ps.Sequences(data.values, inputs=torch.zeros(2, 6, 1))
    with pytest.raises(ps.ShapeError, match="`inputs` must have 1 entries a step.* Got 0"):
        ps.filter_forecast(ps.start_filter(level_posterior(given), given), horizon=2)
    with pytest.raises(ps.DataError, match="exactly one of `horizon` and `times`"):
        ps.filter_forecast(state)
    with pytest.raises(ps.PyroSeqError, match="determine"):
        ps.start_filter(level_posterior(data), data.hide((torch.arange(6) < 6) & (torch.arange(2)[:, None] == 1)))
    Level.has_even_times = True
    try:
        even = ps.Sequences(data.values)
        posterior = level_posterior(even)
        posterior.model.take_units(even)
        counting = ps.start_filter(posterior, even)
        with pytest.raises(ps.DataError, match="must be one step of 1 after the last"):
            ps.filter_step(counting, value, 6.5)
        with pytest.raises(ps.DataError, match="counts steps. Got 2"):
            ps.filter_forecast(counting, times=[6.0, 8.0])
        assert float(ps.filter_step(counting, value, 6.0).ends[-1]) == 6.0
    finally:
        Level.has_even_times = False


# ---------------------------------------------------------------------- codes of frames


def codes_case(kind: str, num_steps: int = 14) -> tuple[ps.GuidePosterior, ps.Sequences]:
    """A Kalman VAE whose modes and memory matter, on two series with gaps and single entries hidden."""
    data = make_series(num_steps, obs=3, own_times=kind == "continuous")
    hidden = torch.zeros(2, num_steps, 3, dtype=torch.bool)
    hidden[0, 5], hidden[1, 7:9] = True, True
    times = data.times if kind == "continuous" else None
    inputs = torch.randn(2, num_steps, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    given = inputs if kind == "inputs" else None
    data = ps.Sequences(data.values, mask=data.mask & ~hidden, times=times, inputs=given)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        size = int(given is not None)
        window = ps.WindowMixture(2, 3, length=3)
        dynamics = {
            "even": lambda: ps.MixedDynamics(2, 3, 3),
            "inputs": lambda: ps.MixedDynamics(2, 3, 3, mixture=window, input_dim=size),
            "one mode": lambda: ps.MixedDynamics(2, 3, 1),
            "continuous": lambda: ps.ContinuousDynamics(2, 3, 3),
        }[kind]()
        model = ps.KalmanVAE((3,), dynamics=dynamics, has_states=kind == "inputs").double()
        for parameter in model.dynamics.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.take_units(data)
    return ps.GuidePosterior(model), data


def run_codes(posterior: ps.GuidePosterior, data: ps.Sequences, start: int) -> tuple[ps.FilterState, torch.Tensor]:
    """The state after all steps, one by one from `start` on, and the codes drawn, (sample, series, time, code)."""
    state = ps.start_filter(posterior, data.first(start), num_samples=4, seed=1)
    codes = [state.known.memory[0].code]
    for number in range(start, data.num_steps):
        inputs = None if data.inputs is None else data.inputs[:, number]
        time = data.times[..., number]
        state = ps.filter_step(state, data.values[:, number], time, mask=data.mask[:, number], inputs=inputs)
        codes.append(state.known.memory[0].code)
    return state, torch.stack(codes, -2)


@pytest.mark.parametrize("kind", ["even", "inputs", "one mode", "continuous"])
def test_codes_one_by_one_are_the_batch_given_the_same_codes(kind: str) -> None:
    """Against a filter over the whole path, with parameters from all codes at once, and the guide's own formulas."""
    posterior, data = codes_case(kind)
    model = posterior.model
    state, codes = run_codes(posterior, data, 1)
    with torch.no_grad():
        prior, seen = model.prior(data), data.step_mask
        filled = prior.complete(codes, seen.expand(codes.shape[:-1]), is_mean=True)
        torch.testing.assert_close(codes, filled, rtol=1e-9, atol=1e-9)  # a hidden frame has its mean
        system = prior.parameters(codes)
        mask = seen[..., None].expand(codes.shape)
        batch = kalman_filter(codes, system, mask)
        torch.testing.assert_close(state.means, batch.filtered_means[..., -1, :], rtol=1e-9, atol=1e-9)
        expected = batch.filtered_covs[..., -1, :, :].expand(state.covs.shape)
        torch.testing.assert_close(state.covs, expected, rtol=1e-9, atol=1e-9)
        encoded = model.encode(data)
        read = dist.Normal(encoded.loc, encoded.scale).log_prob(codes).sum(-1)
        emitted = model.emission(codes).log_prob(data.values)
        weight = batch.log_likelihood + torch.where(data.entry_mask, emitted, 0.0).sum((-1, -2))
        weight = weight - torch.where(seen, read, 0.0).sum(-1)
        torch.testing.assert_close(state.log_likelihood, weight, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["one mode", "continuous"])
def test_forecasts_from_codes_are_those_of_the_batch(kind: str) -> None:
    """The law of the next codes given those drawn, from the path of all steps; and frames that they emit."""
    posterior, data = codes_case(kind)
    data, last = data.first(5), data.times[..., 5:6]
    state, codes = run_codes(posterior, data, 1)
    found = ps.filter_forecast(state, times=torch.cat([last, last + 1], -1), num_samples=8000)
    assert found.samples.shape == found.latents["states_future"].shape == (8000, 2, 2, 3)
    longer = ps.Sequences(torch.cat([data.values, data.values[:, :1]], 1), times=torch.cat([data.times, last], -1))
    with torch.no_grad():
        system = posterior.model.prior(longer).parameters(torch.nn.functional.pad(codes, (0, 0, 0, 1)))
        seen = (torch.arange(6) < 5)[:, None].expand(4, 2, 6, 2)
        batch = kalman_filter(torch.nn.functional.pad(codes, (0, 0, 0, 1)), system, seen)
        rows = system.observation if system.observation.ndim == 2 else system.observation[..., -1, :, :]
        expected = (rows @ batch.predicted_means[..., -1, :, None]).squeeze(-1)
        spread = rows @ batch.predicted_covs[..., -1, :, :] @ rows.mT + system.observation_cov
        drawn = found.latents["codes_future"]
        torch.testing.assert_close(found.emission_means, posterior.model.emission(drawn).mean)
    first = drawn[:, :, 0].reshape(2000, 4, 2, 2)
    assert_close_mc(first, expected)
    assert_close_mc((first - expected).square(), spread.diagonal(dim1=-2, dim2=-1).expand(expected.shape))


def test_a_frame_more_costs_the_same_whatever_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that the encoder reads, and all that is kept: the same after 3 as after 60 frames; and of other data."""
    posterior, data = codes_case("even", 63)
    lengths: list[int] = []
    original = posterior.model.encode
    monkeypatch.setattr(posterior.model, "encode", lambda data: (lengths.append(data.num_steps), original(data))[1])
    found = []
    for start in (3, 60):
        state = ps.start_filter(posterior, data.first(start), num_samples=4)
        lengths.clear()
        after = ps.filter_step(state, data.values[:, start])
        past = after.known.memory[0]
        kept = [past.mean, past.cov, past.code, *past.memory]
        found.append((list(lengths), sum(part.numel() for part in kept)))
        again = ps.filter_step(state, data.values[:, start])
        assert torch.equal(after.means, again.means)  # its own seed
        assert after.means[0].ne(after.means[1]).all()
    assert found[0] == found[1] and found[0][0] == [3]
