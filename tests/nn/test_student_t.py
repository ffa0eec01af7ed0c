"""Heavy-tailed emission: limits, weights by integration, units, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import nn

import pyro_seq as ps
from pyro_seq.errors import DataError

QUIET = ps.Trainer(progress=False, accelerator="cpu")


def test_with_many_degrees_of_freedom_it_is_gaussian():
    torch.manual_seed(0)
    decoder, position, values = nn.Linear(2, 3).double(), torch.randn(4, 2).double(), torch.randn(4, 3).double()
    tails = ps.StudentTEmission(decoder, initial_df=1e7).double()
    normal = ps.GaussianEmission(decoder).double()
    torch.testing.assert_close(
        tails(position).log_prob(values), normal(position).log_prob(values), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("distance", [0.0, 1.0, 6.0])
def test_a_weight_is_the_mean_precision_given_the_distance(distance):
    """t given w is normal of precision w, and w is gamma: Bayes' rule by quadrature."""
    emission = ps.StudentTEmission(initial_df=5.0).double()

    def joint(w: float) -> float:
        return scipy.stats.norm.pdf(distance, scale=w**-0.5) * scipy.stats.gamma.pdf(w, 2.5, scale=1 / 2.5)

    mass, _ = scipy.integrate.quad(joint, 0, np.inf)
    mean, _ = scipy.integrate.quad(lambda w: w * joint(w), 0, np.inf)
    found = emission.weights(torch.tensor(distance**2, dtype=torch.float64)).item()
    assert found == pytest.approx(mean / mass, rel=1e-6)


def test_units_and_parameters_are_those_of_each_variable():
    values = torch.randn(8, 5, 3) * torch.tensor([1.0, 1e4, 1e-4]) + torch.tensor([0.0, 1e5, 7.0])
    model = ps.DynamicFactors((3,), 1, emission=ps.StudentTEmission())
    model.adapt(ps.Sequences(values))
    assert model.emission.scale.shape == model.emission.df.shape == (3,)
    torch.testing.assert_close(model.emission.scale / values.flatten(0, 1).std(0, correction=0), torch.full((3,), 0.5))
    torch.testing.assert_close(model.emission.df, torch.full((3,), 8.0))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"initial_df": 2.0}, "initial_df"),
        ({"initial_scale": 0.0}, "initial_scale"),
        ({"minimum_scale": 0.0}, "minimum"),
    ],
)
def test_arguments_out_of_range_are_refused(options, match):
    with pytest.raises(DataError, match=match):
        ps.StudentTEmission(**options)


def test_every_model_takes_it_and_a_file_restores_it(tmp_path):
    data = ps.Sequences(torch.randn(4, 6, 2) * 100)
    for model in (
        ps.ODE2VAE((2,), 2, emission=ps.StudentTEmission()),
        ps.KalmanVAE((2,), emission=ps.StudentTEmission()),
    ):
        posterior = ps.fit(model, data, ps.SVI(num_steps=2), trainer=QUIET)
        ps.save(posterior, tmp_path / "model.pt")
        pair = [ps.forecast(one, data, horizon=2, num_samples=3) for one in (posterior, ps.load(tmp_path / "model.pt"))]
        assert torch.equal(pair[0].samples, pair[1].samples) and bool(pair[0].samples.isfinite().all())
