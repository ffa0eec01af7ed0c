"""LPIPS with made-up networks, for which the distance can be written down."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_seq.errors import ShapeError, UnsupportedError
from pyro_seq.metrics import lpips, perceptual


def images(channels: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, channels, 6, 8)
    return tuple(torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))  # type: ignore[return-value]


def network(inputs: Tensor) -> list[Tensor]:
    """The image itself, and its 2 x 2 means, with a constant channel."""
    pooled = torch.nn.functional.avg_pool2d(inputs, 2)
    return [inputs, torch.cat([pooled, torch.ones_like(pooled[:, :1])], 1)]


def by_hand(first: Tensor, second: Tensor, weights: list[Tensor]) -> float:
    """One image (3, height, width)."""
    total = 0.0
    for layer, (one, other) in enumerate(zip(network(2 * first[None] - 1), network(2 * second[None] - 1), strict=True)):
        height, width = one.shape[-2:]
        for row in range(height):
            for column in range(width):
                a, b = one[0, :, row, column], other[0, :, row, column]
                total += float((weights[layer] * (a / a.norm() - b / b.norm()) ** 2).sum()) / (height * width)
    return total


def test_against_the_formula() -> None:
    prediction, truth = images()
    weights = [torch.tensor([1.0, 0.5, 2.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])]
    found = lpips(prediction, truth, network, weights=weights, keep=(0, 1))
    for series in range(2):
        for step in range(3):
            expected = by_hand(prediction[series, step], truth[series, step], weights)
            assert found[series, step].item() == pytest.approx(expected, rel=1e-8)
    torch.testing.assert_close(lpips(prediction, truth, network, weights=weights), found.mean())
    assert lpips(truth, truth, network) == 0.0


def test_samples_chunks_and_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, truth = images()
    samples = torch.stack([prediction, truth, 1 - truth])
    whole = lpips(samples, truth, network, keep=(0, 1))
    assert whole.shape == (3, 2, 3)
    monkeypatch.setattr(perceptual, "_MAX_IMAGES", 7)
    torch.testing.assert_close(lpips(samples, truth, network, keep=(0, 1)), whole)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    torch.testing.assert_close(lpips(samples, truth, network, mask=mask), whole[:, mask].mean(-1))


def test_grey_is_repeated_and_the_range_is_scaled() -> None:
    prediction, truth = images(channels=1)
    colour = lpips(prediction.expand(-1, -1, 3, -1, -1), truth.expand(-1, -1, 3, -1, -1), network)
    torch.testing.assert_close(lpips(prediction, truth, network), colour)
    torch.testing.assert_close(lpips(255 * prediction, 255 * truth, network, data_range=255.0), colour)


def test_wrong_images() -> None:
    prediction, truth = images()
    with pytest.raises(ShapeError, match="channel 1 or 3"):
        lpips(prediction[..., :2, :, :], truth[..., :2, :, :], network)
    with pytest.raises(ShapeError, match="nothing is broadcast"):
        lpips(prediction[:, :1], truth, network)
    mask = torch.ones_like(truth, dtype=torch.bool)
    mask[0, 0, 0, 0, 0] = False
    with pytest.raises(UnsupportedError, match="whole images"):
        lpips(prediction, truth, network, mask=mask)
