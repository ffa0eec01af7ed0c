"""Phase portraits: axes, paths and streamlines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_seq.diagnostics import (
    plot_phase_portrait,
)
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.nn.flow import Flow
from pyro_seq.posterior import Prediction
from pyro_seq.predict.verbs import reconstruct
from tests.diagnostics.plots.figures import drawn
from tests.toy import make_lines


@pytest.mark.parametrize("is_principal", [True, False])
def test_phase_portrait(make_posterior, make_data, is_principal):
    posterior, data = make_posterior(), make_data()
    prediction = reconstruct(posterior, data, num_samples=4)
    figure = drawn(plot_phase_portrait(posterior.model, prediction, series=[0, 3], is_principal=is_principal))
    assert len(figure.axes) == 2
    for axes in figure.axes:
        paths = [line for line in axes.get_lines() if len(line.get_xdata()) == data.num_steps]
        assert len(paths) == 2 * (4 + 1)
        assert axes.get_xlabel().endswith(("position 0", "position 1")) and "velocity" in axes.get_ylabel()
        ends = np.array([[line.get_xdata().min(), line.get_xdata().max()] for line in paths])
        low, high = axes.get_xlim()
        assert low <= ends.min() and high >= ends.max()
        assert axes.collections, "streamlines"


def test_phase_portrait_without_turning_shows_the_coordinates(make_posterior, make_data):
    posterior = make_posterior()
    prediction = reconstruct(posterior, make_data(), num_samples=4)
    axes = plot_phase_portrait(posterior.model, prediction, components=[1], is_principal=False, series=[2]).axes[0]
    path = prediction.latents["path"][0, 2]
    np.testing.assert_allclose(axes.get_lines()[0].get_xdata(), path[:, 1], rtol=1e-6)
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), path[:, 3], rtol=1e-6)


def test_phase_portrait_turns_to_the_largest_variance(make_posterior, make_data):
    posterior = make_posterior()
    prediction = reconstruct(posterior, make_data(), num_samples=400)
    states = prediction.latents["path"].reshape(-1, 4)
    angle = torch.tensor(0.7)
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()]).reshape(2, 2)
    states = torch.randn(len(states), 2) * torch.tensor([1.0, 5.0]) @ turn
    path = torch.cat([states, states], -1).reshape(400, 5, 6, 4)
    latents = {**prediction.latents, "path": path}
    turned = Prediction(prediction.samples, prediction.emission_means, latents, prediction.times)
    figure = plot_phase_portrait(posterior.model, turned, series=[0], num_paths=400)
    widths = [np.concatenate([line.get_xdata() for line in axes.get_lines()[:400]]).std() for axes in figure.axes]
    np.testing.assert_allclose(widths, [5.0, 1.0], rtol=0.1)  # 2400 points: 1.5 % standard error


def test_phase_portrait_of_first_order_and_of_one_position(make_posterior, make_data):
    from pyro_seq.nn.bayesian import BayesianMLP

    first = make_posterior(flow=Flow(3, order=1), vector_field=BayesianMLP(3, 3, (4,)))
    figure = plot_phase_portrait(first.model, reconstruct(first, make_data(), num_samples=2))
    assert [axes.get_ylabel() for axes in drawn(figure).axes] == ["principal component 1", "principal component 2"]
    single = make_posterior(state_dim=1)
    assert len(drawn(plot_phase_portrait(single.model, reconstruct(single, make_data(), num_samples=2))).axes) == 1


def test_phase_portrait_refuses(make_posterior, make_data):
    posterior = make_posterior()
    prediction = reconstruct(posterior, make_data(), num_samples=2)
    for options in ({"site": "walk"}, {"series": [5]}, {"series": []}, {"components": [2]}, {"components": [-1]}):
        with pytest.raises(DataError):
            plot_phase_portrait(posterior.model, prediction, **options)
    flat = make_posterior(flow=Flow(1, order=1), vector_field=None)
    with pytest.raises(DataError, match="components"):
        plot_phase_portrait(flat.model, reconstruct(flat, make_data(), num_samples=2))
    with pytest.raises(UnsupportedError, match="vector field"):
        plot_phase_portrait(make_lines(), prediction)
