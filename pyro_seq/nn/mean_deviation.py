"""A recurrent unit with a mean and a deviation as its memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError
from pyro_seq.nn.mlp import mlp


@rebuildable
class MeanDeviationCell(nn.Module):
    r"""The gated unit of the Latent ODE paper: its memory is a mean and a deviation, its gates are perceptrons of both.

    .. math::
        u = \sigma(U[m, s, x]), \qquad r = \sigma(R[m, s, x]), \qquad (\tilde m, \tilde s) = N[r m, r s, x],

    .. math::
        m \leftarrow (1 - u)\, \tilde m + u\, m, \qquad s \leftarrow \left|(1 - u)\, |\tilde s| + u\, s\right|

    with perceptrons U, R and N of one hidden layer. It is called like `torch.nn.GRUCell`, with features (...,
    `input_size`) and a memory (..., `hidden_size`), first the mean m, then the deviation s.

    Args:
        input_size: Size of the features x: for an `ODERNNEncoder` of vectors, twice their length (values and mask).
        dim: Size of the mean; the memory is twice as large.
        num_units: Width of the hidden layers.

    Raises:
        DataError: When a size is not positive.

    Example:
        >>> cell = MeanDeviationCell(4, 20)
        >>> cell(torch.zeros(3, 4), torch.zeros(3, 40)).shape
        torch.Size([3, 40])

    References:
        Rubanova, Chen, Duvenaud, "Latent ODEs for irregularly-sampled time series", NeurIPS 2019.
    """

    def __init__(self, input_size: int, dim: int, *, num_units: int = 100) -> None:
        super().__init__()
        if min(input_size, dim, num_units) < 1:
            raise DataError(
                f"`input_size`, `dim` and `num_units` must be positive. Got {input_size}, {dim} and {num_units}."
            )
        self.input_size, self.dim, self.num_units = input_size, dim, num_units
        size = input_size + self.hidden_size
        self.update, self.reset = (mlp((size, num_units, dim)) for _ in range(2))
        self.proposal = mlp((size, num_units, 2 * dim))

    @property
    def hidden_size(self) -> int:
        """Size of the memory, ``2 * dim``."""
        return 2 * self.dim

    def forward(self, features: Tensor, memory: Tensor) -> Tensor:
        """Memory (..., hidden_size) after reading features (..., input_size)."""
        joint = torch.cat([memory, features], -1)
        update, reset = (torch.cat(2 * [gate(joint).sigmoid()], -1) for gate in (self.update, self.reset))
        mean, deviation = self.proposal(torch.cat([reset * memory, features], -1)).chunk(2, -1)
        mean, deviation = torch.lerp(torch.cat([mean, deviation.abs()], -1), memory, update).chunk(2, -1)
        return torch.cat([mean, deviation.abs()], -1)
