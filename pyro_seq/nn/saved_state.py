"""Compatibility with files of earlier versions: one number for all variables, or tensors that did not exist yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def shape_by_data(part: nn.Module, *names: str, **defaults: float) -> None:
    """Let these tensors of `part` hold one number until data give the number of variables, then one per variable.

    `take_shape` expands them when the part adapts to data. Loaded weights keep their shape: one number for all
    variables, as in files of earlier versions, stays one, and predictions stay the same.

    Args:
        part: The module with the tensors.
        names: Names of tensors.
        defaults: Names of further tensors, with their value when an earlier file lacks them.
    """
    part._shaped_by_data = dict.fromkeys(names) | defaults  # type: ignore[assignment]
    part.register_load_state_dict_pre_hook(_take_saved_shape)


def take_shape(part: nn.Module, shape: tuple[int, ...], *names: str) -> None:
    """Expand tensors that hold one number to this shape: those with these names, or all."""
    for name, tensor in _shaped_by_data(part).items():
        if tensor.shape != shape and (not names or name in names):
            tensor.data = tensor.data.mean().expand(shape).clone()


def expected_weights(module: nn.Module, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ``state_dict`` that a file with `saved` must match: in its shapes, without tensors that it may lack."""
    optional = {*measured_names(module), *_names(module, "optional")}
    state = {name: weight for name, weight in module.state_dict().items() if name not in optional}
    state |= {name: saved[name] for name in optional & saved.keys()}
    for owner, part in module.named_modules():
        for name in getattr(part, "_came_later", ()):
            where = f"{owner}.{name}" if owner else name
            if where not in saved:
                del state[where]
        for name, tensor in _shaped_by_data(part).items():
            where = f"{owner}.{name}" if owner else name
            if where in saved and _fits(tensor, saved[where]):
                state[where] = tensor.new_empty(saved[where].shape)
            elif where not in saved and _default(part, name) is not None:
                del state[where]
    return state


def measured_names(module: nn.Module) -> list[str]:
    """Names of the buffers that parts have after a measurement, whether they exist yet or not."""
    return _names(module, "measured")


def _names(module: nn.Module, listed: str) -> list[str]:
    """Names of buffers that parts list in the attribute `listed`."""
    return [f"{path}.{name}".lstrip(".") for path, part in module.named_modules() for name in getattr(part, listed, ())]


def _take_saved_shape(part: nn.Module, saved: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, tensor in _shaped_by_data(part).items():
        default = _default(part, name)
        if default is not None:
            saved.setdefault(prefix + name, tensor.new_tensor(default))
        weight = saved.get(prefix + name)
        if weight is not None and _fits(tensor, weight):
            tensor.data = tensor.data.new_empty(weight.shape)


def _fits(tensor: Tensor, saved: Tensor) -> bool:
    """One number for all variables and one per variable fit each other."""
    return tensor.ndim == 0 or saved.ndim == 0


def _shaped_by_data(part: nn.Module) -> dict[str, Tensor]:
    return {name: getattr(part, name) for name in getattr(part, "_shaped_by_data", ())}


def _default(part: nn.Module, name: str) -> float | None:
    return getattr(part, "_shaped_by_data", {})[name]


def came_later(part: nn.Module, layers: nn.Sequential, name: str) -> None:
    """Let earlier files lack the layers `name` of `part`; the last one is then zero, so they have no effect."""
    last = f"{len(layers) - 1}."
    tensors = {f"{name}.{key}": key.startswith(last) for key in layers.state_dict()}
    part._came_later = tensors  # type: ignore[assignment]
    part.register_load_state_dict_pre_hook(_without_effect)


def _without_effect(part: nn.Module, saved: dict[str, Tensor], prefix: str, *_: Any) -> None:
    state = part.state_dict()
    for name, is_last in part._came_later.items():  # type: ignore[union-attr, operator]
        saved.setdefault(prefix + name, torch.zeros_like(state[name]) if is_last else state[name])
