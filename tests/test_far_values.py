"""Values far outside of the training data: one warning at every verb, and none where there is no reason."""

from __future__ import annotations

import warnings

import pytest
import torch

import pyro_seq as ps
from pyro_seq import diagnostics
from pyro_seq.predict.energies import energies

QUIET = ps.Trainer(progress=False, accelerator="cpu")
TINY = ps.SVI(num_steps=1, learning_rate=1e-12)
CELSIUS = 37 + torch.randn(6, 8, 2, generator=torch.Generator().manual_seed(0))
FAHRENHEIT = 1.8 * CELSIUS + 32


@pytest.fixture(scope="module")
def posterior() -> ps.GuidePosterior:
    torch.manual_seed(0)
    model = ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2))
    return ps.fit(model, ps.Sequences(CELSIUS), TINY, trainer=QUIET)


VERBS = {
    "forecast": lambda posterior, data: ps.forecast(posterior, data, horizon=2, num_samples=2),
    "impute": lambda posterior, data: ps.impute(posterior, data, num_samples=2),
    "filter": lambda posterior, data: ps.impute(posterior, data, num_samples=2, is_causal=True),
    "reconstruct": lambda posterior, data: ps.reconstruct(posterior, data, num_samples=2),
    "evaluate": lambda posterior, data: ps.evaluate(posterior, data, ps.Forecasting(4), num_samples=2),
    "fit": lambda posterior, data: ps.fit(posterior.model, data, TINY, trainer=QUIET),
    "energies": lambda posterior, data: energies(posterior.model, data, posterior.draws(data, 2)),
}


def warned(verb: str, posterior: ps.GuidePosterior, values: torch.Tensor) -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        VERBS[verb](posterior, ps.Sequences(values))
    return sum("far outside of what the model was trained on" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_says_so_once(posterior, verb):
    assert warned(verb, posterior, FAHRENHEIT) == 1
    assert warned(verb, posterior, CELSIUS + 2) == 0


def test_what_does_not_look_at_values_says_nothing(posterior, recwarn):
    ps.sample(posterior, ps.Sequences(FAHRENHEIT), num_samples=2)
    diagnostics.guide_ranks(posterior, ps.Sequences(FAHRENHEIT), "initial", num_samples=3)
    assert not recwarn


def test_new_units_have_a_range_of_their_own(posterior):
    data = ps.Sequences(FAHRENHEIT)
    model = ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2))
    ps.fit(model, ps.Sequences(CELSIUS), TINY, trainer=QUIET)
    anew = ps.fit(model, data, TINY, trainer=QUIET, readapt=True)
    assert warned("forecast", anew, FAHRENHEIT) == 0 and warned("forecast", anew, CELSIUS - 100) == 1


def test_files_keep_the_range(posterior, tmp_path):
    ps.save(posterior, tmp_path / "model.pt")
    assert warned("forecast", ps.load(tmp_path / "model.pt"), FAHRENHEIT) == 1


def test_models_that_were_not_trained_know_no_range():
    model = ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2))
    model.check_range(ps.Sequences(1e6 * FAHRENHEIT))
