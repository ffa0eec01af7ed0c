"""Exposures of counts: densities against scipy, rates that are recovered, forecasts under others, and refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pyro import poutine
from scipy import stats
from torch import Tensor, nn

import pyro_seq as ps
from pyro_seq.data import Labels
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.model import local_parameters
from pyro_seq.testing import check_model

QUIET = ps.Trainer(progress=False)
EMISSIONS = {"Poisson": ps.PoissonEmission, "negative binomial": ps.NegativeBinomialEmission}
EVERY = pytest.mark.parametrize("kind", EMISSIONS)


def counted(rates: Tensor, horizon: int = 0, seed: int = 0, num_inputs: int = 1) -> ps.Sequences:
    """Counts (series, time, 1) at rates (series, time) under exposures from 1 to 40, in the last of the inputs."""
    generator = torch.Generator().manual_seed(seed)
    count, length = rates.shape
    inputs = torch.rand(count, length + horizon, num_inputs, generator=generator, dtype=torch.float64)
    inputs[..., -1] = (inputs[..., -1] * np.log(40.0)).exp()
    counts = torch.poisson(rates * inputs[:, :length, -1], generator=generator)[..., None]
    names = [*(f"u{number}" for number in range(num_inputs - 1)), "population"]
    data = ps.Sequences(
        counts, times=torch.arange(length + horizon).double(), inputs=inputs, labels=Labels(inputs=names)
    )
    return data.to(dtype=torch.float32)


def recurrent(kind: str = "Poisson", exposure: str | int = "population") -> ps.RecurrentVAE:
    return ps.RecurrentVAE((1,), 1, hidden_dim=4, emission=EMISSIONS[kind](exposure=exposure))


@EVERY
def test_the_density_is_that_of_counts_at_exposure_times_rate(kind):
    torch.manual_seed(0)
    data = counted(torch.full((4, 7), 2.0))
    model = recurrent(kind)
    model.take_units(data)
    with local_parameters():
        trace = poutine.trace(poutine.seed(model.model, 0)).get_trace(data)
    law, codes = trace.nodes["x"]["fn"].base_dist, trace.nodes["codes"]["value"]
    mean = (model.emission(codes).mean.detach() * data.inputs).double().numpy()
    if kind == "Poisson":
        expected = stats.poisson(mean).logpmf(data.values.numpy())
    else:
        size = 1 / model.emission.dispersion.detach().double().numpy()
        expected = stats.nbinom(size, size / (size + mean)).logpmf(data.values.numpy())
    np.testing.assert_allclose(law.log_prob(data.values).detach().numpy(), expected, rtol=2e-5, atol=2e-5)


@EVERY
def test_units_are_those_of_rates_and_start_at_the_best_constant_one(kind):
    """Events over exposure, the highest likelihood of a constant rate, whatever the exposures."""
    data = counted(torch.full((30, 20), 2.5), seed=1)
    emission = EMISSIONS[kind](nn.Linear(1, 1), exposure=0)
    emission.adapt(data)
    best = float(data.values.sum() / data.inputs.sum())
    assert float(emission.units.centre) == pytest.approx(best, rel=1e-6)
    assert best == pytest.approx(2.5, abs=4 * np.sqrt(2.5 / float(data.inputs.sum())))


@pytest.mark.filterwarnings("ignore:The latent 'codes' has collapsed")  # series do not differ
def test_a_constant_rate_is_recovered_by_training():
    """Within four standard errors of the closed form, though counts vary forty times as their exposures do."""
    torch.manual_seed(0)
    data = counted(torch.full((60, 15), 3.0), seed=2)
    posterior = ps.fit(recurrent(), data, ps.SVI(num_steps=150, learning_rate=1e-2), trainer=QUIET)
    told = ps.reconstruct(posterior, data, num_samples=20)
    rates = (told.emission_means.mean(0) / data.inputs)[..., 0]
    best, error = float(data.values.sum() / data.inputs.sum()), float((3.0 / data.inputs.sum()).sqrt())
    assert float((rates * data.inputs[..., 0]).sum() / data.inputs.sum()) == pytest.approx(best, abs=4 * error)
    assert float(rates.std()) < 0.15 * best


def test_rates_that_differ_are_recovered_under_exposures_that_vary():
    """Each series has a rate of its own. Its estimate is compared with what the counts over the exposures say of it."""
    torch.manual_seed(0)
    rates = torch.linspace(-1, 1, 80).exp()[:, None].expand(-1, 20)
    data = counted(rates, seed=3)
    encoder = ps.RNNEncoder((1,), 1, hidden_dim=16)
    emission = ps.PoissonEmission(exposure="population")
    model = ps.ODELEBM((1,), 1, flow=ps.Flow(1, order=1), encoder=encoder, emission=emission)
    posterior = ps.fit(model, data, ps.SVI(num_steps=300, learning_rate=2e-2), trainer=QUIET)
    found = (ps.reconstruct(posterior, data, num_samples=20).emission_means.mean(0) / data.inputs).mean((1, 2))
    errors, level = (found.log() - rates[:, 0].log()), float(rates[:, 0].log().std())
    assert float(errors.square().mean().sqrt()) < 0.5 * level


@EVERY
def test_a_forecast_under_twice_the_exposure_has_twice_the_mean(kind):
    torch.manual_seed(0)
    data = counted(torch.full((5, 8), 2.0), horizon=4)
    posterior = ps.fit(recurrent(kind), data.first(8), ps.SVI(num_steps=3), trainer=QUIET)
    ahead = data.inputs[:, 8:]
    one = ps.forecast(posterior, data, num_samples=5)
    two = ps.forecast(posterior, data, inputs=2 * ahead, num_samples=5)
    torch.testing.assert_close(two.emission_means, 2 * one.emission_means, rtol=1e-5, atol=0)
    assert torch.equal(two.latents["codes"], one.latents["codes"])
    torch.testing.assert_close(
        ps.forecast(posterior, data.first(8), horizon=4, inputs=ahead, num_samples=5).mean, one.mean
    )


def models() -> dict[str, ps.SequenceModel]:
    """Alone, and beside an input that the other parts read."""
    driven = ps.NegativeBinomialEmission(ps.InputDecoder(1, (1,)), exposure="population")
    columns = ps.ColumnsEmission([([0], ps.PoissonEmission(exposure="population"))])
    encoder = ps.RNNEncoder((1,), 2, hidden_dim=4, input_dim=1)
    flow = ps.Flow(2, order=1, input_dim=1)
    return {
        "RecurrentVAE": recurrent(),
        "KalmanVAE": ps.KalmanVAE((1,), emission=ps.PoissonEmission(exposure=0)),
        "KalmanVAE, inputs": ps.KalmanVAE((1,), input_dim=1, emission=ps.PoissonEmission(exposure=1)),
        "ODELEBM, inputs": ps.ODELEBM((1,), 2, flow=flow, encoder=encoder, emission=driven),
        "ODE2VAE, columns": ps.ODE2VAE((1,), 2, emission=columns),
    }


@pytest.mark.parametrize(
    "name", ["RecurrentVAE", "KalmanVAE", "KalmanVAE, inputs", "ODELEBM, inputs", "ODE2VAE, columns"]
)
def test_models_keep_their_rules(name):
    torch.manual_seed(0)
    model, data = models()[name], counted(torch.full((4, 6), 2.0), num_inputs=2 if "inputs" in name else 1)
    model.take_units(data)
    report = check_model(model, data)
    assert not report.names("failed"), report


def test_a_file_keeps_the_exposure(tmp_path):
    data = counted(torch.full((4, 6), 2.0))
    posterior = ps.fit(recurrent(), data, ps.SVI(num_steps=1), trainer=QUIET)
    ps.save(posterior, tmp_path / "counts.pt")
    again = ps.load(tmp_path / "counts.pt", recurrent())
    assert again.model.emission.exposure == "population"
    assert torch.equal(
        ps.reconstruct(again, data, num_samples=3).mean, ps.reconstruct(posterior, data, num_samples=3).mean
    )
    assert "exposure" not in vars(ps.PoissonEmission())


def test_padding_of_shorter_series_is_no_exposure():
    pieces = [torch.ones(5, 1), torch.ones(3, 1)]
    data = ps.Sequences.from_list(pieces, inputs=[4 * piece for piece in pieces])
    posterior = ps.fit(recurrent(exposure=0), data, ps.SVI(num_steps=2), trainer=QUIET)
    assert ps.reconstruct(posterior, data, num_samples=2).mean.isfinite().all()
    assert float(posterior.model.emission.units.centre) == 0.25


def test_what_is_no_exposure_is_refused_at_the_door():
    data = counted(torch.full((3, 6), 2.0), horizon=2)
    posterior = ps.fit(recurrent(), data.first(6), ps.SVI(num_steps=1), trainer=QUIET)
    inputs = data.inputs.clone()
    inputs[1, 4] = 0.0
    with pytest.raises(DataError, match=r"positive exposures in column 'population'. Got 0 in series 1 at time 4"):
        ps.fit(recurrent(), dataclasses.replace(data, inputs=inputs).seen(), ps.SVI(num_steps=1), trainer=QUIET)
    with pytest.raises(DataError, match=r"Got -1 in series 0 at time 6, one of 6 such values"):
        ps.forecast(posterior, data, inputs=-torch.ones(3, 2, 1))
    with pytest.raises(ShapeError, match=r"exposure 'population' of the emission. Got 0 without names. Pass it"):
        ps.forecast(posterior, ps.Sequences(data.values), horizon=2)
    with pytest.raises(ShapeError, match=r"exposure 1 of the emission. Got those called \['population'\]"):
        ps.fit(recurrent(exposure=1), data.first(6), ps.SVI(num_steps=1), trainer=QUIET)
    with pytest.raises(ShapeError, match=r"0 entries a step, the `input_dim` of the \w+, beside the exposure 0. Got 1"):
        ps.fit(recurrent(exposure=0), counted(torch.ones(3, 6), num_inputs=2), ps.SVI(num_steps=1), trainer=QUIET)
    for wrong in (True, -1, "", 0.5, ["population"]):
        with pytest.raises(DataError, match="`exposure` must be the name of an input or its number"):
            ps.PoissonEmission(exposure=wrong)
