"""Predictions that leave the finite numbers are an error that names series and time, for every model."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import NumericalError
from pyro_seq.models.kalman_vae import KalmanVAE
from pyro_seq.models.recurrent_vae import RecurrentVAE
from pyro_seq.models.srvp import SRVP
from pyro_seq.nn.dcgan import DCGAN
from pyro_seq.nn.emission import BernoulliEmission
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.evaluate import Forecasting, evaluate
from pyro_seq.predict.finite import about_numbers, require_finite, require_finite_latents
from pyro_seq.predict.verbs import forecast, reconstruct

GENERATOR = torch.Generator().manual_seed(0)
CURVES = Sequences(torch.randn(3, 6, 2, generator=GENERATOR))
FILMS = Sequences(torch.rand(2, 4, 1, 8, 8, generator=GENERATOR))


def unstable_kalman_vae() -> KalmanVAE:
    model = KalmanVAE((2,), 2, 3)
    model.dynamics.transition.data *= 5
    return model


def unstable_recurrent_vae() -> RecurrentVAE:
    """Its emission overflows where a code is not zero."""
    model = RecurrentVAE((2,), 2, hidden_dim=4)
    model.adapt(CURVES)
    model.emission.units.unit.fill_(3e38)
    return model


def unstable_srvp(**options) -> SRVP:
    options |= {"noise_dim": 2, "content_dim": 3, "num_frames": 2, "hidden_dim": 8}
    model = SRVP((1, 8, 8), 3, architecture=DCGAN((4, 6), code_dim=5), **options)
    for layer in model.transition.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data *= 1e4
    return model


def unstable_srvp_of_bits() -> SRVP:
    return unstable_srvp(emission=BernoulliEmission())


@pytest.mark.parametrize(
    "make",
    [unstable_kalman_vae, unstable_recurrent_vae, unstable_srvp, unstable_srvp_of_bits],
    ids=lambda f: f.__name__,
)
def test_every_model_says_where(make):
    torch.manual_seed(0)
    model = make()
    data = FILMS if isinstance(model, SRVP) else CURVES
    with pytest.raises(NumericalError, match=r"From time \d+ on, those of series \d are not"):
        forecast(GuidePosterior(model), data, horizon=60, num_samples=2)


def test_the_first_time_and_its_series_are_named():
    samples = torch.zeros(2, 3, 5, 1, 2)
    times = torch.tensor([0.0, 1.0, 4.0, 4.5, 6.0])
    require_finite(samples, samples, times)
    samples[1, 0, 4, 0, 1], samples[0, 2, 3, 0, 0] = math.nan, math.inf
    with pytest.raises(NumericalError, match=r"draws .* time 4\.5 on, those of series 2 are not, .* 2 of 3 series"):
        require_finite(samples, torch.zeros_like(samples), times)
    with pytest.raises(NumericalError, match=r"means .* time 14\.5 on, those of series 2"):
        require_finite(torch.zeros_like(samples), samples, torch.stack([times, times, times + 10]))
    with pytest.raises(NumericalError, match=r"draws .* time 1 on, those of series 0"):  # observations of no axes
        require_finite(torch.tensor([[[0.0, math.nan, 0.0]]]), torch.zeros(1, 1, 3), times[:3])


@pytest.mark.parametrize(
    ("name", "place", "words"),
    [
        ("path", (1, 3, 2, 0), r"finite. From time 4 on, those of series 3 are not, .* 1 of 4 series"),
        ("path_future", (0, 2, 1, 0), "finite. From time 6 on, those of series 2 are not"),
        ("start", (1, 3, 0), "finite. Those of series 3 are not"),
        ("weights", (1, 6), "finite. The model is unstable"),
    ],
)
def test_a_latent_is_named_with_its_series_and_its_time(name, place, words):
    dims = {"path": ("time", "state"), "start": ("state",), "weights": ("weight",)}
    data = Sequences(torch.zeros(4, 3, 1), times=[0.0, 1.0, 4.0, 4.5, 6.0])
    latents = {"path": torch.zeros(2, 4, 3, 1), "path_future": torch.zeros(2, 4, 2, 1), "start": torch.zeros(2, 4, 1)}
    latents |= {"weights": torch.zeros(2, 7), "count": torch.ones(2, 4).long()}
    require_finite_latents(latents, dims, data)
    latents[name][place] = math.inf
    with pytest.raises(NumericalError, match=f"draws of the latent `{name}` of a prediction must be {words}"):
        require_finite_latents(latents, dims, data)


def test_an_emission_does_not_hide_an_infinite_state(toy):
    """Such as that of pixels, whose sigmoid is a number there, too."""

    class Saturated(toy.Lines):
        dims: ClassVar = {**toy.Lines.dims, "path": ("time", "state")}

        def observe(self, emit, path, data):
            super().observe(lambda states: emit(states.nan_to_num(0.0, 0.0, 0.0)), path, data)

    model = Saturated()
    model.drift_loc.data.fill_(2.5e37)
    data = toy.make_data()
    assert bool(reconstruct(GuidePosterior(model), data, num_samples=2).samples.isfinite().all())
    with pytest.raises(NumericalError, match=r"latent `path` .* time 14 on, those of series 0 are not, .* 8 of 8"):
        forecast(GuidePosterior(model), data, horizon=10, num_samples=2)


def test_a_distribution_without_a_mean_may_say_so():
    samples = torch.zeros(2, 3, 5, 2)
    require_finite(samples, torch.full_like(samples, math.nan), torch.arange(5.0))


def test_errors_of_distributions_become_ours_and_others_do_not():
    with pytest.raises(NumericalError, match="Expected parameter loc"), about_numbers():
        torch.distributions.Normal(torch.tensor(math.nan), 1.0, validate_args=True)
    with pytest.raises(NumericalError, match="cholesky"), about_numbers():
        torch.linalg.cholesky(-torch.eye(2))
    with pytest.raises(ValueError, match="shapes"), about_numbers():
        raise ValueError("shapes differ")


def test_guides_with_bad_numbers_are_an_error_of_ours(toy):
    model = toy.make_lines()
    model.encoder.weight.data.fill_(math.nan)
    with pytest.raises(NumericalError, match="not finite"):
        reconstruct(GuidePosterior(model), toy.make_data())


def test_predictions_of_a_task_of_ones_own_are_checked(toy):
    """One series that is NaN would else be left out of the mean without a word."""

    class Half(Forecasting):
        def predict(self, posterior, given, **options):
            prediction = super().predict(posterior, given, **options)
            prediction.samples[:, 1] = math.nan
            return prediction

    with pytest.raises(NumericalError, match="series 1 are not, .* 1 of 8 series"):
        evaluate(GuidePosterior(toy.make_lines()), toy.make_data(), Half(5), num_samples=3)
