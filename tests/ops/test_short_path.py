"""Densities of short paths from their covariance matrix, against the filter; and when the filter is to be asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import pyro_seq as ps
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.errors import DataError, NumericalError
from pyro_seq.nn.components import (
    Autoregression,
    Constant,
    Cycle,
    Level,
    Matern,
    Seasonal,
    SeasonalDummies,
    SmoothTrend,
    Trend,
)
from pyro_seq.ops.kalman import LinearGaussianParameters, kalman_filter
from pyro_seq.ops.short_path import MOST_STEPS, short_path_log_density

STRUCTURES = {
    "level": Level(),
    "trend": Trend() + Seasonal(12),
    "dummies": SmoothTrend() + SeasonalDummies(4),
    "cycle": Level() + Cycle(4, 20),
    "stationary": Autoregression(2) + Matern(1.5),
    "constant": Matern(0.5) + Constant(),
}
GAPS = {"whole": [], "gaps": [0, 1, 3, *range(20, 27), 59]}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def series(gaps: str, num_series: int = 1) -> ps.Sequences:
    hidden = torch.zeros(num_series, 60, dtype=torch.bool)
    hidden[:, GAPS[gaps]] = True
    return ps.Sequences(50 + normal(num_series, 60, 1, seed=1).cumsum(1) + normal(num_series, 60, 1, seed=2)).hide(
        hidden
    )


def walk(noise: float = 1.0) -> LinearGaussianParameters:
    one = torch.ones(1, 1, dtype=torch.float64)
    return LinearGaussianParameters(one, one, one, noise * one, one[0], one)


def with_gradient(density: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    weight = normal(*density.shape, seed=3)
    return density.detach(), torch.autograd.grad((weight * density).sum(), coordinates, retain_graph=True)[0]


@pytest.mark.parametrize("num_series", [1, 3])
@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_values_and_gradients_are_those_of_the_filter(structure: str, gaps: str, num_series: int) -> None:
    data = series(gaps, num_series)
    model = ps.StructuralSeries(STRUCTURES[structure]).double()
    model.take_units(data)
    coordinates = normal(4, len(model.names)).requires_grad_()
    path = model.path(coordinates[:, None], data)
    arguments = path._arguments(data.values)
    density = short_path_log_density(*arguments)
    assert density is not None and density.shape == (4, num_series)
    found = with_gradient(density, coordinates)
    expected = with_gradient(kalman_filter(*arguments, is_parallel=False).log_likelihood, coordinates)
    for ours, other in zip(found, expected, strict=True):  # rounding, times a condition of at most 1e8
        torch.testing.assert_close(ours, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("is_diffuse", [False, True], ids=["known", "diffuse"])
@pytest.mark.parametrize(
    "batches", [((), ()), ((), (3,)), ((3,), (3,)), ((3,), ()), ((4, 1), (3,)), ((1,), (3,))], ids=str
)
def test_every_matrix_has_its_gradient(batches: tuple[tuple[int, ...], tuple[int, ...]], is_diffuse: bool) -> None:
    """Also the transition, of which the unknown start depends, and the values."""
    of_matrices, of_values = batches
    lead = (*of_matrices, 1) if of_matrices else ()
    roots = normal(*lead, 2, 2, seed=4)
    given = [
        (0.5 * normal(*lead, 2, 2, seed=5)).requires_grad_(),
        (roots @ roots.mT).detach().requires_grad_(),
        normal(*lead, 1, 2, seed=6).requires_grad_(),
        (0.5 + normal(*lead, 1, 1, seed=7).square()).requires_grad_(),
        normal(*of_matrices, 2, seed=8).requires_grad_(),
        torch.eye(2, dtype=torch.float64),
        None,
        None,
        torch.tensor([False, True]) if is_diffuse else None,
    ]
    parameters = LinearGaussianParameters(*given)
    values = normal(*of_values, 12, 1, seed=9).requires_grad_()
    density = short_path_log_density(values, parameters)
    expected = kalman_filter(
        values.expand(*torch.broadcast_shapes(of_matrices, of_values), 12, 1), parameters, is_parallel=False
    ).log_likelihood
    assert density is not None
    torch.testing.assert_close(density, expected, rtol=1e-9, atol=1e-9)
    weight = normal(*density.shape, seed=10)
    sources = [*given[:5], values]
    ours = torch.autograd.grad((weight * density).sum(), sources, retain_graph=True, allow_unused=True)
    others = torch.autograd.grad((weight * expected).sum(), sources, allow_unused=True)
    for number, (our, other) in enumerate(zip(ours, others, strict=True)):
        if number == 1:  # of a symmetric matrix: what either half is given is a convention
            our, other = our + our.mT, other + other.mT
        torch.testing.assert_close(torch.zeros_like(other) if our is None else our, other, rtol=1e-7, atol=1e-7)


def test_the_filter_is_to_be_asked() -> None:
    """About whatever this routine does not know, or knows with less digits."""
    values, one = normal(3, 20, 1).cumsum(1), torch.ones(1, 1, dtype=torch.float64)
    whole = torch.ones(3, 20, 1, dtype=torch.bool)
    ragged = whole.clone()
    ragged[0, 4] = False
    unknown = walk()._replace(diffuse=torch.tensor([True]))
    cases = {
        "applies": (values, walk(), whole),
        "single precision": (values.float(), LinearGaussianParameters(*(part.float() for part in walk()[:6])), None),
        "other types": (values, walk()._replace(transition=one.float()), None),
        "different gaps": (values, walk(), ragged),
        "nothing seen": (values, walk(), ~whole),
        "several entries": (values.expand(3, 20, 2), walk()._replace(observation=one.expand(2, 1)), None),
        "inputs": (values, walk()._replace(input_matrix=one, inputs=values), None),
        "changes over time": (values, walk()._replace(transition=one.expand(20, 1, 1)), None),
        "too long": (normal(1, MOST_STEPS + 1, 1), walk(), None),
        "too many": (normal(200, 400, 1), walk()._replace(transition=one.expand(200, 1, 1, 1)), None),
        "no noise to speak of": (values, walk()._replace(transition_cov=0 * one, observation_cov=1e-9 * one), None),
        "explodes": (values, walk()._replace(transition=1e200 * one), None),
        "start not determined": (values, unknown._replace(observation=1e-9 * one, transition=1e-9 * one), whole),
        "not finite": (values.where(values < values.max(), torch.nan), walk(), None),
    }
    found = {name for name, arguments in cases.items() if short_path_log_density(*arguments) is not None}
    assert found <= {"applies", "start not determined"} and "applies" in found


def test_a_path_has_one_density_and_the_errors_of_the_filter() -> None:
    path = LinearGaussian(walk(), 20)
    values = normal(3, 20, 1)
    loop = LinearGaussian(walk(), 20, is_parallel=False)
    torch.testing.assert_close(path.log_prob(values), loop.log_prob(values), rtol=1e-12, atol=0)
    with pytest.raises(DataError, match="must be finite"):
        path.log_prob(values.where(values < values.max(), torch.nan))
    model = ps.StructuralSeries(Trend() + Seasonal(12)).double()
    data = series("whole")
    model.take_units(data)
    few = model.path(torch.zeros(len(model.names), dtype=torch.float64), data.first(8))
    with pytest.raises(NumericalError, match="start"):
        few.log_prob(data.values[:, :8])
