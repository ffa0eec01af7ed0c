"""All components of a series as one linear Gaussian state-space model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._host import on_host, uploaded
from pyro_seq.nn.components.component import Block, Component, Structure
from pyro_seq.nn.components.series_units import SeriesUnits
from pyro_seq.ops.kalman import LinearGaussianParameters

_FINEST = 30  # gaps are distinguished down to 2^-30 of a step


class Grid(NamedTuple):
    """Observation times of series, in steps.

    Attributes:
        gaps: The distinct gaps between observations, (gap,).
        which: Index of the gap before each observation, (time,) or (series, time); None if there is only one gap.
        inputs: Inputs of the components, (series, time, input), or None.
    """

    gaps: Tensor
    which: Tensor | None
    inputs: Tensor | None

    @classmethod
    def of(cls, times: Tensor, inputs: Tensor | None, dtype: torch.dtype, rounding: float) -> Grid:
        """The grid of times (time,) or (series, time) in steps, whose differences are accurate to `rounding`."""
        device, times = times.device, on_host(times)
        gaps = times.diff(dim=-1)
        if not gaps.shape[-1]:
            return cls(uploaded(times.new_ones(1).to(dtype), device), None, inputs)
        gaps = torch.cat([gaps[..., :1], gaps], -1)  # the first is never read
        finest = 2.0 ** min(_FINEST, math.floor(-math.log2(rounding)) if rounding else _FINEST)
        different, which = torch.unique((gaps * finest).round() / finest, return_inverse=True)
        return cls(uploaded(different.to(dtype), device), which.to(device) if len(different) > 1 else None, inputs)

    def along_time(self, matrix: Tensor) -> Tensor:
        """From one matrix per gap, (..., gap, row, column), to one per step; time is 1 if all gaps are equal."""
        if self.which is None or matrix.shape[-3] == 1:
            return matrix
        if self.which.ndim == 1 or matrix.ndim == 3:
            return matrix[..., self.which, :, :]
        series = torch.arange(len(self.which), device=matrix.device)[:, None]
        return matrix.expand(*matrix.shape[:-4], len(series), *matrix.shape[-3:])[..., series, self.which, :, :]


def assemble(
    structure: Structure, values: Sequence[Mapping[str, Tensor]], variance: Tensor, grid: Grid, units: SeriesUnits
) -> LinearGaussianParameters:
    r"""The model with the joined states of all components, and an observation of their sum with noise.

    Args:
        structure: The components.
        values: Parameters of each component, by name, (\*batch, 1).
        variance: Variance of the observation noise, (\*batch, time or 1, 1, 1).
        grid: Steps and inputs.
        units: Units of the data; they do not change the model, only the numerical precision.
    """
    blocks = [part.block(own, grid.gaps) for part, own in zip(structure.components, values, strict=True)]
    starts = [_start(part, block, units) for part, block in zip(structure.components, blocks, strict=True)]
    means, covs = zip(*starts, strict=True)
    is_diffuse = [not part.is_stationary for part in structure.components for _ in range(part.state_dim)]
    return LinearGaussianParameters(
        transition=grid.along_time(_block_diagonal([block.transition for block in blocks])),
        transition_cov=grid.along_time(_block_diagonal([block.transition_cov for block in blocks])),
        observation=_observation(structure, variance, grid.inputs),
        observation_cov=variance,
        initial_mean=torch.cat(means),
        initial_cov=_block_diagonal(covs),
        diffuse=uploaded(torch.tensor(is_diffuse), variance.device) if any(is_diffuse) else None,
    )


def contributions(structure: Structure, parameters: LinearGaussianParameters, states: Tensor) -> Tensor:
    """Contribution of each component to an observation, (..., time, component), given states (..., time, state)."""
    terms = parameters.observation.squeeze(-2) * states
    sizes = [part.state_dim for part in structure.components]
    return torch.stack([term.sum(-1) for term in terms.split(sizes, -1)], -1)


def _start(part: Component, block: Block, units: SeriesUnits) -> tuple[Tensor, Tensor]:
    """Mean and covariance at the first step; arbitrary for an unknown start, but most precise near the truth."""
    eye = torch.eye(part.state_dim, dtype=block.transition.dtype, device=block.transition.device)
    mean = units.centre * eye[0] if part.has_level else torch.zeros_like(eye[0])
    if block.initial_cov is not None:
        return mean, block.initial_cov
    return mean, torch.zeros_like(eye) if part.is_static else units.spread.square() * eye


def _block_diagonal(blocks: Sequence[Tensor]) -> Tensor:
    """The block diagonal matrix of matrices (..., size, size); leading axes broadcast."""
    batch = torch.broadcast_shapes(*(block.shape[:-2] for block in blocks))
    size, start = sum(block.shape[-1] for block in blocks), 0
    whole = blocks[0].new_zeros(*batch, size, size)
    for block in blocks:
        at = slice(start, start := start + block.shape[-1])
        whole[..., at, at] = block
    return whole


def _observation(structure: Structure, like: Tensor, inputs: Tensor | None) -> Tensor:
    """Observation matrix of all states, (1, state), or (series, time, 1, state) if it depends on inputs."""
    rows, start = [], 0
    for part in structure.components:
        own = None if inputs is None else inputs[..., start : (start := start + part.num_inputs)]
        rows.append(part.observation(like, own))
    batch = torch.broadcast_shapes(*(row.shape[:-1] for row in rows))
    return torch.cat([row.expand(*batch, row.shape[-1]) for row in rows], -1)[..., None, :]
