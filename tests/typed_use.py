"""What type checkers are to know of the documented calls: `mypy` reads this file, and nothing runs it."""

from __future__ import annotations

from typing import assert_type

import torch

import pyro_seq as ps
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.posterior import GuidePosterior, PointPosterior, StoredPosterior


def documented_calls(model: ps.SequenceModel, data: ps.Sequences) -> None:
    """Each method gives its own kind of posterior, with what that has."""
    fitted = ps.fit(model, data, ps.SVI(num_steps=100))
    assert_type(fitted, GuidePosterior)
    assert_type(fitted.history["loss"], list[float])
    assert_type(fitted.status, str)
    assert_type(ps.fit(model, data, ps.IWAE(num_steps=100, num_particles=8)), GuidePosterior)
    assert_type(ps.fit(model, data, ps.MaximumLikelihood(num_steps=100)), ChainPosterior)
    chains = ps.fit(model, data, ps.MCMC(ps.NUTS(), num_samples=100, warmup_steps=100))
    assert_type(chains, StoredPosterior)
    assert_type(chains.sample_stats["diverging"], torch.Tensor)
    assert_type(ps.fit(model, data, ps.Mode()), PointPosterior)
    forecast = ps.forecast(fitted, data, horizon=12)
    assert_type(forecast, ps.Prediction)
    assert_type(forecast.samples, torch.Tensor)
