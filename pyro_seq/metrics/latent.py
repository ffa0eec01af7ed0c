"""Scores of latents: detection of unusual series, agreement with classes, and prediction of a known quantity."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pyro_seq._arguments import whole_number
from pyro_seq.errors import DataError, ShapeError


def auroc(usual: Any, strange: Any) -> float:
    r"""Area under the ROC curve of a detector: the probability that an unusual series scores higher than a usual one.

    .. math:: P(s > u) + \tfrac12 P(s = u)

    over all pairs. 1 is perfect, 1/2 is chance; below 1/2 the score points the wrong way.

    Args:
        usual: Scores of series that should score low, such as energies of new series similar to training series.
        strange: Scores of unusual series.

    Returns:
        The area.

    Raises:
        DataError: When there are no scores, or some are not finite.

    Example:
        >>> auroc([0.0, 1.0, 2.0], [1.0, 3.0])
        0.75
    """
    usual, strange = (_finite(scores, name).ravel() for scores, name in ((usual, "usual"), (strange, "strange")))
    order = np.sort(usual)
    below = np.searchsorted(order, strange, side="left") + np.searchsorted(order, strange, side="right")
    return float(below.mean() / (2 * len(order)))


def cluster_nmi(features: Any, labels: Any, *, num_clusters: int | None = None, seed: int = 0) -> float:
    r"""Normalised mutual information between classes and clusters found by k-means.

    .. math:: 2\, I(C; L) / (H(C) + H(L))

    from 0, for clusters independent of the class, to 1, for clusters equal to the classes up to names. Classes are not
    used to find the clusters. The chance level is small but above 0, and higher for fewer series.

    Args:
        features: A vector for each series, (series, feature).
        labels: The class of each series, (series,).
        num_clusters: Number of clusters; the number of classes by default.
        seed: Seed of the ten starts of k-means.

    Returns:
        The information.

    Raises:
        ShapeError: When features and labels do not fit together.
        DataError: When numbers are not finite, or there are fewer series than clusters.

    Example:
        >>> cluster_nmi([[0.0], [0.1], [5.0], [5.1]], ["a", "a", "b", "b"])
        1.0

    References:
        MacQueen (1967), Some methods for classification and analysis of multivariate observations.
    """
    from sklearn.cluster import KMeans  # slow to import, and needed here only
    from sklearn.metrics import normalized_mutual_info_score

    features, labels = _table(features, "features"), np.asarray(labels)
    if labels.shape != features.shape[:1]:
        raise ShapeError(f"`labels` must be one a series, ({len(features)},). Got {labels.shape}.")
    count = len(np.unique(labels)) if num_clusters is None else whole_number(num_clusters, "num_clusters", 1)
    if count > len(features):
        raise DataError(f"`features` must have as many series as clusters, {count}. Got {len(features)}.")
    clusters = KMeans(count, n_init=10, random_state=seed).fit_predict(features)
    return float(normalized_mutual_info_score(labels, clusters))


def linear_r2(train_features: Any, train_target: Any, features: Any, target: Any) -> float:
    r"""Share of a quantity's variance that a linear regression on latents explains, on series not used for the fit.

    .. math:: 1 - \frac{\sum_i (y_i - a - b^\top z_i)^2}{\sum_i (y_i - \bar y)^2}

    1 is perfect, 0 is as good as the mean of the test series; negative values are worse.

    Args:
        train_features: Vectors (series, feature) that the regression is fitted to.
        train_target: The quantity, (series,).
        features: Vectors of the series that are scored.
        target: The quantity of these series, (series,).

    Returns:
        The share.

    Raises:
        ShapeError: When features and targets do not fit together.
        DataError: When numbers are not finite, or the quantity does not vary.
    """
    from sklearn.linear_model import LinearRegression  # slow to import, and needed here only

    train_features, features = _table(train_features, "train_features"), _table(features, "features")
    train_target, target = _finite(train_target, "train_target"), _finite(target, "target")
    for table, column, name in ((train_features, train_target, "train_target"), (features, target, "target")):
        if column.shape != table.shape[:1]:
            raise ShapeError(f"`{name}` must be one number a series, ({len(table)},). Got {column.shape}.")
    if features.shape[1] != train_features.shape[1]:
        raise ShapeError(
            f"`features` must be as wide as `train_features`, {train_features.shape[1]}. Got {features.shape[1]}."
        )
    variation = np.square(target - target.mean()).sum()
    if not variation > 0:
        raise DataError(f"`target` must vary for a share of its variance. Got {target[0]:g} throughout.")
    error = np.square(target - LinearRegression().fit(train_features, train_target).predict(features)).sum()
    return float(1 - error / variation)


def _finite(values: Any, name: str) -> np.ndarray:
    values = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise DataError(f"`{name}` must be finite numbers, one or more. Got {array.size}, some of them not finite.")
    return array


def _table(values: Any, name: str) -> np.ndarray:
    table = _finite(values, name)
    if table.ndim != 2:
        raise ShapeError(f"`{name}` must be a vector for each series, (series, feature). Got {table.shape}.")
    return table
