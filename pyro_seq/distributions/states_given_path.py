"""Paths of the hidden state given the path that it emits."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.path import PathDistribution
from pyro_seq.errors import UnsupportedError
from pyro_seq.ops.precision import full_precision


class StatesGivenPath(PathDistribution):
    r"""Distribution of the states :math:`z_{1:T}` of a linear Gaussian model given the emitted path :math:`a_{1:T}`.

    .. math::
        \log p(z \mid a) = \log p(z_1) + \sum_{t > 1} \log N(z_t;\ A_t z_{t-1} + B_t u_t,\ Q_t)
            + \sum_t \log N(a_t;\ C_t z_t,\ R_t) - \log p(a)

    Draws are joint, with the right dependence between steps. Steps after the end of a series do not count in
    `log_prob`, but draws are conditioned on the path there too: the path was drawn, and later steps depend on both.

    Args:
        linear: The model, without a mask.
        path: The emitted path, (..., time, obs).
        valid: True where a step exists, (..., time), False after the end of a series; None if all exist.
        is_joint: Score :math:`\log p(z, a)` instead, without the last term: for a site that also carries the density of
            the path.

    Raises:
        UnsupportedError: If `linear` has a diffuse start.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(
        self, linear: LinearGaussian, path: Tensor, *, valid: Tensor | None = None, is_joint: bool = False
    ) -> None:
        if linear.parameters.diffuse is not None:
            raise UnsupportedError(
                "The states of a path need a known start to have a density. Got `diffuse` in the parameters of "
                "`linear`. Draw them with `linear.sample_states`, or give them a known start."
            )
        self.linear, self.path, self.is_joint = linear, path, is_joint
        batch = torch.broadcast_shapes(linear.batch_shape, path.shape[:-2], () if valid is None else valid.shape[:-1])
        event = torch.Size((linear.num_steps, linear.parameters.initial_mean.shape[-1]))
        super().__init__(batch, event, valid, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> StatesGivenPath:
        """The same distribution over a larger batch."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        linear = self.linear.expand(torch.Size(batch_shape))
        return StatesGivenPath(linear, self.path, valid=self.valid, is_joint=self.is_joint)

    @full_precision
    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw paths of the state; gradients reach the path and all parameters."""
        sample_shape = torch.Size(sample_shape)
        draws = self.linear.sample_states(self.path, sample_shape.numel())
        return draws.reshape(sample_shape + draws.shape[1:])

    @full_precision
    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the states at valid steps, ``(*batch,)``."""
        parameters = self.linear.parameters.between(0, self.linear.num_steps)
        batch = torch.broadcast_shapes(value.shape[:-2], self.batch_shape)
        expected = _times(_later(parameters.transition), value[..., :-1, :])
        if parameters.input_matrix is not None and parameters.inputs is not None:
            expected = expected + _times(parameters.input_matrix, parameters.inputs)[..., 1:, :]
        first = _log_normal(
            value[..., :1, :] - parameters.initial_mean[..., None, :], parameters.initial_cov[..., None, :, :]
        )
        moves = _log_normal(value[..., 1:, :] - expected, _later(parameters.transition_cov))
        emitted = _log_normal(self.path - _times(parameters.observation, value), parameters.observation_cov)
        terms = torch.cat([first.expand(*batch, -1), moves.expand(*batch, -1)], -1) + emitted
        if self.valid is not None:
            terms = torch.where(self.valid, terms, 0.0)
        total = terms.sum(-1)
        return total if self.is_joint else total - self._log_prob_of_path()

    def _log_prob_of_path(self) -> Tensor:
        if self.valid is None:
            return self.linear.log_prob(self.path)
        mask, is_parallel = self.valid[..., None], self.linear.is_parallel
        counted = LinearGaussian(self.linear.parameters, self.linear.num_steps, mask=mask, is_parallel=is_parallel)
        return counted.log_prob(self.path)


def _later(matrix: Tensor) -> Tensor:
    """The matrix without the first step, which has no transition into it."""
    return matrix if matrix.ndim == 2 or matrix.shape[-3] == 1 else matrix[..., 1:, :, :]


def _times(matrix: Tensor, vectors: Tensor) -> Tensor:
    return (matrix @ vectors[..., None]).squeeze(-1)


def _log_normal(residual: Tensor, cov: Tensor) -> Tensor:
    """Log density of a centred Gaussian, without the last axis."""
    factor = torch.linalg.cholesky(cov)
    white = torch.linalg.solve_triangular(factor, residual[..., None], upper=False).squeeze(-1)
    log_scale = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -0.5 * white.square().sum(-1) - log_scale - 0.5 * math.log(2 * math.pi) * residual.shape[-1]
