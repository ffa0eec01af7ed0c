"""`SGLD` on a conjugate normal model: its stationary variance is the one that its bias has in closed form."""

from __future__ import annotations

import arviz
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import pyro_seq as ps

NUM_SERIES, BATCH, NOISE = 40, 8, 2.0


class Mean(ps.SequenceModel):
    """One number around which all series lie."""

    def model(self, data: ps.Sequences) -> None:
        mean = pyro.sample("mean", dist.Normal(data.values.new_zeros(1), 1.0).to_event(1))
        with self.series(data):
            path = mean[..., None, :].expand(*mean.shape[:-1], data.times.shape[-1], 1)
            self.observe(lambda states: dist.Normal(states, NOISE), path, data)


@pytest.fixture(scope="module")
def data() -> ps.Sequences:
    generator = torch.Generator().manual_seed(0)
    return ps.Sequences(1.0 + NOISE * torch.randn(NUM_SERIES, 1, 1, dtype=torch.float64, generator=generator))


def law(data: ps.Sequences) -> tuple[float, float, float]:
    """Mean and precision of the posterior, and the variance of a minibatch gradient of it."""
    precision = 1 + NUM_SERIES / NOISE**2
    mean = float(data.values.sum()) / NOISE**2 / precision
    spread = float(data.values.var()) / BATCH * (1 - BATCH / NUM_SERIES)  # of a mean of so many, drawn without return
    return mean, precision, (NUM_SERIES / NOISE**2) ** 2 * spread


@pytest.mark.parametrize(
    "share", [0.5, pytest.param(0.2, marks=pytest.mark.slow), pytest.param(0.05, marks=pytest.mark.slow)]
)
def test_stationary_variance_is_that_of_the_closed_form(data: ps.Sequences, quiet, share: float) -> None:
    """A step with s^2 of a share of the posterior variance; the draws are a first-order autoregression."""
    mean, precision, gradient = law(data)
    square = share / precision
    memory = 1 - square * precision / 2
    variance = (square + square**2 * gradient / 4) / (1 - memory**2)
    method = ps.SGLD(
        num_samples=1_000, warmup_steps=200, step_size=square**0.5, batch_size=BATCH, num_chains=64, thinning=2
    )
    posterior = ps.fit(Mean(), data, method, trainer=quiet)
    values = posterior.sites["mean"][..., 0]
    assert values.shape == (64, 1_000) and posterior.global_sites == {"mean"}
    size = _size(values, memory**2)
    assert abs(float(values.mean()) - mean) < 5 * (variance / size) ** 0.5 + 5 * _common(square, gradient, memory)
    assert float(values.var()) == pytest.approx(variance, rel=5 * (2 / size) ** 0.5 + 0.03)
    assert variance * precision > 1.005 + share / 10  # the bias is there to be seen


def gentle(toy) -> ps.SequenceModel:
    """Of a posterior that is not much narrower than the prior in any direction."""
    model = toy.make_lines().double()
    model.emit.weight.data.mul_(0.05)
    return model


def _size(values: Tensor, memory: float) -> float:
    """Effective draws of an autoregression."""
    return values.numel() * (1 - memory) / (1 + memory)


def _common(square: float, gradient: float, memory: float) -> float:
    """Deviation of the mean over time of what all chains share, the noise of the minibatches."""
    return (square**2 * gradient / 4 / (1 - memory) ** 2 / 2_000) ** 0.5


@pytest.mark.slow
def test_small_steps_on_all_series_are_right(toy, quiet) -> None:
    """Latents of series and those that they share, against the exact posterior."""
    data, model = toy.make_data(3).to(dtype=torch.float64), gentle(toy)
    method = ps.SGLD(num_samples=400, warmup_steps=400, step_size=0.08, num_chains=32, thinning=5)
    posterior = ps.fit(model, data, method, trainer=quiet)
    mean, cov = toy.exact_posterior(model, data)
    draws = torch.cat([posterior.sites["drift"], posterior.sites["line"].flatten(2)], -1)
    for latent in range(draws.shape[-1]):
        values, scale = draws[..., latent].numpy(), float(cov[latent, latent].sqrt())
        assert abs(values.mean() - float(mean[latent])) < 5 * scale / float(arviz.ess(values)) ** 0.5
        assert values.std() == pytest.approx(scale, rel=0.15)


