"""A flow: the path from an initial state along a vector field, by a solver."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from pyro_seq._arguments import require
from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.bayesian import FieldFunction, VectorField
from pyro_seq.nn.known_inputs import keep_input_dim
from pyro_seq.ops._sweep import Sweep, SweptFunction
from pyro_seq.ops.forcing import Forcing
from pyro_seq.ops.odeint import RK4, Solution, Solver, odeint

_ORDER_NAMES = ("position", "velocity", "acceleration", "jerk")


@rebuildable
class Flow(nn.Module):
    r"""A differential equation of order n, written as a first-order system.

    .. math::
        \frac{d^n s}{dt^n} = f\left(s, \dot s, \dots, s^{(n-1)}, u(t)\right), \qquad
        \frac{d}{dt} \log q(z) = -\mathrm{tr}\, \frac{\partial f}{\partial s^{(n-1)}}

    The state z stacks the derivatives, (position, velocity, ...). Only the last block of the Jacobian contributes to
    the trace: the rate of every other derivative is the next one. Order 2 is ODE2VAE, order 1 a neural ODE.

    With `input_dim` known inputs u drive the field, ``data.inputs`` in units of the training data. They are given at
    the time stamps of seen steps, hidden steps and the horizon. Each is held from its stamp to the next, as for a dose
    or a switch; with `has_linear_inputs` it is interpolated linearly, as for a temperature. They are not needed before
    the first stamp or after the last. The path up to a time thus depends only on held inputs before that time, or on
    linear inputs up to and including it.

    Args:
        dim: Size of the position.
        order: Order n of the equation, 1 to 4.
        solver: The ODE solver. By default the model that contains the flow uses classical Runge-Kutta steps no longer
            than a typical interval of training, so that a state does not depend on the other times requested; a flow on
            its own takes one step per interval.
        input_dim: Size of the inputs, which the field reads after the state; 0 for none.
        has_linear_inputs: Interpolate inputs linearly between time stamps instead of holding them.

    Raises:
        DataError: When a size is out of range, or an option would have no effect.

    References:
        Chen, Rubanova, Bettencourt, Duvenaud, "Neural Ordinary Differential Equations", NeurIPS 2018, theorem 1.
        Yildiz, Heinonen, Lahdesmaki, "ODE2VAE", NeurIPS 2019, section 3.
    """

    input_dim: int = 0
    has_linear_inputs: bool = False

    def __init__(
        self,
        dim: int,
        *,
        order: int = 2,
        solver: Solver | None = None,
        input_dim: int = 0,
        has_linear_inputs: bool = False,
    ) -> None:
        super().__init__()
        if dim < 1 or not 1 <= order <= len(_ORDER_NAMES):
            raise DataError(f"`dim` must be at least 1 and `order` 1 to {len(_ORDER_NAMES)}. Got {dim} and {order}.")
        self.dim = dim
        self.order = order
        self.solver = solver
        keep_input_dim(self, input_dim)
        if has_linear_inputs:
            require(input_dim > 0, "input_dim", "1 or more with `has_linear_inputs`", input_dim)
            self.has_linear_inputs = True

    @property
    def state_dim(self) -> int:
        """Size of the whole state, ``order * dim``."""
        return self.order * self.dim

    @property
    def state_names(self) -> tuple[str, ...]:
        """A name for each entry of the state."""
        return tuple(f"{kind}_{i}" for kind in _ORDER_NAMES[: self.order] for i in range(self.dim))

    def position(self, state: Tensor) -> Tensor:
        """The undifferentiated part of the state, (..., dim), which a decoder reads."""
        return state[..., : self.dim]

    def rate(self, function: FieldFunction, state: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Time derivative of the state, (..., state), under inputs (..., input)."""
        highest = _driven(function, inputs)(state)
        return highest if self.order == 1 else torch.cat([state[..., self.dim :], highest], -1)

    def divergence(self, function: FieldFunction, state: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Trace of the Jacobian of `rate` with respect to the state, (...)."""
        return _driven(function, inputs).divergence(state, slice(self.state_dim - self.dim, self.state_dim))

    def require_field(self, field: VectorField, constant_dim: int = 0) -> None:
        """Refuse a network whose input size is not that of state, inputs and constants of a series together.

        Raises:
            DataError: With both sizes.
        """
        wanted = (self.state_dim + self.input_dim + constant_dim, self.dim)
        sizes = getattr(field, "sizes", wanted)
        if (sizes[0], sizes[-1]) != wanted:
            raise DataError(
                f"`vector_field` must take {wanted[0]} numbers, {self.state_dim} of the state, {self.input_dim} inputs "
                f"and {constant_dim} constant along a series, and give {self.dim}. Got {sizes[0]} and {sizes[-1]}."
            )

    def forward(
        self,
        function: FieldFunction,
        initial: Tensor,
        times: Tensor,
        *,
        speed: Tensor | None = None,
        has_volume: bool = False,
        inputs: Tensor | None = None,
    ) -> Solution:
        """Integrate from `initial` (..., series, state) at ``times[..., 0]`` on.

        Args:
            function: One function, or a batch of them, drawn from a vector field.
            initial: State at the first time.
            times: (time,) shared or (series, time).
            speed: Factor on the right-hand side, (..., series).
            has_volume: Integrate the divergence as well.
            inputs: Inputs at the times, (series, time, input), if the flow has inputs.

        Returns:
            ``path`` (..., series, time, state), and ``integral`` of the divergence (..., series, time), the decrease of
            the log density along the path; None without `has_volume`.

        Raises:
            ShapeError: When the number of inputs is not `input_dim`.
        """
        size = 0 if inputs is None else inputs.shape[-1]
        if size != self.input_dim:
            raise ShapeError(f"`inputs` must have {self.input_dim} entries a step, the `input_dim`. Got {size}.")

        def divergence(_: Tensor, state: Tensor, *driven: Tensor) -> Tensor:
            divergence = self.divergence(function, state, *driven)
            return divergence if speed is None else speed * divergence

        solver = RK4() if self.solver is None else self.solver
        integrand = divergence if has_volume else None
        forcing = None if inputs is None else Forcing(inputs, is_linear=self.has_linear_inputs)
        return odeint(_Rate(self, function, speed), initial, times, solver, integrand=integrand, forcing=forcing)


def _driven(function: FieldFunction, inputs: Tensor | None) -> FieldFunction:
    return function if inputs is None else SteeredFunction(function, inputs)


class _Rate:
    """The right-hand side in the form that solvers need, with gradients by a sweep if the function has one."""

    def __init__(self, flow: Flow, function: FieldFunction, speed: Tensor | None) -> None:
        self.flow, self.function, self.speed = flow, function, speed

    def __call__(self, _: Tensor, state: Tensor, *driven: Tensor) -> Tensor:
        rate = self.flow.rate(self.function, state, *driven)
        return rate if self.speed is None else self.speed[..., None] * rate

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.function.tensors if isinstance(self.function, SweptFunction) else ()

    def has_sweep(self, state: Tensor) -> bool:
        return self.speed is None and isinstance(self.function, SweptFunction) and self.function.has_sweep(state)

    def record(self, state: Tensor, *driven: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        highest, records = cast(SweptFunction, _driven(self.function, *driven or (None,))).record(state)
        return highest if self.flow.order == 1 else torch.cat([state[..., self.flow.dim :], highest], -1), records

    def sweep(self, tensors: tuple[Tensor, ...], records: tuple[Tensor, ...]) -> _RateSweep:
        return _RateSweep(self.flow, cast(SweptFunction, self.function).sweep(tensors, records))


class _RateSweep:
    """The rate of each derivative is the next one, and of the last the function; inputs get no gradient."""

    def __init__(self, flow: Flow, highest: Sweep) -> None:
        self.flow, self.highest = flow, highest

    def pull(self, stage: int, cotangent: Tensor) -> Tensor:
        dim = self.flow.dim
        pulled = self.highest.pull(stage, cotangent[..., -dim:])[..., : self.flow.state_dim]
        if self.flow.order > 1:
            pulled[..., dim:].add_(cotangent[..., :-dim])
        return pulled

    def gradients(self) -> tuple[Tensor, ...]:
        return self.highest.gradients()


class SteeredFunction:
    """A function of the state and of a constant vector per series.

    Args:
        function: Function of (..., series, state + constant).
        constant: Constant vectors (..., series, constant).
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
        """The constant, and the tensors of the function."""
        return (self.constant, *self.function.tensors) if isinstance(self.function, SweptFunction) else ()

    def has_sweep(self, state: Tensor) -> bool:
        """Whether the function has a sweep for the joined state."""
        return isinstance(self.function, SweptFunction) and self.function.has_sweep(state)

    def record(self, state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The function's record, at the joined state."""
        return cast(SweptFunction, self.function).record(self._joined(state))

    def sweep(self, tensors: tuple[Tensor, ...], records: tuple[Tensor, ...]) -> _SteeredSweep:
        """The function's sweep, restricted to the state."""
        return _SteeredSweep(tensors[0], cast(SweptFunction, self.function).sweep(tensors[1:], records))


class _SteeredSweep:
    """Sums the cotangent of the constant over all stages, because the constant acts at each."""

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
