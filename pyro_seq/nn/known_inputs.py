"""Known inputs, ``data.inputs``, and how models and their parts read them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pyro_seq._arguments import whole_number
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.exposure import column_of
from pyro_seq.nn.units import StandardiseInputs

_MIXED = 64  # features from observations and known inputs


def require_inputs(data: Sequences, input_dim: int, owner: str) -> None:
    """Refuse inputs of another size than the `input_dim` of their `owner`.

    Raises:
        ShapeError: With both sizes.
    """
    size = 0 if data.inputs is None else data.inputs.shape[-1]
    if size != input_dim:
        remedy = f"Make it with `input_dim={size}`, or leave inputs out." if size else "Pass them, `inputs=`."
        if data.static is not None and size + data.static.shape[-1] == input_dim:
            remedy = "Make inputs of the static covariates, too: `data.with_static_as_inputs()`."
        raise ShapeError(
            f"`data.inputs` must have {input_dim} entries a step, the `input_dim` of the {owner}. Got {size}. {remedy}"
        )


def keep_input_dim(part: Any, input_dim: int) -> None:
    """Give a part its attribute `input_dim` if it reads inputs.

    Otherwise the class attribute 0 applies, so that the part has no option unknown to files of earlier versions.
    """
    if whole_number(input_dim, "input_dim", 0):
        part.input_dim = int(input_dim)


class KnownInputs(nn.Module):
    """The inputs of the data, standardised once for all parts of a model that read them.

    A part reads inputs if its attribute `input_dim` is not 0. All parts that read inputs must have the same
    `input_dim`. If another part reads inputs, the encoder must as well, unless it has no such attribute, because
    observations depend on the state and on the inputs. The ``raw_inputs`` of an emission, such as exposures, are not
    among these inputs.

    Args:
        encoder: The encoder of series.
        parts: The other parts by name, first the one that moves the state.

    Raises:
        DataError: When parts read inputs of different sizes, or an encoder reads none although others do.
    """

    has_options: ClassVar[bool] = False

    def __init__(self, encoder: Any = None, /, **parts: Any) -> None:
        super().__init__()
        sizes = {name: getattr(part, "input_dim", 0) for name, part in parts.items()}
        if hasattr(encoder, "input_dim"):
            sizes["encoder"] = encoder.input_dim
        self.dim = max(sizes.values())
        reading = [size for size in sizes.values() if size]
        if len(set(reading)) > 1 or (self.dim and sizes.get("encoder") == 0):
            raise DataError(
                "Parts that read `data.inputs` must have the same `input_dim`, and the encoder too. Got "
                f"{', '.join(f'{size} of `{name}`' for name, size in sizes.items())}. Make those that read inputs, and "
                f"the encoder, with `input_dim={self.dim}`."
            )
        self.owner = next((name for name, size in sizes.items() if size), next(iter(sizes)))
        self.units = StandardiseInputs(self.dim) if self.dim else None
        self._raw = tuple(column for part in parts.values() for column in getattr(part, "raw_inputs", ()))

    def check(self, data: Sequences) -> None:
        """Refuse inputs of the wrong size."""
        beside = "".join(f", beside the exposure {column!r}" for column in self._raw)
        require_inputs(self._own(data), self.dim, self.owner + beside)

    def adapt(self, data: Sequences) -> None:
        """Set the units of the inputs from the training data."""
        if self.units is not None:
            self.units.adapt(self._own(data))

    def forward(self, data: Sequences) -> Tensor | None:
        """Standardised inputs at all of ``data.times``, (series, time, input); None if no part reads inputs."""
        if self.units is None:
            return None
        return self.units(self._own(data).inputs)

    def _own(self, data: Sequences) -> Sequences:
        """The data without the raw inputs of the emission, such as exposures."""
        if not self._raw or data.inputs is None:
            return data
        raw = {column_of(column, data) for column in self._raw}
        kept = [column for column in range(data.inputs.shape[-1]) if column not in raw]
        return data._with(inputs=data.inputs[..., kept] if kept else None)

    def for_part(self, part: Any, data: Sequences) -> Tensor | None:
        """Standardised inputs if `part` reads inputs, otherwise None."""
        return self(data) if getattr(part, "input_dim", 0) else None

    def read_by(self, encoder: Any, data: Sequences) -> tuple[Tensor, ...]:
        """Further arguments of an encoder: inputs (series, time, input), 0 after the last observed step of a series.

        Hiding the end of a series is therefore the same as cutting it off. Empty for an encoder that reads no inputs.
        """
        inputs = self.for_part(encoder, data)
        if inputs is None:
            return ()
        steps = torch.arange(inputs.shape[1], device=inputs.device)
        return (torch.where((steps < data.lengths[:, None])[..., None], inputs, 0.0),)

    def beside(self, path: Tensor, part: Any, data: Sequences) -> Tensor:
        """A path (..., series, time, dim) at all of ``data.times``, joined with the inputs if `part` reads them."""
        inputs = self.for_part(part, data)
        return path if inputs is None else torch.cat([path, inputs.expand(*path.shape[:-1], -1)], -1)


class InputMixer(nn.Module):
    r"""Mixes features f of frames with the inputs u of their steps: :math:`[f,\ \tanh(A [f, u] + b)]`.

    Args:
        num_features: Size of f.
        size_in: Size of u.
    """

    def __init__(self, num_features: int, size_in: int) -> None:
        super().__init__()
        self.layer = nn.Linear(num_features + size_in, _MIXED)
        self.num_features = num_features + _MIXED

    def forward(self, features: Tensor, inputs: Tensor) -> Tensor:
        """Features (batch, feature) of features (batch, feature) and inputs (batch, input)."""
        return torch.cat([features, self.layer(torch.cat([features, inputs], -1)).tanh()], -1)
