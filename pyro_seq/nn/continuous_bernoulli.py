"""Emission of grey levels with a normalised density."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.continuous_bernoulli import ContinuousBernoulli
from pyro_seq.nn.emission import Emission
from pyro_seq.nn.values_allowed import require_values


@rebuildable
class ContinuousBernoulliEmission(Emission):
    r"""Grey levels or shares in [0, 1]: the cross-entropy of `BernoulliEmission`, normalised to a density.

    Draws and means are grey levels, and log scores of models can be compared. The density has one parameter per entry,
    so it cannot be narrow around a grey level, only near black and white.

    Args:
        decoder: Maps positions (batch, dim) to logits (batch, \*obs); by default the model's.
    """

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Continuous Bernoulli with logits `decoded` (..., \*obs)."""
        return ContinuousBernoulli(decoded, validate_args=False)

    def check(self, data: Sequences) -> None:
        """Refuse values outside of [0, 1]."""
        require_values(
            data,
            (data.values >= 0) & (data.values <= 1),
            "from 0 to 1 for a `ContinuousBernoulliEmission`",
            "Divide 8-bit images by 255 and percentages by 100, or use `GaussianEmission`.",
        )
