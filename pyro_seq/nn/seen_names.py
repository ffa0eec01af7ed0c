"""The column names of the training data, to detect data with other columns."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pyro_seq.data import Labels
from pyro_seq.data._columns import COLUMNS


class SeenNames(nn.Module):
    """Names of variables and inputs in training, if any; saved with the weights.

    Attributes:
        text: The names as the bytes of a text (buffer), because a ``state_dict`` holds tensors; None without names.
    """

    has_options: ClassVar[bool] = False
    optional: ClassVar[tuple[str, ...]] = ("text",)
    text: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("text", None)

    @property
    def labels(self) -> Labels:
        """The stored names."""
        return Labels() if self.text is None else Labels.restored(json.loads(bytes(self.text.cpu().numpy())))

    def take(self, labels: Labels, *, again: bool = False) -> None:
        """Store names where there are none yet; with `again`, replace all."""
        known = {} if again else self.labels.plain()
        names = {axis: found for axis, found in labels.plain().items() if axis in COLUMNS} | known
        self.text = torch.frombuffer(bytearray(json.dumps(names).encode()), dtype=torch.uint8) if names else None

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        found = state.get(f"{prefix}text")
        self.text = None if found is None else torch.empty_like(found)
        super()._load_from_state_dict(state, prefix, *args)
