"""Scores of latents against what they are by definition, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score, roc_auc_score

from pyro_seq import metrics
from pyro_seq.errors import DataError, ShapeError


def test_auroc_agrees_with_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    usual, strange = rng.integers(0, 20, 300) / 4, rng.integers(3, 25, 200) / 4
    labels = np.repeat([0, 1], [300, 200])
    expected = roc_auc_score(labels, np.concatenate([usual, strange]))
    assert metrics.auroc(usual, strange) == pytest.approx(expected, abs=1e-12)
    assert metrics.auroc(strange, usual) == pytest.approx(1 - expected, abs=1e-12)


def test_auroc_at_its_ends() -> None:
    assert metrics.auroc(torch.zeros(3), torch.ones(4)) == 1.0
    assert metrics.auroc(torch.ones(3), torch.ones(4)) == 0.5


@pytest.mark.parametrize("scores", [[], [float("nan")], [1.0, float("inf")]])
def test_auroc_refuses_scores_that_cannot_be_ranked(scores: list[float]) -> None:
    with pytest.raises(DataError, match="`usual` must be finite"):
        metrics.auroc(scores, [1.0])


def test_nmi_of_separated_classes_is_one_and_of_noise_is_small() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(10).repeat_interleave(30)
    centres = 20 * torch.randn(10, 4, generator=generator)
    noise = torch.randn(300, 4, generator=generator)
    assert metrics.cluster_nmi(centres[labels] + noise, labels) == pytest.approx(1.0)
    # of independent partitions: (rows - 1)(columns - 1) / 2n nats over the mean entropy
    by_chance = 9 * 9 / 600 / np.log(10)
    assert metrics.cluster_nmi(noise, labels) < 3 * by_chance


def test_nmi_depends_on_the_seed_alone() -> None:
    features = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(50) % 3
    assert metrics.cluster_nmi(features, labels, seed=3) == metrics.cluster_nmi(features, labels, seed=3)


def test_nmi_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match="`labels` must be one a series"):
        metrics.cluster_nmi(torch.zeros(4, 2), [0, 1])
    with pytest.raises(ShapeError, match="`features` must be a vector"):
        metrics.cluster_nmi(torch.zeros(4), [0, 1, 0, 1])
    with pytest.raises(DataError, match="as many series as clusters"):
        metrics.cluster_nmi(torch.zeros(2, 2), [0, 1], num_clusters=3)


def test_r2_of_a_linear_quantity_and_of_noise() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 3))
    exact = features @ [1.0, -2.0, 0.5] + 3.0
    assert metrics.linear_r2(features[:50], exact[:50], features[50:], exact[50:]) == pytest.approx(1.0)
    noisy = exact + rng.normal(size=2000) * np.sqrt(5.25)  # half the variance
    assert metrics.linear_r2(features[:1000], noisy[:1000], features[1000:], noisy[1000:]) == pytest.approx(
        0.5, abs=0.06
    )
    mean = np.full(1000, noisy[1000:].mean())
    assert metrics.linear_r2(np.zeros((9, 1)), np.arange(9.0), np.zeros((1000, 1)), noisy[1000:]) < 0
    assert r2_score(noisy[1000:], mean) == 0


def test_r2_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match="`train_target` must be one number"):
        metrics.linear_r2(np.zeros((4, 2)), np.zeros(3), np.zeros((4, 2)), np.zeros(4))
    with pytest.raises(ShapeError, match="as wide as"):
        metrics.linear_r2(np.zeros((4, 2)), np.zeros(4), np.zeros((4, 3)), np.zeros(4))
    with pytest.raises(DataError, match="must vary"):
        metrics.linear_r2(np.zeros((4, 2)), np.arange(4.0), np.zeros((4, 2)), np.ones(4))
