"""Paths whose linear Gaussian dynamics depend on the path so far."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_seq._host import on_host
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.path import PathDistribution
from pyro_seq.errors import ShapeError
from pyro_seq.ops.kalman import LinearGaussianParameters, kalman_filter
from pyro_seq.ops.kalman._recursion import condition, predict
from pyro_seq.ops.precision import full_precision


class Dynamics(Protocol):
    """Module that gives parameters of steps from the preceding path, such as `pyro_seq.nn.mixture.MixedDynamics`."""

    code_dim: int
    state_dim: int

    @property
    def start(self) -> Tensor:
        """Value of the path before its first step, (code,)."""
        ...

    def __call__(self, previous: Tensor, inputs: Tensor | None, memory: Any) -> tuple[LinearGaussianParameters, Any]:
        """Parameters of the steps after `previous` (..., time, code), and the memory for the next ones."""
        ...


class Past(NamedTuple):
    """All that the future of a path depends on.

    Attributes:
        mean: Mean of the state at the last step, given the path up to it, (..., state).
        cov: Its covariance, (..., state, state).
        code: The path at the last step, (..., code).
        memory: Memory of the dynamics.
    """

    mean: Tensor
    cov: Tensor
    code: Tensor
    memory: Any


class MixedLinearGaussian(PathDistribution):
    r"""Distribution of whole paths :math:`a_{1:T}` of a linear Gaussian state with parameters that depend on the path.

    .. math::
        z_1 \sim N(0, \Sigma), \qquad
        z_t = A_t z_{t-1} + B_t u_t + N(0, Q), \qquad
        a_t = C_t z_t + N(0, R), \qquad
        (A_t, B_t, C_t) = \gamma(a_{0:t-1})

    The states are integrated out: given the path, all parameters are known, so the Kalman filter gives the density,

    .. math::
        \log p(a) = \sum_t \log N\left(a_t;\ C_t m_{t|t-1},\ C_t P_{t|t-1} C_t^T + R\right),

    exactly and without draws of z. Paths are drawn step by step, because each step depends on the earlier ones.

    Args:
        dynamics: Gives the parameters of each step.
        num_steps: Length of a path.
        inputs: Inputs u of the data, (..., time, input), at least `num_steps` of them, the rest for `future`; None if
            there are none.
        valid: True where a step exists, (..., time); others do not count in `log_prob`.
        batch_shape: Leading axes beyond those of the inputs.
        past: The past of a path that continues another; None for a new path.
        is_counted: False for a site whose density is included in another site: `log_prob` is then 0.

    Raises:
        ShapeError: When the inputs are too short.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(
        self,
        dynamics: Dynamics,
        num_steps: int,
        *,
        inputs: Tensor | None = None,
        valid: Tensor | None = None,
        batch_shape: torch.Size = torch.Size(),
        past: Past | None = None,
        is_counted: bool = True,
    ) -> None:
        if inputs is not None and inputs.shape[-2] < num_steps:
            raise ShapeError(
                f"`inputs` must cover all {num_steps} steps. Got {inputs.shape[-2]}. Pass inputs over the horizon too."
            )
        self.dynamics, self.inputs, self.past, self.is_counted = dynamics, inputs, past, is_counted
        batch = [torch.Size(batch_shape)]
        batch += [] if inputs is None else [inputs.shape[:-2]]
        batch += [] if valid is None else [valid.shape[:-1]]
        batch += [] if past is None else [past.code.shape[:-1]]
        event = torch.Size((num_steps, dynamics.code_dim))
        super().__init__(torch.broadcast_shapes(*batch), event, valid, validate_args=False)

    @property
    def num_steps(self) -> int:
        """Length of a path."""
        return self.event_shape[0]

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> MixedLinearGaussian:
        """The same distribution over a larger batch."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return MixedLinearGaussian(
            self.dynamics,
            self.num_steps,
            inputs=self.inputs,
            valid=self.valid,
            batch_shape=torch.Size(batch_shape),
            past=self.past,
            is_counted=self.is_counted,
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the valid steps, ``(*batch,)``."""
        if not self.is_counted:
            return value.new_zeros(torch.broadcast_shapes(value.shape[:-2], self.batch_shape))
        mask = None if self.valid is None or bool(on_host(self.valid).all()) else self.valid[..., None]
        return self.given(value, mask).log_prob(value)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw paths step by step; gradients reach the parameters through all steps."""
        shape = torch.Size(sample_shape) + self.batch_shape
        start = self.dynamics.start
        nothing = torch.zeros(*shape, self.num_steps, dtype=torch.bool, device=start.device)
        return self.complete(start.new_zeros(shape + self.event_shape), nothing)

    def parameters(self, value: Tensor) -> LinearGaussianParameters:
        """Parameters of all steps of a path that takes the given values, (..., time, code)."""
        return self._advance(value)[0]

    def given(self, path: Tensor, mask: Tensor | None = None) -> LinearGaussian:
        """The linear model with the parameters given by `path`; ``mask`` (..., time, 1) is True at observed steps."""
        batch = torch.broadcast_shapes(path.shape[:-2], self.batch_shape)
        return LinearGaussian(self.parameters(path), self.num_steps, mask=mask, batch_shape=batch)

    @full_precision
    def complete(self, value: Tensor, known: Tensor, *, is_mean: bool = False) -> Tensor:
        r"""Fill a path from left to right, each missing step given all earlier ones.

        Args:
            value: Paths (..., time, code); only used at known steps.
            known: True at known steps, (..., time).
            is_mean: Fill with the mean of :math:`p(a_t \mid a_{<t})`, which the filter does not treat as an
                observation, instead of with a draw, which it does.

        Returns:
            Paths (..., time, code).
        """
        path: list[Tensor] = []
        past, memory, previous = (
            self.past,
            None if self.past is None else self.past.memory,
            self._first(value.shape[:-2]),
        )
        mean, cov = (None, None) if past is None else (past.mean[..., None], past.cov)
        for t in range(self.num_steps):
            inputs = None if self.inputs is None else self.inputs[..., t : t + 1, :]
            parameters, memory = self.dynamics(previous[..., None, :], inputs, memory)
            parameters = _single(parameters)
            mean, cov = _moved(mean, cov, parameters)
            expected = parameters.observation @ mean
            seen = condition(cov, parameters.observation, parameters.observation_cov)
            guess = expected
            if not is_mean:
                spread = parameters.observation @ cov @ parameters.observation.mT + parameters.observation_cov
                guess = expected + _factor(spread) @ torch.randn_like(value[..., t, :, None])
            previous = torch.where(known[..., t, None], value[..., t, :], guess.squeeze(-1))
            mean = mean + seen.gain @ (previous[..., None] - expected)
            cov = torch.where(known[..., t, None, None], seen.cov, cov) if is_mean else seen.cov
            path.append(previous)
        return torch.stack(path, -2)

    @full_precision
    def after(self, value: Tensor, seen: Tensor | None = None) -> tuple[Past, Tensor]:
        """The past of a whole path, on which its future depends, and the log density of its observed steps.

        Args:
            value: Paths (..., time, code).
            seen: True at the steps that the state is conditioned on, (..., time); the dynamics read all of them.
        """
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape))
        parameters, memory = self._advance(value)
        filtered = kalman_filter(value, parameters, None if seen is None else seen[..., None].expand(value.shape))
        mean, cov = filtered.filtered_means[..., -1, :], filtered.filtered_covs[..., -1, :, :]
        return Past(mean, cov, value[..., -1, :], memory), filtered.log_likelihood

    @full_precision
    def future(self, value: Tensor, horizon: int, *, state: Tensor | None = None) -> MixedLinearGaussian:
        """Distribution of the next steps given a whole path, and given the last `state` (..., state) if it is known."""
        past, _ = self.after(value)
        if state is not None:
            past = past._replace(mean=state, cov=state.new_zeros((*state.shape, state.shape[-1])))
        return MixedLinearGaussian(
            self.dynamics,
            horizon,
            inputs=None if self.inputs is None else self.inputs[..., self.num_steps :, :],
            past=past,
            is_counted=self.is_counted,
        )

    def _first(self, batch: torch.Size) -> Tensor:
        """The code before the first step, (*batch, code)."""
        code = self.dynamics.start if self.past is None else self.past.code
        return code.expand(*batch, -1)

    @full_precision
    def _advance(self, path: Tensor) -> tuple[LinearGaussianParameters, Any]:
        """Parameters of the steps of a path, and the memory of the dynamics after them."""
        batch = torch.broadcast_shapes(path.shape[:-2], self.batch_shape)
        earlier = path[..., : self.num_steps - 1, :].expand(*batch, -1, -1)
        previous = torch.cat([self._first(batch)[..., None, :], earlier], -2)
        inputs = None if self.inputs is None else self.inputs[..., : self.num_steps, :]
        parameters, memory = self.dynamics(previous, inputs, None if self.past is None else self.past.memory)
        if self.past is not None:
            mean, cov = _moved(self.past.mean[..., None], self.past.cov, _single(parameters))
            parameters = parameters._replace(initial_mean=mean.squeeze(-1), initial_cov=cov)
        return parameters, memory


def _moved(mean: Tensor | None, cov: Tensor | None, parameters: LinearGaussianParameters) -> tuple[Tensor, ...]:
    """Predicted state before a step is observed: from the previous step, or the initial state; the mean is a column."""
    if mean is None or cov is None:
        return parameters.initial_mean[..., None], parameters.initial_cov
    offset = None
    if parameters.input_matrix is not None and parameters.inputs is not None:
        offset = parameters.input_matrix @ parameters.inputs[..., None]
    return predict(mean, cov, parameters.transition, parameters.transition_cov, offset)


def _single(parameters: LinearGaussianParameters) -> LinearGaussianParameters:
    """Parameters of the first of some steps, without a time axis."""

    def first(matrix: Tensor) -> Tensor:
        return matrix if matrix.ndim == 2 else matrix[..., 0, :, :]

    return parameters._replace(
        transition=first(parameters.transition),
        transition_cov=first(parameters.transition_cov),
        observation=first(parameters.observation),
        observation_cov=first(parameters.observation_cov),
        input_matrix=None if parameters.input_matrix is None else first(parameters.input_matrix),
        inputs=None if parameters.inputs is None else parameters.inputs[..., 0, :],
    )


def _factor(cov: Tensor) -> Tensor:
    """Cholesky factor; NaN if there is none, so that errors can report where a path became non-finite."""
    factor, info = torch.linalg.cholesky_ex(cov)
    return torch.where((info > 0)[..., None, None], torch.nan, factor)
