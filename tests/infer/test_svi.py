"""`SVI`: what it learns, and the options it refuses."""

from __future__ import annotations

import copy

import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.predict.verbs import forecast
from pyro_seq.training.schedules import Cosine


def test_learns(toy, quiet):
    data, model = toy.make_data(16), toy.make_lines()
    before = copy.deepcopy(model.state_dict())
    posterior = fit(model, data, SVI(num_steps=300, learning_rate=0.03), trainer=quiet)
    assert posterior.status == "completed" and posterior.model is model
    losses = posterior.history["loss"]
    assert sum(losses[-5:]) / 5 < 0.6 * losses[0]
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert forecast(posterior, data, horizon=3, num_samples=4).samples.shape == (4, 16, 3, 2)


def test_mean_field_optimum_is_reached(toy, quiet):
    """Mean-field Gaussian inference of a linear Gaussian model has the exact means and the variances 1 / precision_ii.

    The encoder is linear and sees all steps, so it can represent them for every series at once.
    """
    data, model = toy.make_data(16, num_steps=toy.SEEN), toy.make_lines()
    model.emit.requires_grad_(False)
    method = SVI(num_steps=500, learning_rate=0.1, schedule=Cosine(500), num_particles=8)
    fit(model, data, method, trainer=quiet)
    mean, cov = toy.exact_posterior(model, data)
    scale = torch.linalg.inv(cov).diagonal().rsqrt()
    with torch.no_grad():
        line_loc, line_log_scale = model.encoder(data.values.flatten(1)).chunk(2, -1)
    loc = torch.cat([model.drift_loc.detach(), line_loc.flatten()]).double()
    log_scale = torch.cat([model.drift_log_scale.detach(), line_log_scale.flatten()]).double()
    # in units of the factors' own standard deviations; what remains is the noise of the last steps
    assert float(((loc - mean) / scale).square().mean().sqrt()) < 0.15
    assert float((log_scale - scale.log()).square().mean().sqrt()) < 0.15


def test_scales_must_name_terms(toy, quiet):
    with pytest.raises(DataError, match="lines"):
        fit(toy.make_lines(), toy.make_data(), SVI(num_steps=2, scales={"lines": 0.1}), trainer=quiet)


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 0},
        {"num_steps": 2.5},
        {"num_steps": 1, "batch_size": 0},
        {"num_steps": 1, "learning_rate": 0.0},
        {"num_steps": 1, "learning_rate": float("nan")},
        {"num_steps": 1, "optimizer": "adam"},
        {"num_steps": 1, "schedule": 0.1},
        {"num_steps": 1, "clip_norm": -1.0},
        {"num_steps": 1, "num_particles": 0},
        {"num_steps": 1, "scales": {"x": -1.0}},
        {"num_steps": 1, "views": ("crop",)},
        {"num_steps": 1, "average": 1.0},
    ],
    ids=str,
)
def test_svi_checks_its_arguments(options):
    name = list(options)[-1]
    with pytest.raises(DataError, match=name):
        SVI(**options)
