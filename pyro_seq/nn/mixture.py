"""Dynamics as a mixture of linear modes, with weights that depend on earlier codes."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.distributions.recurrent import Memory
from pyro_seq.errors import DataError
from pyro_seq.nn.mlp import mlp
from pyro_seq.nn.recurrent import Recurrence
from pyro_seq.ops.kalman import LinearGaussianParameters
from pyro_seq.ops.precision import full_precision


class MixtureNetwork(Protocol):
    """A module that maps the codes before each step to the mixing weights of the modes there."""

    num_outputs: int
    start: Tensor

    def __call__(self, previous: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """Outputs (..., time, output) for steps whose predecessors are `previous` (..., time, code), and the memory.

        `memory` is the one returned by the call for earlier steps, or None at the first.
        """
        ...


@rebuildable
class LSTMMixture(nn.Module):
    """Logits of the modes from all codes before a step, by a recurrent network.

    Args:
        code_dim: Size of a code.
        num_outputs: Number of modes plus number of learned inputs.
        hidden_dim: Size of the network's memory.
    """

    def __init__(self, code_dim: int, num_outputs: int, hidden_dim: int = 50) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.start = nn.Parameter(torch.zeros(code_dim))
        self.recurrence = Recurrence(code_dim, hidden_dim)
        self.head = nn.Linear(hidden_dim, num_outputs)

    def forward(self, previous: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """Outputs (..., time, output) for steps whose predecessors are `previous` (..., time, code), and the memory."""
        features, memory = self.recurrence(previous, memory or ())
        return self.head(features), memory


@rebuildable
class WindowMixture(nn.Module):
    """Logits of the modes from the last few codes before a step, by a multilayer perceptron.

    Args:
        code_dim: Size of a code.
        num_outputs: Number of modes plus number of learned inputs.
        length: Number of codes read.
        hidden_dims: Widths of the hidden layers.

    Raises:
        DataError: When `length` is not positive.
    """

    def __init__(
        self, code_dim: int, num_outputs: int, length: int = 1, hidden_dims: tuple[int, ...] = (50, 50)
    ) -> None:
        super().__init__()
        if length < 1:
            raise DataError(f"`length` must be at least 1. Got {length}.")
        self.num_outputs = num_outputs
        self.length = length
        self.start = nn.Parameter(torch.zeros(code_dim))
        self.layers = mlp((length * code_dim, *hidden_dims, num_outputs), nn.ReLU)

    def forward(self, previous: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs (..., time, output) for steps whose predecessors are `previous` (..., time, code), and the memory."""
        shape = (*previous.shape[:-2], self.length - 1, previous.shape[-1])
        earlier = self.start.expand(shape) if memory is None else memory.expand(shape)
        codes = torch.cat([earlier, previous], -2)
        windows = codes.unfold(-2, self.length, 1).flatten(-2)
        return self.layers(windows), codes[..., codes.shape[-2] - self.length + 1 :, :]


