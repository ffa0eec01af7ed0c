"""A flow: a vector field and a solver make a path out of an initial state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError
from pyro_seq.nn.bayesian import FieldFunction
from pyro_seq.ops._sweep import Sweep, SweptFunction
from pyro_seq.ops.odeint import RK4, Solution, Solver, odeint

_ORDER_NAMES = ("position", "velocity", "acceleration", "jerk")


@rebuildable
class Flow(nn.Module):
    r"""A differential equation of a given order, written as a first-order one.

    .. math::
        \frac{d^n s}{dt^n} = f\left(s, \dot s, \dots, s^{(n-1)}\right), \qquad
        \frac{d}{dt} \log q(z) = -\mathrm{tr}\, \frac{\partial f}{\partial s^{(n-1)}}

    The state z stacks the derivatives, (position, velocity, ...). Only the last block of the Jacobian has a trace: the
    rate of every other derivative is the next one. Order 2 is ODE2VAE, order 1 a neural ODE.

    Args:
        dim: Size of the position.
        order: Order n of the equation, 1 to 4.
        solver: How to integrate. When absent, the model that the flow becomes part of fills in classical Runge-Kutta
            steps no longer than a typical interval of training, so that a state does not depend on which other times
            are asked for; a flow by itself takes one step an interval.

    References:
        Chen, Rubanova, Bettencourt, Duvenaud, "Neural Ordinary Differential Equations", NeurIPS 2018, theorem 1.
        Yildiz, Heinonen, Lahdesmaki, "ODE2VAE", NeurIPS 2019, section 3.
    """

    def __init__(self, dim: int, *, order: int = 2, solver: Solver | None = None) -> None:
        super().__init__()
        if dim < 1 or not 1 <= order <= len(_ORDER_NAMES):
            raise DataError(f"`dim` must be at least 1 and `order` 1 to {len(_ORDER_NAMES)}. Got {dim} and {order}.")
        self.dim = dim
        self.order = order
        self.solver = solver

    @property
    def state_dim(self) -> int:
        """Size of the whole state, ``order * dim``."""
        return self.order * self.dim

    @property
    def state_names(self) -> tuple[str, ...]:
        """A name for each entry of the state."""
        return tuple(f"{kind}_{i}" for kind in _ORDER_NAMES[: self.order] for i in range(self.dim))

    def position(self, state: Tensor) -> Tensor:
        """The undifferentiated part of the state, (..., dim): what a decoder sees."""
        return state[..., : self.dim]

    def rate(self, function: FieldFunction, state: Tensor) -> Tensor:
        """Time derivative of the state, (..., state)."""
        highest = function(state)
        return highest if self.order == 1 else torch.cat([state[..., self.dim :], highest], -1)

    def divergence(self, function: FieldFunction, state: Tensor) -> Tensor:
        """Trace of the Jacobian of `rate`, (...)."""
        return function.divergence(state, slice(self.state_dim - self.dim, self.state_dim))

    def forward(
        self,
        function: FieldFunction,
        initial: Tensor,
        times: Tensor,
        *,
        speed: Tensor | None = None,
        has_volume: bool = False,
    ) -> Solution:
        """Integrate from `initial` (..., series, state) at ``times[..., 0]`` on.

        Args:
            function: One function, or a batch of them, drawn from a vector field.
            initial: State at the first time.
            times: (time,) shared or (series, time).
            speed: Factor on the whole right-hand side, (..., series).
            has_volume: Integrate the divergence as well.

        Returns:
            ``path`` (..., series, time, state), and ``integral`` of the divergence (..., series, time), by which the
            log density along the path has fallen; None without `has_volume`.
        """

        def divergence(_: Tensor, state: Tensor) -> Tensor:
            divergence = self.divergence(function, state)
            return divergence if speed is None else speed * divergence

        solver = RK4() if self.solver is None else self.solver
        return odeint(
            _Rate(self, function, speed), initial, times, solver, integrand=divergence if has_volume else None
        )


class _Rate:
    """The right-hand side as the solvers take it, with gradients by a sweep where the function has one."""

    def __init__(self, flow: Flow, function: FieldFunction, speed: Tensor | None) -> None:
        self.flow, self.function, self.speed = flow, function, speed

    def __call__(self, _: Tensor, state: Tensor) -> Tensor:
        rate = self.flow.rate(self.function, state)
        return rate if self.speed is None else self.speed[..., None] * rate

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.function.tensors if isinstance(self.function, SweptFunction) else ()

    def has_sweep(self, state: Tensor) -> bool:
        return self.speed is None and isinstance(self.function, SweptFunction) and self.function.has_sweep(state)

    def record(self, state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        assert isinstance(self.function, SweptFunction)
        highest, records = self.function.record(state)
        return highest if self.flow.order == 1 else torch.cat([state[..., self.flow.dim :], highest], -1), records

    def sweep(self, tensors: tuple[Tensor, ...], records: tuple[Tensor, ...]) -> Sweep:
        assert isinstance(self.function, SweptFunction)
        highest = self.function.sweep(tensors, records)
        return highest if self.flow.order == 1 else _RateSweep(self.flow.dim, highest)


class _RateSweep:
    """The rate of each derivative is the next one, and that of the last the function."""

    def __init__(self, dim: int, highest: Sweep) -> None:
        self.dim, self.highest = dim, highest

    def pull(self, stage: int, cotangent: Tensor) -> Tensor:
        pulled = self.highest.pull(stage, cotangent[..., -self.dim :])
        pulled[..., self.dim :].add_(cotangent[..., : -self.dim])
        return pulled

    def gradients(self) -> tuple[Tensor, ...]:
        return self.highest.gradients()


class SteeredFunction:
    """A function of the state, and of a constant vector of each series that enters the field but does not move.

    Args:
        function: Of (..., series, state + constant).
        constant: (..., series, constant).
    """

    def __init__(self, function: FieldFunction, constant: Tensor) -> None:
        self.function = function
        self.constant = constant

    def __call__(self, state: Tensor) -> Tensor:
        """Right-hand side at `state` (..., series, state)."""
        return self.function(self._joined(state))

    def divergence(self, state: Tensor, inputs: slice) -> Tensor:
        """Trace of the Jacobian with respect to the entries `inputs` of `state`, (..., series)."""
        return self.function.divergence(self._joined(state), inputs)

    def _joined(self, state: Tensor) -> Tensor:
        return torch.cat([state, self.constant.expand(*state.shape[:-1], -1)], -1)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The constant, and what the function depends on."""
        return (self.constant, *self.function.tensors) if isinstance(self.function, SweptFunction) else ()

    def has_sweep(self, state: Tensor) -> bool:
        """Whether the function has one of the joined state."""
        return isinstance(self.function, SweptFunction) and self.function.has_sweep(state)

    def record(self, state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The function's, at the joined state."""
        assert isinstance(self.function, SweptFunction)
        return self.function.record(self._joined(state))

    def sweep(self, tensors: tuple[Tensor, ...], records: tuple[Tensor, ...]) -> _SteeredSweep:
        """The function's, cut to the state."""
        assert isinstance(self.function, SweptFunction)
        return _SteeredSweep(tensors[0], self.function.sweep(tensors[1:], records))


class _SteeredSweep:
    """The part of the cotangent that belongs to the constant is summed up, for it acts at every stage."""

    def __init__(self, constant: Tensor, joined: Sweep) -> None:
        self.constant, self.joined = constant, joined
        self.total: Tensor | None = None

    def pull(self, stage: int, cotangent: Tensor) -> Tensor:
        size = self.constant.shape[-1]
        pulled = self.joined.pull(stage, cotangent)
        own = pulled[..., -size:]
        self.total = own.clone() if self.total is None else self.total.add_(own)
        return pulled[..., :-size]

    def gradients(self) -> tuple[Tensor, ...]:
        assert self.total is not None
        return self.total.sum_to_size(self.constant.shape), *self.joined.gradients()
