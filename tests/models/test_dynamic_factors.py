"""`DynamicFactors` against the dense Gaussian of all entries: evidence, posterior, forecasts; and it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

import pyro_seq as ps
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.infer.objective import Objective
from pyro_seq.testing import check_model

QUIET = ps.Trainer(progress=False, accelerator="cpu")


def make_model(obs: int = 3, factors: int = 2) -> ps.DynamicFactors:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = ps.DynamicFactors((obs,), factors).double()
        torch.nn.init.normal_(model.emission.decoder.weight)
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


@pytest.fixture
def fitted() -> tuple[ps.DynamicFactors, ps.Sequences]:
    model, data = make_model(), irregular()
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
        direction, width = torch.randn(2, dtype=torch.float64), 1e-5
        ends = []
        for sign in (1, -2):
            model.log_timescales += sign * width * direction
            ends.append(objective(data).total)
    slope = (slopes[0][0] * direction).sum()
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * width), slope, rtol=1e-5, atol=1e-7)


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


def test_it_keeps_every_rule():
    values = torch.randn(6, 7, 3, dtype=torch.float64).cumsum(1)
    report = check_model(ps.DynamicFactors((3,), 2).double(), ps.Sequences(values))
    assert report.names("failed") == ()


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
