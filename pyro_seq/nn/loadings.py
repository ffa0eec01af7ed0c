"""Loadings of factors shared by all variables, and of one own factor per variable."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_seq._arguments import whole_number
from pyro_seq._recipes import rebuildable


@rebuildable
class OwnLoadings(nn.Module):
    r"""A linear map of shared factors f, own factors o (one per variable), and inputs u.

    .. math::
        g_i = \sum_k \Lambda_{ik} f_k + d_i o_i + \sum_j B_{ij} u_j + b_i

    Like an `nn.Linear` of all three joined, with a weight that is diagonal in the own factors.

    Args:
        num_factors: Number of shared factors.
        num_variables: Number of variables.
        input_dim: Size of the inputs.

    Example:
        >>> OwnLoadings(2, 3)(torch.zeros(5, 2 + 3)).shape
        torch.Size([5, 3])
    """

    def __init__(self, num_factors: int, num_variables: int, input_dim: int = 0) -> None:
        super().__init__()
        self.num_factors = whole_number(num_factors, "num_factors", 1)
        self.num_variables = whole_number(num_variables, "num_variables", 1)
        self.input_dim = whole_number(input_dim, "input_dim", 0)
        self.shared = nn.Parameter(0.3 * torch.randn(num_variables, num_factors))
        self.own = nn.Parameter(torch.full((num_variables,), 0.6))
        self.effects = nn.Parameter(torch.zeros(num_variables, input_dim))
        self.bias = nn.Parameter(torch.zeros(num_variables))

    @property
    def weight(self) -> Tensor:
        """The whole map, (variable, shared and own factors and inputs)."""
        return torch.cat([self.shared, self.own.diag_embed(), self.effects], -1)

    def forward(self, position: Tensor) -> Tensor:
        """Standardised variables (..., variable) of factors and inputs (..., factor and input)."""
        return functional.linear(position, self.weight, self.bias)
