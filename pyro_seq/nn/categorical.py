"""Emission of classes."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_seq._arguments import whole_number
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.one_hot_classes import OneHotClasses
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.emission import Emission
from pyro_seq.nn.units import Standardise
from pyro_seq.nn.values_allowed import require_values

_RARE = 1e-3  # share of a class that does not occur in training


@rebuildable
class CategoricalEmission(Emission):
    r"""Classes, one-hot: each variable is `num_classes` entries, one of them 1; see ``pyro_seq.data.one_hot``.

    .. math::
        p(x_k = 1) = \pi_k, \qquad \pi = \mathrm{softmax}(\log m + g(s))

    with the shares m of the classes in training, where predictions start. Class numbers are not quantities, so no part
    of the library sees them: encoders read the one-hot entries, the mean of a prediction is the probability of each
    class, and draws are one-hot: ``prediction.samples.argmax(-1)`` gives the classes of one variable.

    Args:
        num_classes: Number of classes; the last axis of an observation has `num_classes` entries per variable.
        decoder: Maps positions (batch, dim) to g (batch, \*obs); by default the model's.
    """

    def __init__(self, num_classes: int, decoder: nn.Module | None = None) -> None:
        super().__init__(decoder)
        self.num_classes = whole_number(num_classes, "num_classes", 2)
        self.units = Standardise()

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""One-hot classes with logits around those of training, given `decoded` (..., \*obs)."""
        logits = decoded + self.units.centre.clamp(min=_RARE).log()
        return OneHotClasses(logits, self.num_classes, validate_args=False)

    def check(self, data: Sequences) -> None:
        """Refuse values that are not one-hot, and variables with only some entries hidden."""
        remedy = (
            f"Pass `pyro_seq.data.one_hot(classes, {self.num_classes})` of classes 0 to {self.num_classes - 1}, NaN "
            "where one is missing."
        )
        if data.obs_shape[-1] % self.num_classes:
            raise ShapeError(
                f"`data.values` must have {self.num_classes} entries for each variable on the last axis, one of them "
                f"1. Got observations of shape {data.obs_shape}. {remedy}"
            )
        is_bit = (data.values == 0) | (data.values == 1)
        rule = f"0 or 1, for a `CategoricalEmission` of {self.num_classes} classes"
        require_values(data, is_bit, rule, remedy)
        ones = data.values.unflatten(-1, (-1, self.num_classes))
        seen = data.entry_mask.unflatten(-1, (-1, self.num_classes))
        if bool((seen.any(-1) != seen.all(-1)).any()):
            raise DataError(
                f"`data.mask` must hide all {self.num_classes} entries of a class or none: the others would say which "
                f"it is. Got some hidden with {int((seen.any(-1) != seen.all(-1)).sum())} classes. {remedy}"
            )
        is_single = (ones.sum(-1, keepdim=True) == 1).expand_as(ones).flatten(-2)
        rule = f"1 at one of the {self.num_classes} entries of each class and 0 at the others"
        require_values(data, is_single, rule, remedy)

    def adapt(self, data: Sequences) -> None:
        """Set the shares of the classes from the observed entries."""
        self.units.adapt(data)
