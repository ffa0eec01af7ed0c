"""Continuous-time dynamics: a mixture of linear modes, weighted by earlier codes and the time since them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pyro_seq._arguments import whole_number
from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError
from pyro_seq.nn.mixture import MixtureNetwork, check_sizes, mix, mixture_network
from pyro_seq.ops.kalman import LinearGaussianParameters, discretise
from pyro_seq.ops.precision import full_precision


@rebuildable
class ContinuousDynamics(nn.Module):
    r"""Parameters of a linear Gaussian state in continuous time, which depend on the codes seen so far.

    .. math::
        dz = (F_t z + B_t u_t)\, dt + dW, \quad \operatorname{E} dW\, dW^\top = D_t\, dt, \qquad
        (F_t, B_t, C_t, D_t) = \sum_k \alpha_t^k (F^k, B^k, C^k, D^k), \qquad
        \alpha_t = \mathrm{softmax}\, g(a_{0:t-1}, \Delta_{1:t})

    holds over the gap :math:`\Delta_t` from one step to the next, and is solved exactly: :math:`A_t = e^{F_t \Delta_t}`
    and the noise accumulated over the gap, :func:`pyro_seq.ops.kalman.discretise`. Times may be irregular. On an even
    grid of unit steps a single mode k equals that of `MixedDynamics` with :math:`A^k = e^{F^k}`; with several modes
    this class mixes drifts, and `MixedDynamics` their exponentials. D, R and :math:`\Sigma` are diagonal. The unit of
    time is the typical interval of training.

    With one mode, steps without an observation do not affect the others. With several, weights change only at steps,
    including hidden ones.

    Args:
        code_dim: Size of a code a.
        state_dim: Size of the state z.
        num_modes: Number K of modes.
        mixture: The network g. Its input is the code with one more entry, :math:`\log(1 + \Delta_t)`, of size
            ``code_dim + 1``, and it has ``num_modes`` outputs. Default: an LSTM, or none for one mode.
        input_dim: Size of the inputs u of the data; the input of a step is constant over the gap that leads to it.
        diffusion: Initial variance D of the state's noise per unit of time.
        observation_variance: Initial variance R of the codes given the state.
        initial_variance: Initial value of the variance :math:`\Sigma` of the state at the first step.

    Raises:
        DataError: When a size or variance is not positive, or the network does not fit.

    References:
        Ansari, Heng, Lim, Soh, "Neural Continuous-Discrete State Space Models for Irregularly-Sampled Time Series",
        ICML 2023, whose locally linear dynamics are mixed by the state.
    """

    has_even_times: ClassVar[bool] = False

    def __init__(
        self,
        code_dim: int,
        state_dim: int,
        num_modes: int = 3,
        *,
        mixture: MixtureNetwork | None = None,
        input_dim: int = 0,
        diffusion: float = 0.08,
        observation_variance: float = 0.03,
        initial_variance: float = 20.0,
    ) -> None:
        super().__init__()
        check_sizes(code_dim, state_dim, num_modes, diffusion, observation_variance, initial_variance)
        self.mixture: Any = mixture_network(mixture, code_dim + 1, num_modes, "the `code_dim` and one for the gap")
        self.code_dim, self.state_dim, self.num_modes = code_dim, state_dim, num_modes
        self.input_dim = whole_number(input_dim, "input_dim")
        self.drift = nn.Parameter(torch.zeros(num_modes, state_dim, state_dim))
        self.observation = nn.Parameter(0.05 * torch.randn(num_modes, code_dim, state_dim))
        entering = 0.05 * torch.randn(num_modes, state_dim, input_dim)
        self.input_matrix = nn.Parameter(entering) if input_dim else None
        self.log_diffusion = nn.Parameter(torch.full((num_modes, state_dim), math.log(diffusion)))
        self.log_observation_variance = nn.Parameter(torch.full((code_dim,), math.log(observation_variance)))
        self.log_initial_variance = nn.Parameter(torch.full((state_dim,), math.log(initial_variance)))
        self.initial_mean = nn.Parameter(torch.zeros(state_dim))

    @property
    def start(self) -> Tensor:
        """The code before the first step, (code,)."""
        return self.drift.new_zeros(self.code_dim) if self.mixture is None else self.mixture.start[:-1]

    def weights(self, previous: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Mixing weights (..., time, mode) of steps whose predecessors are `previous` (..., time, code).

        Args:
            previous: Codes one step earlier.
            inputs: Inputs of the data and, last, the gaps, as in `forward`.

        Raises:
            DataError: When `inputs` are missing.
        """
        if inputs is None:
            raise DataError(
                "Mixing weights in continuous time depend on the gaps. Got none. Pass `data` with the codes."
            )
        weights, _ = self._weights(previous, inputs[..., -1], None)
        return previous.new_ones((*previous.shape[:-1], 1)) if weights is None else weights

    @full_precision
    def forward(self, previous: Tensor, inputs: Tensor, memory: Any) -> tuple[LinearGaussianParameters, Any]:
        """Parameters of some steps, and the memory for the next ones.

        Args:
            previous: Codes one step earlier, (..., time, code).
            inputs: Inputs of the data into these steps and, last, the gap from the step before, (..., time, input + 1).
            memory: The memory returned for the steps before; None at the first.

        Returns:
            Parameters with a time axis, and the memory.
        """
        held, gaps = inputs[..., :-1], inputs[..., -1]
        weights, memory = self._weights(previous, gaps, memory)
        state, size = self.state_dim, self.input_dim
        # inputs are appended as constant states
        modes = self.drift if self.input_matrix is None else torch.cat([self.drift, self.input_matrix], -1)
        drift = nn.functional.pad(mix(weights, modes), (0, 0, 0, size))
        diffusion = nn.functional.pad(mix(weights, self.log_diffusion.exp().diag_embed()), (0, size, 0, size))
        transition, cov = discretise(drift, diffusion, gaps)
        parameters = LinearGaussianParameters(
            transition=transition[..., :state, :state],
            transition_cov=cov[..., :state, :state],
            observation=mix(weights, self.observation),
            observation_cov=self.log_observation_variance.exp().diag(),
            initial_mean=self.initial_mean,
            initial_cov=self.log_initial_variance.exp().diag(),
            input_matrix=transition[..., :state, state:] if size else None,
            inputs=held if size else None,
        )
        return parameters, memory

    def _weights(self, previous: Tensor, gaps: Tensor, memory: Any) -> tuple[Tensor | None, Any]:
        """Weights of the modes, None for one mode, and the memory."""
        if self.mixture is None:
            return None, None
        ages = gaps.log1p()[..., None].expand(*previous.shape[:-1], 1)
        outputs, memory = self.mixture(torch.cat([previous, ages], -1), memory)
        return outputs.softmax(-1), memory
