"""A multilayer perceptron as a function of its weights, which may carry sample axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pyro_seq._recipes import remember_constants

Layers = Sequence[tuple[Tensor, Tensor | None]]


class Activation(NamedTuple):
    """An elementwise function and its derivative.

    Attributes:
        function: ``x -> y``.
        derivative: ``(x, y) -> dy/dx``, free to use whichever of the two is cheaper.
    """

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]


def _elu_derivative(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(x > 0, torch.ones_like(y), y + 1)


def _silu_derivative(x: Tensor, y: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return gate + y * (1 - gate)


def _gelu_derivative(x: Tensor, y: Tensor) -> Tensor:
    return torch.special.ndtr(x) + x * torch.exp(-0.5 * x * x) * (2 * torch.pi) ** -0.5


def _tanh_derivative(x: Tensor, y: Tensor) -> Tensor:
    return 1 - y * y


def _sigmoid_derivative(x: Tensor, y: Tensor) -> Tensor:
    return y * (1 - y)


def _relu_derivative(x: Tensor, y: Tensor) -> Tensor:
    return (x > 0).to(y.dtype)


def _softplus_derivative(x: Tensor, y: Tensor) -> Tensor:
    return torch.sigmoid(x)


# named functions, so that models pickle
ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(torch.tanh, _tanh_derivative),
    "sigmoid": Activation(torch.sigmoid, _sigmoid_derivative),
    "relu": Activation(functional.relu, _relu_derivative),
    "softplus": Activation(functional.softplus, _softplus_derivative),
    "elu": Activation(functional.elu, _elu_derivative),
    "celu": Activation(functional.celu, _elu_derivative),
    "silu": Activation(functional.silu, _silu_derivative),
    "gelu": Activation(functional.gelu, _gelu_derivative),
}
remember_constants(ACTIVATIONS)


def fold(state: Tensor, num_sample_axes: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Move axes before the sample axes (stages of a solver, probes) into the series, and the way back.

    One matrix a sample then meets all its states in one product. The way back takes any ``(*sample, folded, size)``.
    """
    lead = state.ndim - 2 - num_sample_axes
    if not num_sample_axes or lead <= 0:
        return state, lambda result: result
    front = state.shape[:lead]
    folded = state.flatten(0, lead - 1).movedim(0, -3)
    sizes = folded.shape[-3:-1]

    def unfold(result: Tensor) -> Tensor:
        return result.unflatten(-2, sizes).movedim(-3, 0).unflatten(0, front)

    return folded.flatten(-3, -2), unfold


def linear(state: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Affine map of states under one weight matrix, or under one matrix a sample.

    Weights ``(*sample, out, in)`` and biases ``(*sample, out)`` meet states ``(..., *sample, series, in)``.
    """
    if weight.ndim == 2:
        return functional.linear(state, weight, bias)
    if state.ndim > weight.ndim:
        state, unfold = fold(state, weight.ndim - 2)
        return unfold(linear(state, weight, bias))
    if bias is None:
        return state @ weight.mT
    if weight.ndim == 3 and state.ndim == 3 and len(state) == len(weight):
        return torch.baddbmm(bias.unsqueeze(-2), state, weight.mT)
    return state @ weight.mT + bias.unsqueeze(-2)


def apply_layers(layers: Layers, activation: Activation, state: Tensor) -> Tensor:
    """Apply the layers with the activation between them; the last one stays linear."""
    state, unfold = fold(state, layers[0][0].ndim - 2)
    for weight, bias in layers[:-1]:
        state = activation.function(linear(state, weight, bias))
    return unfold(linear(state, *layers[-1]))
