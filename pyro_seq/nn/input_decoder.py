"""A decoder with an additive effect of known inputs on its output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pyro_seq._arguments import axis_sizes, whole_number
from pyro_seq._recipes import rebuildable
from pyro_seq.nn.mlp import mlp


@rebuildable
class InputDecoder(nn.Module):
    r"""A decoder of the state plus an effect of the step's inputs, which leaves the state unchanged.

    .. math::
        g(s_t, u_t) = D(s_t) + E(u_t)

    For effects that last only as long as an input, such as those of a calendar, a promotion or a sensor's setting. E is
    linear, or a network if `hidden_dims` are given, and initially zero; u are the inputs in units of the training data.
    The sum is on the decoder's scale: standardised values for a `GaussianEmission`, logits for pixels.

    Args:
        input_dim: Size of the inputs.
        obs_shape: Shape of the decoder's output, that of an observation.
        decoder: D, of positions (batch, dim); by default the model's.
        hidden_dims: Widths of the hidden layers of E.

    Raises:
        DataError: When a size is not positive.

    Example:
        >>> import torch
        >>> from pyro_seq import GaussianEmission
        >>> emission = GaussianEmission(InputDecoder(2, (3,), nn.Linear(4, 3)))
        >>> emission(torch.zeros(5, 7, 4 + 2)).batch_shape
        torch.Size([5, 7, 3])
    """

    decoder: nn.Module  # None until a model sets it

    def __init__(
        self,
        input_dim: int,
        obs_shape: tuple[int, ...],
        decoder: nn.Module | None = None,
        *,
        hidden_dims: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.input_dim = whole_number(input_dim, "input_dim", 1)
        self.obs_shape = axis_sizes(obs_shape, "obs_shape")
        self.hidden_dims = tuple(hidden_dims)
        self.register_module("decoder", decoder)
        self.effect = mlp((self.input_dim, *self.hidden_dims, math.prod(self.obs_shape)))
        nn.init.zeros_(self.effect[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.effect[-1].bias)  # type: ignore[arg-type]

    @property
    def has_skips(self) -> bool:
        """Whether the decoder takes feature maps of a frame."""
        return bool(getattr(self.decoder, "has_skips", False))

    def forward(self, position: Tensor, *maps: Any) -> Tensor:
        r"""Output of the decoder, (batch, \*obs), at positions with inputs last, (batch, dim + input)."""
        state, inputs = position.split((position.shape[-1] - self.input_dim, self.input_dim), -1)
        decoded = self.decoder(state, *maps)
        return decoded + self.effect(inputs).to(decoded.dtype).reshape(decoded.shape)
