"""Fréchet distance against closed forms and a root of matrices; the network from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.metrics import I3D, frechet_distance


def features(count: int, seed: int, size: int = 6, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return scale * rng.standard_normal((count, size)) @ rng.standard_normal((size, size)) + rng.standard_normal(size)


def test_against_the_root_of_the_product_of_covariances() -> None:
    for seed in range(5):
        first, second = features(50, seed), features(80, seed + 10, scale=2.0)
        covs = [np.cov(each, rowvar=False) for each in (first, second)]
        gap = first.mean(0) - second.mean(0)
        expected = gap @ gap + np.trace(covs[0] + covs[1] - 2 * linalg.sqrtm(covs[0] @ covs[1]).real)
        assert float(frechet_distance(first, second)) == pytest.approx(expected, rel=1e-9)


def test_closed_forms() -> None:
    first = features(40, 0)
    assert float(frechet_distance(first, first)) == pytest.approx(0.0, abs=1e-10)
    assert float(frechet_distance(first, first + 2.0)) == pytest.approx(6 * 4.0, rel=1e-10)
    # Independent entries with standard deviations s and t: the sum of (s - t)^2
    spread = np.linalg.qr(np.random.default_rng(1).standard_normal((40, 6)) - 0.0)[0]
    spread = np.linalg.qr(spread - spread.mean(0))[0] * np.sqrt(39.0)
    scales = np.array([0.1, 1.0, 2.0, 3.0, 4.0, 0.0])
    expected = ((scales - 1.5) ** 2).sum()
    assert float(frechet_distance(spread * scales, spread * 1.5)) == pytest.approx(expected, rel=1e-10)


def test_fewer_features_than_entries() -> None:
    """Two points each: Gaussians on lines, for which the distance is known by hand."""
    first = np.zeros((2, 100))
    second = np.zeros((2, 100))
    first[1, 0], second[1, 0] = 2.0, 6.0  # deviations sqrt(2) and sqrt(18), means 1 and 3
    assert float(frechet_distance(first, second)) == pytest.approx(4.0 + (18**0.5 - 2**0.5) ** 2, rel=1e-12)
    turned = np.roll(second, 1, axis=1)  # orthogonal lines: the covariances do not overlap
    assert float(frechet_distance(first, turned)) == pytest.approx(1.0 + 9.0 + 2.0 + 18.0, rel=1e-12)


def test_symmetric_and_blind_to_the_order() -> None:
    first, second = features(30, 1), features(20, 2)
    value = float(frechet_distance(first, second))
    assert float(frechet_distance(second, first)) == pytest.approx(value, rel=1e-12)
    assert float(frechet_distance(first[::-1].copy(), second)) == pytest.approx(value, rel=1e-12)


def test_wrong_features() -> None:
    with pytest.raises(ShapeError, match="two or more"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(ShapeError, match="equal entries"):
        frechet_distance(np.zeros((5, 3)), np.zeros((5, 4)))
    with pytest.raises(DataError, match="finite"):
        frechet_distance(np.full((5, 3), np.nan), np.zeros((5, 3)))


class Means(torch.nn.Module):
    """Mean of each channel, and of each channel's first frame."""

    def forward(self, videos: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.cat([videos.mean((2, 3, 4)), videos[:, :, 0].mean((2, 3))], 1)


def test_network_from_a_file(tmp_path: Path) -> None:
    torch.jit.script(Means()).save(str(tmp_path / "means.pt"))
    network = I3D(tmp_path / "means.pt", scale=2.0)
    assert network.name.startswith("means.pt, sha256 ") and len(network.name) == 33
    values = torch.rand(20, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    stored = (values * 255).floor() / 255
    found = network(values)
    assert found.shape == (20, 6)
    # bilinear interpolation to a multiple of the size keeps the mean up to the border
    torch.testing.assert_close(found[:, 0], 2 * (2 * stored.mean((1, 2, 3, 4)) - 1), rtol=0, atol=0.05)
    torch.testing.assert_close(found[:, 0], found[:, 2], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("content", [None, b"", b"no network"])
def test_broken_network_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "i3d.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"i3d\.pt"):
        I3D(tmp_path / "i3d.pt")