@rebuildable
class MixedDynamics(nn.Module):
    r"""Parameters of a linear Gaussian state-space model that depend on the codes seen so far.

    .. math::
        (A_t, B_t, C_t) = \sum_k \alpha_t^k (A^k, B^k, C^k), \qquad
        \alpha_t = \mathrm{softmax}\, g(a_{0:t-1}), \qquad z_1 \sim N(\mu, \Sigma)

    with a learned code :math:`a_0` before the first step. With one mode the model is linear: its matrices are the same
    for all series and steps, and covariances are computed only once. Q, R and :math:`\Sigma` are diagonal.

    Args:
        code_dim: Size of a code a.
        state_dim: Size of the state z.
        num_modes: Number K of modes.
        mixture: The network g, with ``num_modes + num_learned_inputs`` outputs. Default: an LSTM, or none for one mode
            without learned inputs.
        input_dim: Size of the inputs of the data.
        num_learned_inputs: Size of further inputs that the network outputs.
        transition_variance: Initial variance Q of the state's noise.
        observation_variance: Initial variance R of the codes given the state.
        initial_variance: Initial value of the variance :math:`\Sigma` of the state at the first step.
        has_learned_noise: Learn one variance per entry, and the mean of the first state; False keeps them fixed, as in
            the paper.

    Raises:
        DataError: When a size or variance is not positive, or the network does not fit.

    References:
        Fraccaro, Kamronn, Paquet, Winther, "A disentangled recognition and nonlinear dynamics model for unsupervised
        learning", NeurIPS 2017, section 3.2.
    """

    has_even_times: ClassVar[bool] = True

    def __init__(
        self,
        code_dim: int,
        state_dim: int,
        num_modes: int = 3,
        *,
        mixture: MixtureNetwork | None = None,
        input_dim: int = 0,
        num_learned_inputs: int = 0,
        transition_variance: float = 0.08,
        observation_variance: float = 0.03,
        initial_variance: float = 20.0,
        has_learned_noise: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(code_dim, state_dim, num_modes, transition_variance, observation_variance, initial_variance)
        if min(input_dim, num_learned_inputs) < 0:
            raise DataError(
                f"`input_dim` and `num_learned_inputs` must be 0 or more. Got {input_dim} and {num_learned_inputs}."
            )
        self.mixture: Any = mixture_network(mixture, code_dim, num_modes + num_learned_inputs, "the `code_dim`")
        self.code_dim, self.state_dim, self.num_modes, self.input_dim = code_dim, state_dim, num_modes, input_dim
        self.transition = nn.Parameter(torch.eye(state_dim).expand(num_modes, -1, -1).clone())
        self.observation = nn.Parameter(0.05 * torch.randn(num_modes, code_dim, state_dim))
        size_in = input_dim + num_learned_inputs
        self.input_matrix = nn.Parameter(0.05 * torch.randn(num_modes, state_dim, size_in)) if size_in else None

        def variance(value: float, size: int) -> nn.Parameter:
            return nn.Parameter(torch.full((size,), math.log(value)), requires_grad=has_learned_noise)

        self.log_transition_variance = variance(transition_variance, state_dim)
        self.log_observation_variance = variance(observation_variance, code_dim)
        self.log_initial_variance = variance(initial_variance, state_dim)
        self.initial_mean = nn.Parameter(torch.zeros(state_dim), requires_grad=has_learned_noise)

    @property
    def start(self) -> Tensor:
        """The code before the first step, (code,)."""
        return self.transition.new_zeros(self.code_dim) if self.mixture is None else self.mixture.start

    def weights(self, previous: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Mixing weights (..., time, mode) of steps whose predecessors are `previous` (..., time, code).

        They do not depend on the inputs of the data, which only dynamics that read gaps use.
        """
        if self.mixture is None:
            return previous.new_ones((*previous.shape[:-1], 1))
        return self.mixture(previous, None)[0][..., : self.num_modes].softmax(-1)

    @full_precision
    def forward(self, previous: Tensor, inputs: Tensor | None, memory: Any) -> tuple[LinearGaussianParameters, Any]:
        """Parameters of some steps, and the memory for the next ones.

        Args:
            previous: Codes one step earlier, (..., time, code).
            inputs: Inputs of the data into these steps, (..., time, input), or None.
            memory: The memory returned for the steps before; None at the first.

        Returns:
            Parameters with a time axis (without one if they are constant), and the memory.
        """
        if self.mixture is None:
            return self._mixed(None, inputs), None
        outputs, memory = self.mixture(previous, memory)
        weights, learned = outputs[..., : self.num_modes].softmax(-1), outputs[..., self.num_modes :]
        if learned.shape[-1]:
            inputs = learned if inputs is None else torch.cat([inputs.expand(*learned.shape[:-1], -1), learned], -1)
        return self._mixed(weights, inputs), memory

    def _mixed(self, weights: Tensor | None, inputs: Tensor | None) -> LinearGaussianParameters:
        return LinearGaussianParameters(
            transition=mix(weights, self.transition),
            transition_cov=self.log_transition_variance.exp().diag(),
            observation=mix(weights, self.observation),
            observation_cov=self.log_observation_variance.exp().diag(),
            initial_mean=self.initial_mean,
            initial_cov=self.log_initial_variance.exp().diag(),
            input_matrix=None if self.input_matrix is None else mix(weights, self.input_matrix),
            inputs=inputs,
        )


def mixture_network(mixture: MixtureNetwork | None, code_dim: int, num_outputs: int, what: str) -> Any:
    """The given network, checked; by default an LSTM, or none for a single mode. `what` says in words what it reads.

    Raises:
        DataError: When the network does not fit.
    """
    if mixture is None:
        return LSTMMixture(code_dim, num_outputs) if num_outputs > 1 else None
    if mixture.num_outputs != num_outputs:
        raise DataError(
            f"`mixture` must have num_modes + num_learned_inputs = {num_outputs} outputs. Got one with "
            f"{mixture.num_outputs}."
        )
    if mixture.start.shape != (code_dim,):
        raise DataError(f"`mixture` must read codes of size {code_dim}, {what}. Got one for {mixture.start.shape[-1]}.")
    return mixture


def mix(weights: Tensor | None, modes: Tensor) -> Tensor:
    """Matrices (mode, row, column) mixed by weights (..., time, mode), or the only one if there are no weights."""
    return modes[0] if weights is None else (weights @ modes.flatten(1)).unflatten(-1, modes.shape[1:])


def check_sizes(code_dim: int, state_dim: int, num_modes: int, *variances: float) -> None:
    """Refuse sizes and variances that are not positive."""
    if min(code_dim, state_dim, num_modes) < 1 or not all(0 < v < math.inf for v in variances):
        raise DataError(
            "`code_dim`, `state_dim`, `num_modes` and all variances must be positive. "
            f"Got {code_dim}, {state_dim}, {num_modes} and {variances}."
        )
