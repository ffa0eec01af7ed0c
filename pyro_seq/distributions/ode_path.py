"""The distribution of a random initial state after transport by a differential equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_seq.errors import ShapeError
from pyro_seq.ops.odeint import RK4, Solver, odeint

Rate = Callable[[Tensor, Tensor], Tensor]


class ODEPushForward(TorchDistribution):
    r"""Distribution of z(t) when z(t_0) is drawn from `initial` and follows an ordinary differential equation.

    .. math::
        \dot z = f(t, z), \qquad
        \log p(z(t)) = \log p_0(z(t_0)) - \int_{t_0}^{t} \mathrm{tr}\,\frac{\partial f}{\partial z}\, d\tau

    `log_prob`, (V2) of docs/derivations.md, integrates back to t_0 and then evaluates `initial`; `rsample` integrates
    forward. Both cost one solve.

    Args:
        initial: Distribution at the start, batch shape (..., series), event shape (state,).
        rate: f(t, state), of the shape of the state.
        divergence: Trace of the Jacobian of `rate`, (..., series); see `pyro_seq.ops.divergence`.
        times: Times at which the solver stops, (time,), increasing from t_0 to t; more points mean smaller steps.
        solver: The ODE solver.

    Raises:
        ShapeError: When `initial` has no vector event.

    References:
        Chen, Rubanova, Bettencourt, Duvenaud, "Neural Ordinary Differential Equations", NeurIPS 2018, theorem 1.
    """

    has_rsample = True
    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        initial: TorchDistribution,
        rate: Rate,
        divergence: Rate,
        times: Tensor,
        solver: Solver | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if len(initial.event_shape) != 1:
            raise ShapeError(f"`initial` must have the event shape (state,). Got {tuple(initial.event_shape)}.")
        self.initial = initial
        self.rate = rate
        self.divergence = divergence
        self.times = times
        self.solver = RK4() if solver is None else solver
        super().__init__(initial.batch_shape, initial.event_shape, validate_args=validate_args)

    @property
    def support(self) -> torch.distributions.constraints.Constraint:
        """Support of `initial`; a flow maps it onto itself if it is the whole space."""
        return self.initial.support

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> ODEPushForward:
        """The same distribution over a larger batch."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        initial = self.initial.expand(batch_shape)
        return ODEPushForward(initial, self.rate, self.divergence, self.times, self.solver)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw initial states and integrate them to the last time."""
        start = self.initial.rsample(sample_shape)
        return odeint(self.rate, start, self.times, self.solver).path[..., -1, :]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at the last time, (..., series)."""
        end = self.times[-1]

        def backward_rate(elapsed: Tensor, state: Tensor) -> Tensor:
            return -self.rate(end - elapsed, state)

        def divergence(elapsed: Tensor, state: Tensor) -> Tensor:
            return self.divergence(end - elapsed, state)

        solution = odeint(backward_rate, value, end - self.times.flip(0), self.solver, integrand=divergence)
        assert solution.integral is not None
        return self.initial.log_prob(solution.path[..., -1, :]) - solution.integral[..., -1]
