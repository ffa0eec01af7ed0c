"""What files of earlier versions hold otherwise: one number for all variables, or no tensor where there is one now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def shape_by_data(part: nn.Module, *names: str, **defaults: float) -> None:
    """Let these tensors of `part` hold one number until data say how many variables there are, then one for each.

    `take_shape` widens them, when the part adapts to data. Weights that are loaded bring their shape along: one number
    for all variables stays one, as in files of earlier versions, and so do the predictions.

    Args:
        part: The module with the tensors.
        names: Names of tensors.
        defaults: Names of further ones, with what they hold where earlier files have no such tensor.
    """
    part._shaped_by_data = dict.fromkeys(names) | defaults  # type: ignore[assignment]
    part.register_load_state_dict_pre_hook(_take_saved_shape)


def take_shape(part: nn.Module, shape: tuple[int, ...], *names: str) -> None:
    """Widen what holds one number to this shape: the tensors of these names, or all."""
    for name, tensor in _shaped_by_data(part).items():
        if tensor.shape != shape and (not names or name in names):
            tensor.data = tensor.data.mean().expand(shape).clone()


def expected_weights(module: nn.Module, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ``state_dict`` of `module` that a file with `saved` must fit: in its shapes, without what it may lack."""
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
    """Names of the buffers that parts have once they were measured, whether they have them now or not."""
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
    """One number may become one for each variable, and the other way round."""
    return tensor.ndim == 0 or saved.ndim == 0


def _shaped_by_data(part: nn.Module) -> dict[str, Tensor]:
    return {name: getattr(part, name) for name in getattr(part, "_shaped_by_data", ())}


def _default(part: nn.Module, name: str) -> float | None:
    return getattr(part, "_shaped_by_data", {})[name]


def came_later(part: nn.Module, layers: nn.Sequential, name: str) -> None:
    """Let earlier files lack the layers `name` of `part`: then the last is zero, and they have no effect."""
    last = f"{len(layers) - 1}."
    tensors = {f"{name}.{key}": key.startswith(last) for key in layers.state_dict()}
    part._came_later = tensors  # type: ignore[assignment]
    part.register_load_state_dict_pre_hook(_without_effect)


def _without_effect(part: nn.Module, saved: dict[str, Tensor], prefix: str, *_: Any) -> None:
    state = part.state_dict()
    for name, is_last in part._came_later.items():  # type: ignore[union-attr, operator]
        saved.setdefault(prefix + name, torch.zeros_like(state[name]) if is_last else state[name])
