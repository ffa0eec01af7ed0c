"""Gradients of a path by a sweep against backpropagation through the same steps."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.nn.bayesian import BayesianMLP
from pyro_seq.nn.flow import Flow, SteeredFunction
from pyro_seq.ops import _runge_kutta
from pyro_seq.ops.mlp import ACTIVATIONS
from pyro_seq.ops.odeint import RK4, Euler, Midpoint
from tests.operations import Operations

DIM, SERIES, CONSTANT = 2, 4, 3
RANDOM = torch.Generator()


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=RANDOM)


class Path:
    """A path by a field of random weights, and a function of it with gradients for all that it depends on."""

    def __init__(
        self,
        *,
        sample=(),
        order=2,
        is_own=False,
        solver=None,
        act="tanh",
        is_steered=False,
        has_volume=False,
        input_dim=0,
    ):
        RANDOM.manual_seed(0)
        self.flow = Flow(DIM, order=order, solver=RK4(0.1) if solver is None else solver, input_dim=input_dim)
        size = order * DIM
        self.field = BayesianMLP(
            size + input_dim + CONSTANT * is_steered, DIM, (5, 4), activation=ACTIVATIONS[act]
        ).double()
        self.sources = [normal(*sample, SERIES, size), 0.5 * normal(*sample, self.field.num_weights)]
        if is_steered:
            self.sources.append(normal(SERIES, CONSTANT))
        self.times = (0.1 + normal(*[SERIES] * is_own, 5).abs() / 2).cumsum(-1)
        self.inputs = normal(SERIES, 5, input_dim) if input_dim else None
        self.weigh = normal(*sample, SERIES, 5, size), normal(*sample, SERIES, 5)
        self.has_volume = has_volume

    def loss(self, initial, weights, *constant):
        function = self.field.function(weights)
        function = SteeredFunction(function, *constant) if constant else function
        found = self.flow(function, initial, self.times, has_volume=self.has_volume, inputs=self.inputs)
        loss = (self.weigh[0] * found.path.sin()).sum()
        return loss + (self.weigh[1] * found.integral).sum() if self.has_volume else loss

    def gradients(self):
        sources = [source.clone().requires_grad_() for source in self.sources]
        loss = self.loss(*sources)
        return loss.detach(), *torch.autograd.grad(loss, sources)


@pytest.fixture
def plain(monkeypatch):
    """Call a function with backpropagation in place of sweeps."""

    def run(function):
        with monkeypatch.context() as patch:
            patch.setattr(_runge_kutta, "is_swept", lambda field, initial: False)
            return function()

    return run


CASES = {
    "as a model": {},
    "samples": {"sample": (3,)},
    "own times": {"is_own": True},
    "samples, own times, divergence": {"sample": (3,), "is_own": True, "has_volume": True},
    "divergence": {"has_volume": True},
    "first order": {"order": 1},
    "third order": {"order": 3, "has_volume": True},
    "midpoint": {"solver": Midpoint(0.1), "is_own": True},
    "euler": {"solver": Euler(0.1), "has_volume": True},
    "dense": {"solver": RK4(0.1, is_dense=True), "has_volume": True},
    "steered": {"is_steered": True, "order": 1},
    "steered, divergence": {"is_steered": True, "has_volume": True, "is_own": True},
    "inputs": {"input_dim": 2},
    "inputs, samples, divergence": {"input_dim": 2, "sample": (3,), "has_volume": True, "is_own": True},
    "inputs, steered": {"input_dim": 2, "is_steered": True},
    **{act: {"act": act} for act in ACTIVATIONS},
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_backpropagation(case, plain):
    path = Path(**CASES[case])
    value, *gradients = path.gradients()
    exact_value, *exact = plain(path.gradients)
    assert torch.equal(value, exact_value)
    for gradient, right in zip(gradients, exact, strict=True):
        assert (gradient - right).abs().max() < 1e-12 * right.abs().max()


def test_a_sweep_takes_place_and_takes_fewer_operations(plain):
    def count():
        with Operations() as counter:
            path.gradients()
        return counter.count

    path = Path()
    assert count() < 0.7 * plain(count)


def test_weights_get_the_gradient_of_the_last_backward_pass_alone():
    """A first pass over a part of the path leaves nothing behind."""
    path = Path()
    initial, weights = (source.clone().requires_grad_() for source in path.sources)
    frames = path.flow(path.field.function(weights), initial, path.times).path
    torch.autograd.grad(frames[:, -1].sum(), initial, retain_graph=True)
    (again,) = torch.autograd.grad(frames[:, 2].sum(), weights, retain_graph=True)
    (alone,) = torch.autograd.grad(
        path.flow(path.field.function(weights), initial, path.times).path[:, 2].sum(), weights
    )
    assert torch.equal(again, alone)


@pytest.mark.parametrize("case", ["as a model", "divergence", "steered"])
def test_gradients_of_gradients(case):
    path = Path(**CASES[case])
    sources = [source.clone().requires_grad_() for source in path.sources]
    assert torch.autograd.gradgradcheck(path.loss, sources, fast_mode=True)


def test_transforms_of_functions_go_through_backpropagation(plain):
    path = Path()
    found = torch.func.grad(path.loss)(*path.sources)
    torch.testing.assert_close(found, path.gradients()[1], rtol=1e-12, atol=1e-14)


def test_constants_and_weights_without_gradients():
    """Where only the initial state needs a gradient, as in chains."""
    path = Path(is_steered=True)
    initial = path.sources[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(path.loss(initial, *path.sources[1:]), initial)
    torch.testing.assert_close(gradient, path.gradients()[1], rtol=1e-13, atol=1e-15)
