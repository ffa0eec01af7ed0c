"""Scores of class probabilities. Classes are one-hot, as `pyro_seq.data.one_hot` makes them.

A prediction of a model with `CategoricalEmission` has its probabilities in ``prediction.mean``.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq.errors import ShapeError
from pyro_seq.metrics._scoring import Axes, as_mask, as_pair, average


def brier(probabilities: Any, truth: Any, num_classes: int, *, mask: Any | None = None, keep: Axes = ()) -> Tensor:
    r"""Brier score, the squared distance from the true class, 0 to 2; smaller is better.

    .. math::
        \mathrm{BS} = \sum_{k=1}^K (\pi_k - x_k)^2

    It is proper, K times the `mse` of the entries, and K times the `crps` of draws that have these probabilities.

    Args:
        probabilities: Probability of each class, (series, time, \*obs) with `num_classes` entries for each variable.
        truth: The classes, one-hot, same shape.
        num_classes: Number of classes K.
        mask: True where scored, over leading axes of `truth`; the same for all entries of a class.
        keep: Axes of `truth` that are not averaged; the last one counts variables.

    Returns:
        The score, a scalar unless axes are kept.

    Raises:
        ShapeError: When shapes do not fit.

    Example:
        >>> import torch
        >>> truth = torch.tensor([[[0.0, 1.0, 0.0]]])
        >>> brier(torch.tensor([[[0.25, 0.5, 0.25]]]), truth, 3)
        tensor(0.3750)

    References:
        Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review, 1950.
    """
    given, came, scored = _by_class(probabilities, truth, num_classes, mask)
    return average((given - came).square().sum(-1), scored, keep)


def accuracy(probabilities: Any, truth: Any, num_classes: int, *, mask: Any | None = None, keep: Axes = ()) -> Tensor:
    r"""Share of variables whose most probable class is the true one; ties go to the first class.

    It does not measure the confidence of a prediction: see `brier`.

    Args:
        probabilities: Probability of each class, (series, time, \*obs) with `num_classes` entries for each variable.
        truth: The classes, one-hot, same shape.
        num_classes: Number of classes.
        mask: True where scored, over leading axes of `truth`; the same for all entries of a class.
        keep: Axes of `truth` that are not averaged; the last one counts variables.

    Returns:
        The share, a scalar unless axes are kept.

    Raises:
        ShapeError: When shapes do not fit.
    """
    given, came, scored = _by_class(probabilities, truth, num_classes, mask)
    return average((given.argmax(-1) == came.argmax(-1)).to(given.dtype), scored, keep)


def _by_class(probabilities: Any, truth: Any, num_classes: int, mask: Any | None) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities and truth with an axis of classes at the end, and which variables are scored."""
    given, came = as_pair(probabilities, truth)
    num_classes = whole_number(num_classes, "num_classes", 2)
    if came.shape[-1] % num_classes:
        raise ShapeError(
            f"`truth` must have {num_classes} entries for each variable on its last axis. Got {tuple(came.shape)}. "
            "Make them by `pyro_seq.data.one_hot`, and cut other columns off."
        )
    split = [part.unflatten(-1, (-1, num_classes)) for part in (given, came, as_mask(mask, came))]
    return split[0], split[1], split[2].all(-1)
