"""Gated units with hand-written gradients, for a recursion whose backward pass is one sweep over all steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pyro_seq.nn.mean_deviation import MeanDeviationCell
from pyro_seq.ops.mlp import ACTIVATIONS, Activation, Layers, LayerSweep, record_layers

_ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Tanh: ACTIVATIONS["tanh"],
    nn.ReLU: ACTIVATIONS["relu"],
    nn.Sigmoid: ACTIVATIONS["sigmoid"],
}
Records = tuple[Tensor, ...]


class Perceptron:
    """A `torch.nn.Sequential` of linear layers with one activation between them.

    Args:
        layers: Weights and biases.
        activation: Between the layers.
    """

    def __init__(self, layers: Layers, activation: Activation) -> None:
        self.layers, self.activation = layers, activation
        self.tensors = [tensor for layer in layers for tensor in layer if tensor is not None]
        self.num_records = 2 * len(layers) - 1 if not activation.reads_output else len(layers)

    @classmethod
    def of(cls, module: nn.Module) -> Perceptron | None:
        """The perceptron that a module computes; None if it is not one or has hooks."""
        parts = list(module) if type(module) is nn.Sequential else [module]
        linears, activations = parts[::2], {type(part) for part in parts[1::2]}
        is_plain = len(parts) % 2 == 1 and all(type(part) is nn.Linear for part in linears) and len(activations) < 2
        if not is_plain or not activations <= _ACTIVATIONS.keys() or any(map(_has_hooks, (module, *parts))):
            return None
        activation = _ACTIVATIONS[activations.pop()] if activations else ACTIVATIONS["tanh"]
        layers = [(part.weight, part.bias) for part in linears if isinstance(part, nn.Linear)]
        return cls(layers, activation)

    def record(self, state: Tensor) -> tuple[Tensor, Records]:
        """The value, and the records that a sweep needs."""
        return record_layers(self.layers, self.activation, state)

    def sweep(self, records: Sequence[Tensor]) -> LayerSweep:
        """Transposed Jacobians from records stacked over all steps."""
        return LayerSweep(self.layers, self.activation, records)


class Reader(Protocol):
    """Update of a memory by features, step by step, with the backward pass from the last step to the first."""

    tensors: list[Tensor]

    def record(self, features: Tensor, memory: Tensor) -> tuple[Tensor, Records]:
        """The memory after reading, and the records that the backward pass needs."""
        ...

    def start_back(self, records: Records) -> None:
        """Begin the backward pass, with records stacked over all steps."""
        ...

    def pull(self, step: int, cotangent: Tensor) -> Tensor:
        """Cotangent of the memory before step `step`, from that of the memory after it."""
        ...

    def gradients(self) -> tuple[Tensor, list[Tensor]]:
        """Gradients of all features (step, series, feature), and of the `tensors`."""
        ...


def reader_of(cell: nn.Module) -> Reader | None:
    """The reader that is equivalent to a cell, or None if there is none."""
    if _has_hooks(cell):
        return None
    if type(cell) is nn.GRUCell and cell.bias:
        return GRUReader(cell)
    if type(cell) is MeanDeviationCell:
        parts = [Perceptron.of(part) for part in (cell.update, cell.reset, cell.proposal)]
        return None if None in parts else MeanDeviationReader(cell.dim, *parts)  # type: ignore[arg-type]
    return None


class GRUReader:
    """A `torch.nn.GRUCell`: with gates r and z, ``n = tanh(i + r h)`` and the memory ``n + z (memory - n)``."""

    def __init__(self, cell: nn.GRUCell) -> None:
        self.tensors = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]

    def record(self, features: Tensor, memory: Tensor) -> tuple[Tensor, Records]:
        """See `Reader`."""
        weight_ih, weight_hh, bias_ih, bias_hh = self.tensors
        size = memory.shape[-1]
        by_input, by_memory = linear(features, weight_ih, bias_ih), linear(memory, weight_hh, bias_hh)
        gates = (by_input[:, : 2 * size] + by_memory[:, : 2 * size]).sigmoid_()
        recalled = by_memory[:, 2 * size :]
        new = torch.addcmul(by_input[:, 2 * size :], gates[:, :size], recalled).tanh_()
        return torch.lerp(new, memory, gates[:, size:]), (features, memory, gates, recalled, new)

    def start_back(self, records: Records) -> None:
        """See `Reader`."""
        self._features, self._memories, gates, recalled, new = records
        reset, update = gates.chunk(2, -1)
        self._by_new = ((1 - update) * (1 - new * new)).unbind(0)
        self._by_update = ((self._memories - new) * update * (1 - update)).unbind(0)
        self._by_reset = (recalled * reset * (1 - reset)).unbind(0)
        self._reset, self._update = reset.unbind(0), update.unbind(0)
        self._kept: list[tuple[Tensor, Tensor]] = []

    def pull(self, step: int, cotangent: Tensor) -> Tensor:
        """See `Reader`."""
        by_new = cotangent * self._by_new[step]
        by_gates = torch.cat([by_new * self._by_reset[step], cotangent * self._by_update[step]], -1)
        by_memory = torch.cat([by_gates, by_new * self._reset[step]], -1)
        self._kept.append((torch.cat([by_gates, by_new], -1), by_memory))
        return torch.addmm(cotangent * self._update[step], by_memory, self.tensors[1])

    def gradients(self) -> tuple[Tensor, list[Tensor]]:
        """See `Reader`."""
        by_input, by_memory = (torch.stack(parts[::-1]) for parts in zip(*self._kept, strict=True))
        rows, memory_rows = by_input.flatten(0, 1), by_memory.flatten(0, 1)
        weights = [rows.mT @ self._features.flatten(0, 1), memory_rows.mT @ self._memories.flatten(0, 1)]
        return by_input @ self.tensors[0], [*weights, rows.sum(0), memory_rows.sum(0)]


class MeanDeviationReader:
    """A `MeanDeviationCell`; its memory is viewed as (series, 2, dim)."""

    def __init__(self, dim: int, update: Perceptron, reset: Perceptron, proposal: Perceptron) -> None:
        self.dim, self.parts = dim, (update, reset, proposal)
        self.tensors = [tensor for part in self.parts for tensor in part.tensors]

    def record(self, features: Tensor, memory: Tensor) -> tuple[Tensor, Records]:
        """See `Reader`."""
        update, reset, proposal = self.parts
        joint, pair = torch.cat([memory, features], -1), memory.unflatten(-1, (2, self.dim))
        wanted, by_update = update.record(joint)
        recalled, by_reset = reset.record(joint)
        wanted, recalled = wanted.sigmoid(), recalled.sigmoid()
        proposed, by_proposal = proposal.record(torch.cat([(recalled[:, None] * pair).flatten(1), features], -1))
        positive = proposed.clone()
        positive[:, self.dim :].abs_()
        new = torch.lerp(positive.unflatten(-1, (2, self.dim)), pair, wanted[:, None]).flatten(1)
        new[:, self.dim :].abs_()
        return new, (memory, proposed, wanted, recalled, *by_update, *by_reset, *by_proposal)

    def start_back(self, records: Records) -> None:
        """See `Reader`."""
        memory, proposed, wanted, recalled, *rest = records
        self._sweeps = []
        for part in self.parts:
            self._sweeps.append(part.sweep(rest[: part.num_records]))
            rest = rest[part.num_records :]
        pair, both = memory.unflatten(-1, (2, self.dim)), proposed.unflatten(-1, (2, self.dim))
        sign = torch.stack([torch.ones_like(both[:, :, 0]), both[:, :, 1].sign()], 2)
        wide = wanted[:, :, None]
        self._by_update = ((pair - both * sign) * wide * (1 - wide)).unbind(0)
        self._by_proposal = ((1 - wide) * sign).unbind(0)
        self._by_reset = (pair * (recalled * (1 - recalled))[:, :, None]).unbind(0)
        self._update, self._reset = wide.unbind(0), recalled[:, :, None].unbind(0)
        self._kept: list[Tensor] = []

    def pull(self, step: int, cotangent: Tensor) -> Tensor:
        """See `Reader`."""
        update, reset, proposal = self._sweeps
        pair, size = cotangent.unflatten(-1, (2, self.dim)), 2 * self.dim
        inside = proposal.pull(step, (pair * self._by_proposal[step]).flatten(1))
        by_recalled = inside[:, :size].unflatten(-1, (2, self.dim))
        joint = update.pull(step, (pair * self._by_update[step]).sum(1))
        joint = joint + reset.pull(step, (by_recalled * self._by_reset[step]).sum(1))
        self._kept.append(joint[:, size:] + inside[:, size:])
        direct = (pair * self._update[step]).addcmul_(by_recalled, self._reset[step])
        return direct.flatten(1).add_(joint[:, :size])

    def gradients(self) -> tuple[Tensor, list[Tensor]]:
        """See `Reader`."""
        return torch.stack(self._kept[::-1]), [found for sweep in self._sweeps for found in sweep.gradients()]


def _has_hooks(module: nn.Module) -> bool:
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks))
