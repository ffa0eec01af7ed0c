"""The energy landscape: what is drawn where."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_seq import diagnostics
from pyro_seq.errors import DataError, ShapeError


def bowl(vectors: Tensor) -> Tensor:
    return 0.5 * vectors.square().sum(-1)


def some_draws() -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.3, 3.0, 1.0])
    return {"posterior": scale * torch.randn(7, 40, 3, generator=source), "prior": torch.randn(50, 3, generator=source)}


def points(figure) -> list[np.ndarray]:
    return [np.array(line.get_data()) for line in figure.axes[0].lines]


def test_coordinates_are_drawn_as_they_are() -> None:
    draws = some_draws()
    figure = diagnostics.plot_energy(bowl, draws, components=(0, 2), is_principal=False, num_points=10)
    posterior, prior = points(figure)
    np.testing.assert_allclose(posterior, draws["posterior"].reshape(-1, 3)[:, [0, 2]].T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(prior, draws["prior"][:, [0, 2]].T, rtol=1e-5, atol=1e-6)
    assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["posterior", "prior"]


def test_the_first_principal_direction_is_the_widest() -> None:
    posterior, _ = points(diagnostics.plot_energy(bowl, some_draws(), num_points=10))
    spread = posterior.std(1)
    assert spread[0] == pytest.approx(3.0, rel=0.15) and spread[0] > spread[1]
    np.testing.assert_allclose(posterior.mean(1), 0, atol=1e-5)


def test_the_landscape_is_the_energy_in_the_plane() -> None:
    asked = []

    def recorded(vectors: Tensor) -> Tensor:
        asked.append(vectors)
        return bowl(vectors)

    draws = some_draws()
    diagnostics.plot_energy(recorded, draws, components=(0, 1), is_principal=False, num_points=12)
    (grid,) = asked
    assert grid.shape == (144, 3)
    mean = draws["posterior"].reshape(-1, 3).mean(0)
    torch.testing.assert_close(grid[:, 2], mean[2].expand(144))
    for entry in (0, 1):
        together = torch.cat([values.reshape(-1, 3)[:, entry] for values in draws.values()])
        assert grid[:, entry].min() < together.min() and grid[:, entry].max() > together.max()


def test_few_of_many_draws_are_drawn() -> None:
    posterior, prior = points(diagnostics.plot_energy(bowl, some_draws(), num_points=4, max_draws=20))
    assert posterior.shape == (2, 20) and prior.shape == (2, 20)


def test_wrong_arguments() -> None:
    with pytest.raises(DataError, match="`components` must be"):
        diagnostics.plot_energy(bowl, some_draws(), components=(0, 3))
    with pytest.raises(DataError, match="`draws` must be"):
        diagnostics.plot_energy(bowl, {})
    with pytest.raises(ShapeError, match="all of one size"):
        diagnostics.plot_energy(bowl, {"a": torch.zeros(5, 2), "b": torch.zeros(5, 3)})
