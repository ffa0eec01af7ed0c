"""What every component keeps: one long move is two short ones, and a stationary one stays as it starts."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from pyro_seq._recipes import rebuilt, recipe, unknown
from pyro_seq.errors import DataError
from pyro_seq.nn.components import (
    Autoregression,
    Component,
    Constant,
    Cycle,
    Level,
    Matern,
    Regression,
    Seasonal,
    SeasonalDummies,
    SmoothTrend,
    Structure,
    Trend,
)

COMPONENTS = {
    "level": Level(),
    "constant": Constant(),
    "trend": Trend(),
    "smooth trend": SmoothTrend(),
    "season": Seasonal(7.5, harmonics=2),
    "whole season": Seasonal(4),
    "dummies": SeasonalDummies(4),
    "cycle": Cycle(3, 20),
    "regression": Regression(2),
    "autoregression": Autoregression(3),
    "rough Matern": Matern(0.5),
    "Matern": Matern(1.5),
    "smooth Matern": Matern(2.5),
}
UNITS = {"spread": torch.tensor(2.0, dtype=torch.float64), "change": torch.tensor(0.5, dtype=torch.float64)}


def values(component: Component, *batch: int) -> dict[str, torch.Tensor]:
    """Parameters that any coordinates give, (*batch, 1) each."""
    generator = torch.Generator().manual_seed(3)
    draw = (torch.randn(*batch, 1, generator=generator, dtype=torch.float64) for _ in iter(int, 1))
    return {one.name: one.value(next(draw), UNITS) for one in component.parameters()}


@pytest.mark.parametrize("name", COMPONENTS)
def test_one_long_move_is_two_short_ones(name):
    component = COMPONENTS[name]
    whole = component.has_whole_steps
    gaps = torch.tensor([2.0, 5.0, 7.0] if whole else [0.3, 1.9, 2.2], dtype=torch.float64)
    block = component.block(values(component, 4), gaps)
    size = component.state_dim
    transition, cov = (part.expand(4, 3, size, size) for part in block[:2])
    first, then, both = transition.unbind(1)
    torch.testing.assert_close(then @ first, both, rtol=1e-12, atol=1e-12)
    expected = then @ cov[:, 0] @ then.mT + cov[:, 1]
    torch.testing.assert_close(expected, cov[:, 2], rtol=1e-10, atol=1e-12)
    assert float(torch.linalg.eigvalsh(cov).min()) > -1e-12
    assert component.observation(gaps, torch.zeros(1, 3, 2)).shape[-1] == size
    if not component.is_stationary:
        assert block.initial_cov is None
        return
    start = block.initial_cov
    torch.testing.assert_close(both @ start @ both.mT + cov[:, 2], start, rtol=1e-10, atol=1e-12)
    seen = component.observation(gaps, None)
    scale = values(component, 4)["scale"][:, 0]
    torch.testing.assert_close((start @ seen @ seen).sqrt(), scale, rtol=1e-12, atol=0)  # its own deviation


@pytest.mark.parametrize("name", COMPONENTS)
def test_one_step_is_the_first_of_any_gaps(name):
    """Alone, where a short way is taken, and among others."""
    component = COMPONENTS[name]
    alone = component.block(values(component), torch.ones(1, dtype=torch.float64))
    among = component.block(values(component), torch.tensor([1.0, 3.0], dtype=torch.float64))
    for one, other in zip(alone[:2], among[:2], strict=True):
        torch.testing.assert_close(one[..., 0, :, :], other[..., 0, :, :], rtol=1e-13, atol=1e-14)


def test_components_add_up():
    level, season, cycle = Level(), Seasonal(4), Cycle()
    assert (level + season) + cycle == level + (season + cycle) == Structure((level, season, cycle))
    assert rebuilt(recipe(level + season + cycle)) == level + season + cycle
    assert not list(unknown(recipe(Structure(tuple(COMPONENTS.values())[:1]))))


def test_names_must_differ_and_only_components_are_added():
    with pytest.raises(DataError, match="seasonal more than once"):
        Seasonal(7) + Seasonal(12)
    with pytest.raises(DataError, match="sum of components"):
        Level() + 3


def test_one_of_ones_own():
    """A drift of known size, written from outside."""

    @dataclass(frozen=True)
    class Known(Level):
        def parameters(self):
            return ()

        def block(self, values, gaps):
            return super().block({"scale": gaps.new_tensor([0.5])}, gaps)

    assert (Known(name="known") + Cycle()).components[0].state_dim == 1
