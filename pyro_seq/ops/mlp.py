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
        derivative: ``(x, y) -> dy/dx``, which uses the cheaper of the two.
    """

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]

    @property
    def reads_output(self) -> bool:
        """Whether the derivative uses only y, so that x need not be stored."""
        return self.derivative in (_tanh_derivative, _sigmoid_derivative)


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


# named functions, so that models can be pickled
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
    """Move axes before the sample axes (stages of a solver, probes) into the series axis; also return the inverse.

    Each sample's weights are then applied to all its states in one matrix product. The inverse accepts any ``(*sample,
    folded, size)``.
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
    """Affine map of states by one weight matrix, or by one matrix per sample.

    Weights ``(*sample, out, in)`` and biases ``(*sample, out)`` are applied to states ``(..., *sample, series, in)``.
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


def has_layer_sweep(layers: Layers, state: Tensor) -> bool:
    """Whether `record_layers` takes `state`: it must have the sample axes of the weights, and no others in front."""
    sample = layers[0][0].shape[:-2]
    return state.shape[:-2] == sample if sample else state.ndim > 1


def record_layers(layers: Layers, activation: Activation, state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The result of `apply_layers`, bit-equal, and the inputs of all layers.

    These are followed by the inputs of the activations, if the derivative reads them.
    """
    inputs, before = [state], []
    for weight, bias in layers[:-1]:
        before.append(linear(inputs[-1], weight, bias))
        inputs.append(activation.function(before[-1]))
    return linear(inputs[-1], *layers[-1]), (*inputs, *([] if activation.reads_output else before))


class LayerSweep:
    r"""Transposed Jacobians of a perceptron at many states, and the gradient of its weights at all of them together.

    .. math::
        r = W_1^\top D_1 \cdots W_{L-1}^\top D_{L-1} W_L^\top u, \qquad
        \frac{\partial}{\partial W_l} \sum_k u_k^\top f(y_k) = \sum_k \delta_{lk}\, a_{l-1,k}^\top,

    with :math:`D_l` the slopes of the activation and :math:`\delta_{lk}` the cotangent on its way before layer l.

    Args:
        layers: As for `apply_layers`.
        activation: As for `apply_layers`.
        records: Records of `record_layers`, stacked along a first axis.
    """

    def __init__(self, layers: Layers, activation: Activation, records: Sequence[Tensor]) -> None:
        self.layers = layers
        self._inputs, before = records[: len(layers)], records[len(layers) :]
        outputs = self._inputs[1:]
        pairs = zip(outputs if activation.reads_output else before, outputs, strict=True)
        self._slopes = [activation.derivative(*pair).unbind(0) for pair in pairs]
        self._cotangents: list[list[Tensor]] = [[] for _ in layers]

    def pull(self, number: int, cotangent: Tensor) -> Tensor:
        """The transposed Jacobian at state `number` times `cotangent`; called once each, last to first."""
        for layer in reversed(range(len(self.layers))):
            self._cotangents[layer].append(cotangent)
            cotangent = cotangent @ self.layers[layer][0]
            if layer:
                cotangent = cotangent * self._slopes[layer - 1][number]
        return cotangent

    def gradients(self) -> tuple[Tensor, ...]:
        """Gradients of weight and bias (if any) of each layer in turn."""
        num_axes = self.layers[0][0].ndim - 2
        found = []
        for (_, bias), inputs, cotangents in zip(self.layers, self._inputs, self._cotangents, strict=True):
            rows = _rows(torch.stack(cotangents[::-1]), num_axes)
            found.append(rows.mT @ _rows(inputs, num_axes))
            if bias is not None:
                found.append(rows.sum(-2))
        return tuple(found)


def _rows(values: Tensor, num_sample_axes: int) -> Tensor:
    r"""States (stage, ..., series, size) as rows of one matrix per sample, (\*sample, row, size)."""
    if not num_sample_axes:
        return values.flatten(0, -2)
    return values.movedim(0, -3).flatten(-3, -2)
