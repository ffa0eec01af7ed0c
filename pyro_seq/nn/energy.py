"""Energies of latent vectors, and the persistent chains of a learned prior."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_seq._arguments import whole_number
from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.mlp import mlp


@rebuildable
class EnergyMLP(nn.Module):
    """Energy of a vector by a smooth perceptron: the negative log of a factor on a base density.

    The last layer has no bias, because a constant cancels in the normaliser and would never get a gradient.

    Args:
        dim: Size of the vector, or of all latents joined if they share one energy.
        hidden_dims: Widths of the hidden layers.
        activation: After each hidden layer; must be smooth, because chains follow its gradient.

    Raises:
        DataError: When a size is not positive, or there is no hidden layer.
        ShapeError: When vectors have another size.

    Example:
        >>> EnergyMLP(3)(torch.zeros(4, 5, 3)).shape
        torch.Size([4, 5])
    """

    def __init__(
        self, dim: int, hidden_dims: Sequence[int] = (25, 25), *, activation: type[nn.Module] = nn.GELU
    ) -> None:
        super().__init__()
        if dim < 1 or not hidden_dims:
            raise DataError(f"`dim` must be at least 1, with one hidden layer or more. Got {dim} and {hidden_dims}.")
        last = nn.Linear(hidden_dims[-1], 1, bias=False)
        self.dim = dim
        self.layers = nn.Sequential(mlp((dim, *hidden_dims), activation), activation(), last)

    def forward(self, value: Tensor) -> Tensor:
        """Energies (...) of vectors (..., dim)."""
        if value.shape[-1] != self.dim:
            raise ShapeError(
                f"`value` must be vectors of {self.dim}, the `dim` of this EnergyMLP. Got the shape "
                f"{tuple(value.shape)}. Make the energy for the vector that the prior draws: "
                f"`EnergyMLP({value.shape[-1]})`."
            )
        return self.layers(value)[..., 0]


@rebuildable
class PersistentChains(nn.Module):
    """A pool of chains of a prior that continue from one training step to the next instead of starting from the base.

    Pass it to `EnergyBased` as `chains`, and keep it in the model: the pool is a buffer, saved with the weights.

    Args:
        num_chains: Size of the pool; several times the batch size, so that each batch uses only some of the chains.
        dim: Size of the vector.
        refresh: Share of the chains that restart from the base each time, so that none stays stuck.

    References:
        Tieleman (2008), Training restricted Boltzmann machines using approximations to the likelihood gradient.
        Du and Mordatch (2019), Implicit generation and modeling with energy based models.
    """

    values: Tensor
    is_started: Tensor

    def __init__(self, num_chains: int, dim: int, *, refresh: float = 0.05) -> None:
        super().__init__()
        self.num_chains = whole_number(num_chains, "num_chains", 1)
        if not 0 <= refresh < 1:
            raise DataError(f"`refresh` must be a share from 0 to below 1. Got {refresh!r}.")
        self.refresh = refresh
        self.register_buffer("values", torch.zeros(num_chains, whole_number(dim, "dim", 1)))
        self.register_buffer("is_started", torch.zeros(num_chains, dtype=torch.bool))

    @torch.no_grad()
    def take(self, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Chains to run next, shaped like `fresh` (..., dim), the source of restarts; and their indices."""
        count = fresh[..., 0].numel()
        few = count <= self.num_chains
        index = torch.randperm(self.num_chains)[:count] if few else torch.randint(self.num_chains, (count,))
        index = index.to(self.values.device)
        goes_on = self.is_started[index] & (torch.rand(count).to(index.device) >= self.refresh)
        start = torch.where(goes_on[:, None], self.values[index], fresh.reshape(count, -1))
        return start.reshape(fresh.shape), index

    @torch.no_grad()
    def put(self, index: Tensor, values: Tensor) -> None:
        """Store the positions of the chains at `index`; chains that are not finite restart next time."""
        flat = values.reshape(len(index), -1)
        is_good = flat.isfinite().all(-1)
        self.values[index] = torch.where(is_good[:, None], flat, 0).to(self.values)
        self.is_started[index] = is_good
