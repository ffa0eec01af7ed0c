"""An emission of each kind, with data of its kind."""

from __future__ import annotations

from collections.abc import Callable

import torch

import pyro_seq as ps
from pyro_seq.data import one_hot


def _mixed(at: Callable[..., torch.Tensor]) -> torch.Tensor:
    return torch.cat([at(1), at(1).exp().round(), one_hot((at(1) > 0).float(), 2), at(1).exp()], -1)


def mixed_emission() -> ps.ColumnsEmission:
    """One number, one count, two classes, one positive number."""
    return ps.ColumnsEmission(
        [
            ([0], ps.GaussianEmission()),
            ([1], ps.NegativeBinomialEmission()),
            (slice(2, 4), ps.CategoricalEmission(2)),
            ([4], ps.LogNormalEmission()),
        ]
    )


KINDS: dict[str, tuple[Callable[[], ps.Emission], Callable[[Callable[..., torch.Tensor]], torch.Tensor]]] = {
    "log-normal": (ps.LogNormalEmission, lambda at: (3 * at(3)).exp()),
    "Poisson": (ps.PoissonEmission, lambda at: (2 * at(3).exp()).round()),
    "negative binomial": (ps.NegativeBinomialEmission, lambda at: (9 * at(3).exp()).round()),
    "continuous Bernoulli": (ps.ContinuousBernoulliEmission, lambda at: at(3).sigmoid()),
    "categorical": (lambda: ps.CategoricalEmission(3), lambda at: one_hot(at(2).abs().clamp(max=2).round(), 3)),
    "columns": (mixed_emission, _mixed),
}


def kind(name: str, num_series: int = 4, num_steps: int = 6) -> tuple[ps.Emission, ps.Sequences]:
    """A new emission of a kind, and series for it."""
    generator = torch.Generator().manual_seed(0)
    emission, values = KINDS[name]
    return emission(), ps.Sequences(values(lambda size: torch.randn(num_series, num_steps, size, generator=generator)))
