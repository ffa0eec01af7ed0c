"""Faults of the public code of the Kalman VAE, each shown absent, and mistakes of users, each named at the verb."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.svi import SVI
from pyro_seq.models.kalman_vae import KalmanVAE
from pyro_seq.nn.frame import FrameEncoder
from pyro_seq.nn.mixture import MixedDynamics
from pyro_seq.nn.mlp import MLPTrunk
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.verbs import forecast, impute, reconstruct, sample
from tests.dense_gaussian import normal, random_dynamics

FORMS = pytest.mark.parametrize("has_states", [False, True], ids=["closed form", "states"])


def model(num_modes: int = 3, *, code_dim: int = 2, state_dim: int = 3, input_dim: int = 0, has_states: bool = False):
    dynamics = MixedDynamics(code_dim, state_dim, num_modes, input_dim=input_dim)
    return KalmanVAE((3,), dynamics=dynamics, has_states=has_states).double()


def sequences(num_series: int = 4, num_steps: int = 6, input_dim: int = 0) -> Sequences:
    inputs = normal(num_series, num_steps, input_dim, seed=1) if input_dim else None
    return Sequences(normal(num_series, num_steps, 3), inputs=inputs)


# ---------------------------------------------------------------- faults of the public code


@FORMS
@pytest.mark.parametrize("num_modes", [1, 3])
@pytest.mark.parametrize(
    ("num_series", "num_steps", "code_dim", "state_dim"),
    [(1, 6, 2, 3), (4, 6, 1, 3), (4, 6, 2, 1), (4, 1, 2, 3), (1, 1, 1, 1)],
    ids=["one series", "codes of size 1", "states of size 1", "one step", "one of everything"],
)
def test_axes_of_size_one_stay(num_series, num_steps, code_dim, state_dim, num_modes, has_states):
    """The public code squeezed all of them."""
    one = model(num_modes, code_dim=code_dim, state_dim=state_dim, has_states=has_states)
    data = sequences(num_series, num_steps)
    loss = Objective(one)(data).total
    loss.backward()
    assert loss.ndim == 0 and bool(loss.isfinite())
    posterior = GuidePosterior(one)
    if num_steps > 1:
        data = data.hide(torch.arange(num_steps).expand(num_series, -1) == num_steps // 2)
    prediction = forecast(posterior, data, horizon=1, num_samples=1)
    assert prediction.samples.shape == (1, num_series, 1, 3)
    assert prediction.latents["codes"].shape == (1, num_series, num_steps, code_dim)
    assert prediction.latents["states_future"].shape == (1, num_series, 1, state_dim)
    for is_causal in (False, True):
        filled = impute(posterior, data, is_causal=is_causal, num_samples=1)
        assert filled.samples.shape == (1, num_series, num_steps, 3)
        assert filled.latents["states"].shape == (1, num_series, num_steps, state_dim)
    assert sample(posterior, data, num_samples=2).samples.shape == (2, num_series, num_steps, 3)


@FORMS
@pytest.mark.parametrize("step", [1, 4, 6, 7])
def test_a_torque_moves_the_forecast_from_its_step_on(step, has_states):
    """The public filter used it for the move after; its objective for the move into the step."""
    dynamics = random_dynamics("lstm", input_dim=1)
    one, data = KalmanVAE((3,), dynamics=dynamics, has_states=has_states).double(), sequences(input_dim=1)
    ahead = data.extend(horizon=3, inputs=torch.zeros(4, 3, 1))
    inputs = ahead.inputs.clone()
    inputs[:, step] += 1.0
    pushed = Sequences(data.values, times=ahead.times, inputs=inputs)
    paths = []
    for grid in (ahead, pushed):
        drawn = sample(GuidePosterior(one), grid, num_samples=2).latents
        paths.append(torch.cat([drawn["codes"], drawn["codes_future"]], -2))
    if not has_states or step < 6:  # with states as a site, the noise of the first steps' states comes in between
        assert torch.equal(paths[0][..., :step, :], paths[1][..., :step, :])
        assert bool((paths[0][..., step, :] != paths[1][..., step, :]).all())
    filled = [forecast(GuidePosterior(one), grid, num_samples=2).latents["codes_future"] for grid in (ahead, pushed)]
    before = max(step - 6, 0)
    assert torch.equal(filled[0][..., :before, :], filled[1][..., :before, :])
    assert bool((filled[0][..., before, :] != filled[1][..., before, :]).all())


def test_any_number_of_series_may_follow_any_other():
    """The public code kept its batch size in the initial state."""
    one, data = model(), sequences(5)
    whole = GuidePosterior(one)
    for num_series in (1, 3, 5):
        assert reconstruct(whole, data[:num_series], num_samples=2).emission_means.shape == (2, num_series, 6, 3)


@FORMS
def test_single_entries_of_a_frame_may_be_missing(has_states):
    """The public mask was one of whole frames."""
    one, data = model(has_states=has_states), sequences()
    hidden = torch.zeros_like(data.values, dtype=torch.bool)
    hidden[0, 2, 1] = True
    filled = impute(GuidePosterior(one), data.hide(hidden), num_samples=50)
    assert torch.equal(filled.samples[:, ~hidden], data.values[~hidden].expand(50, -1))
    assert float(filled.samples[:, hidden].std()) > 0


def test_means_of_the_smoother_are_not_zero_and_the_last_frame_reaches_back():
    """A re-implementation never wrote the filtered means, so that its smoothed means were zero."""
    one, data = model(), sequences()
    gap = data.hide(torch.arange(6).expand(4, -1) == 2)
    other = Sequences(torch.cat([gap.values[:, :3], gap.values[:, 3:] + 1.0], 1), mask=gap.mask)

    def in_gap(data: Sequences, is_causal: bool) -> torch.Tensor:
        filled = impute(GuidePosterior(one), data, is_causal=is_causal, num_samples=5)
        return filled.latents["codes"][:, :, 2]

    assert bool((in_gap(gap, False) != in_gap(other, False)).all())
    assert torch.equal(in_gap(gap, True), in_gap(other, True))


def test_long_series_in_single_precision_stay_finite():
    """Without symmetric covariances and their factors float32 failed in the public code."""
    one = KalmanVAE((3,), dynamics=MixedDynamics(2, 4, 3))
    data = Sequences(torch.randn(2, 80, 3)).hide(torch.rand(2, 80) < 0.3)
    loss = Objective(one)(data).total
    loss.backward()
    assert bool(loss.isfinite())
    assert all(bool(p.grad.isfinite().all()) for p in one.parameters() if p.grad is not None)


def test_the_encoder_cannot_blur_codes_beyond_the_noise_of_the_emission():
    encoded = model().encode(sequences())
    assert bool((encoded.scale.square() <= 0.03).all())


# ---------------------------------------------------------------- mistakes of users


def verbs(one: KalmanVAE, data: Sequences):
    """What a user may call on data, one call each."""
    posterior = GuidePosterior(one)
    return [
        lambda: fit(one, data, SVI(num_steps=1)),
        lambda: forecast(posterior, data, horizon=1, num_samples=1),
        lambda: impute(posterior, data, num_samples=1),
        lambda: reconstruct(posterior, data, num_samples=1),
        lambda: sample(posterior, data, num_samples=1),
    ]


def test_times_must_be_even():
    uneven = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.5, 5.5])
    rates = torch.arange(6.0) * torch.tensor([1.0, 1.0, 2.0, 1.0])[:, None]
    for times in (uneven, rates):
        for verb in verbs(model(), Sequences(sequences().values, times=times)):
            with pytest.raises(DataError, match=r"`data.times` must be evenly spaced.*hidden steps between"):
                verb()
    with pytest.raises(DataError, match="`data.times` must be evenly spaced.*from 1 to 1.5"):
        forecast(GuidePosterior(model()), sequences(), times=torch.tensor([6.5, 7.5]), num_samples=1)


@pytest.mark.parametrize("times", [1e6 + torch.arange(6.0), 0.1 * torch.arange(6.0)], ids=["far", "tenths"])
def test_even_times_in_any_unit_and_rounding_will_do(times):
    for verb in verbs(model(), Sequences(sequences().values, times=times))[1:]:
        assert bool(verb().samples.isfinite().all())


@pytest.mark.parametrize(("wanted", "given"), [(2, 0), (0, 2), (2, 1)], ids=["missing", "unasked", "wrong size"])
def test_inputs_must_have_the_size_of_the_dynamics(wanted, given):
    for number, verb in enumerate(verbs(model(input_dim=wanted), sequences(input_dim=given))):
        if number == 1:
            continue
        with pytest.raises(ShapeError, match=rf"`data.inputs` must have {wanted} entries a step.*Got {given}"):
            verb()


def test_a_horizon_needs_its_inputs():
    one, data = model(input_dim=2), sequences(input_dim=2)
    with pytest.raises(ShapeError, match="`inputs` over the horizon is missing"):
        forecast(GuidePosterior(one), data, horizon=2)
    with pytest.raises(ShapeError, match="`inputs` must be"):
        forecast(GuidePosterior(one), data, horizon=2, inputs=torch.zeros(4, 3, 2))


def test_observations_must_have_the_shape_of_the_model():
    for verb in verbs(model(), Sequences(torch.rand(4, 6, 5).double())):
        with pytest.raises(ShapeError, match=r"`data.values` must have observations of shape \(3,\)"):
            verb()


def test_images_must_lie_between_zero_and_one():
    images = KalmanVAE((1, 8, 8))
    for verb in verbs(images, Sequences(255 * torch.rand(2, 4, 1, 8, 8))):
        with pytest.raises(DataError, match=r"must lie in \[0, 1\].*Divide 8-bit images by 255"):
            verb()


def test_there_must_be_a_step():
    empty = Sequences(torch.zeros(2, 0, 3).double(), times=torch.arange(3.0))
    with pytest.raises(DataError, match="must have at least one seen step"):
        sample(GuidePosterior(model()), empty)


def test_parts_must_fit_each_other():
    encoder = FrameEncoder(MLPTrunk(1, (3,)), 4)
    with pytest.raises(DataError, match="`encoder` must give codes of the size of the dynamics', 2. Got 4"):
        KalmanVAE((3,), 2, 4, encoder=encoder)
    with pytest.raises(DataError, match="must be positive"):
        KalmanVAE((3,), 0)
    with pytest.raises(DataError, match="must be positive"):
        KalmanVAE((3,), 2, 0)
    with pytest.raises(DataError, match="`input_dim` .*must be 0 or more"):
        KalmanVAE((3,), input_dim=-1)