@pytest.mark.slow
def test_series_latents_learn_when_their_turn_comes(toy, quiet) -> None:
    """With minibatches each line has its own posterior, not one that counts its series several times."""
    data, model = toy.make_data(6).to(dtype=torch.float64), gentle(toy)
    method = ps.SGLD(num_samples=400, warmup_steps=600, step_size=0.08, num_chains=32, batch_size=3, thinning=8)
    sites = ps.fit(model, data, method, trainer=quiet).sites
    mean, cov = toy.exact_posterior(model, data)
    level = sites["line"][..., 0].flatten(0, 1)
    torch.testing.assert_close(level.std(0), cov.diagonal()[1::2].sqrt(), rtol=0.2, atol=0)
    torch.testing.assert_close(level.mean(0), mean[1::2], rtol=0, atol=0.15)


def test_cycles(data: ps.Sequences, quiet) -> None:
    method = ps.SGLD(
        num_samples=6,
        warmup_steps=5,
        step_size=0.2,
        batch_size=4,
        num_chains=2,
        num_cycles=2,
        thinning=3,
        has_scale=True,
    )
    posterior = ps.fit(Mean(), data, method, trainer=quiet)
    steps = posterior.sample_stats["step_size"]
    assert posterior.sites["mean"].shape == (2, 6, 1) and not bool(posterior.sample_stats["diverging"].any())
    assert torch.equal(steps[:, :3], steps[:, 3:]) and bool((steps.diff(dim=1)[:, :2] < 0).all())
    assert float(steps.max()) < 0.2 * 0.5**0.5  # the second half of a cycle
    again = ps.fit(Mean(), data, method, trainer=quiet)
    assert torch.equal(again.sites["mean"], posterior.sites["mean"])
    assert ps.forecast(posterior, data, horizon=1, num_samples=4).samples.shape == (4, NUM_SERIES, 1, 1)


def test_preconditioning_evens_out_directions(quiet) -> None:
    class Two(ps.SequenceModel):
        def model(self, data: ps.Sequences) -> None:
            pair = pyro.sample("pair", dist.Normal(data.values.new_zeros(2), torch.tensor([0.01, 1.0])).to_event(1))
            with self.series(data):
                path = (0 * pair[..., :1])[..., None, :].expand(*pair.shape[:-1], data.num_steps, 1)
                self.observe(lambda states: dist.Normal(states, 1.0), path, data)

    even = ps.Sequences(torch.zeros(4, 2, 1))
    method = ps.SGLD(
        num_samples=500, warmup_steps=300, step_size=0.15, num_chains=8, has_scale=True, start=_Wide(), thinning=4
    )
    found = ps.fit(Two(), even, method, trainer=quiet).sites["pair"].flatten(0, 1).std(0)
    torch.testing.assert_close(found, torch.tensor([0.01, 1.0]), rtol=0.25, atol=0)


class _Wide:
    def draws(self, data: ps.Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {"pair": torch.tensor([0.01, 1.0]) * torch.randn(num_samples, 1, 2, generator=generator)}


def test_far_too_long_steps_are_an_error(data: ps.Sequences, quiet) -> None:
    method = ps.SGLD(num_samples=400, warmup_steps=0, step_size=1e8, batch_size=BATCH)
    with pytest.raises(ps.NumericalError, match=r"Lower `step_size`, 1e\+08"):
        ps.fit(Mean(), data, method, trainer=quiet)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"step_size": 0.0}, "`step_size` must be a positive number"),
        ({"num_samples": 0}, "`num_samples`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"num_cycles": 3}, "`num_samples` must be a multiple of `num_cycles`. Got 4 and 3"),
        ({"has_scale": True, "warmup_steps": 0}, "`has_scale` measures gradients in the warm-up"),
        ({"has_scale": 1}, "`has_scale` must be True or False"),
        ({"start": "prior"}, "`start` must be what `fit` returned"),
    ],
)
def test_arguments(wrong: dict, message: str) -> None:
    with pytest.raises(ps.DataError, match=message):
        ps.SGLD(**({"num_samples": 4, "warmup_steps": 1, "step_size": 0.1} | wrong))


def test_data(data: ps.Sequences, quiet) -> None:
    method = ps.SGLD(num_samples=1, warmup_steps=0, step_size=0.1, batch_size=41)
    with pytest.raises(ps.DataError, match="`batch_size` must be at most the number of series, 40. Got 41"):
        ps.fit(Mean(), data, method, trainer=quiet)
    with pytest.raises(ps.DataError, match="SGLD needs the whole data set"):
        ps.fit(Mean(), data.minibatch(torch.arange(2)), method, trainer=quiet)
    with pytest.raises(ps.UnsupportedError, match="validation"):
        ps.fit(Mean(), data, method, validation=data, trainer=quiet)
