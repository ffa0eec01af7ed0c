"""Transitions of a state from frame to frame under noise, and the prior of that noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_seq._recipes import rebuildable
from pyro_seq.errors import DataError
from pyro_seq.nn.known_inputs import keep_input_dim
from pyro_seq.nn.mlp import mlp

_FLOOR = 1e-4  # of standard deviations: keeps the divergence of diverged states finite in single precision
_PAPER_GAIN, _PAPER_SHARE = 1.41, 20 / 512  # of the paper's first model: gain, and size of the state over the width


class Transition(Protocol):
    """A module that moves states; `is_residual` means that it can take steps shorter than a frame.

    With an attribute `input_dim` other than 0, it gets one more argument, the inputs (..., input) of the new frame.
    """

    is_residual: ClassVar[bool]
    state_dim: int
    noise_dim: int

    def __call__(self, state: Tensor, noise: Tensor, dt: float, *inputs: Tensor) -> Tensor:
        """State (..., state) after `dt` frames under the noise (..., noise) of the frame."""
        ...


@rebuildable
class ResidualTransition(nn.Module):
    r"""A residual update of the state by a network: one Euler step of a differential equation.

    .. math::
        y_{t + \Delta} = y_t + \Delta\, f(y_t, z, u)

    Args:
        state_dim: Size of the state y.
        noise_dim: Size of the noise z; 0 for none.
        hidden_dims: Widths of the hidden layers of f.
        gain: Gain of the initial orthogonal matrices of f. Default: 1.41 at 20 states and a width of 512, as in the
            paper, and less in narrower networks, so that f has the same strength: there 1.41 would make states explode.
        input_dim: Size of the known inputs u of the new frame; 0 for none.

    References:
        Franceschi, Delasalles, Chen, Lamprier, Gallinari, "Stochastic latent residual video prediction", ICML 2020.
    """

    is_residual: ClassVar[bool] = True

    input_dim: int = 0

    def __init__(
        self,
        state_dim: int,
        noise_dim: int,
        hidden_dims: Sequence[int] = (512, 512, 512),
        *,
        gain: float | None = None,
        input_dim: int = 0,
    ) -> None:
        super().__init__()
        self.state_dim, self.noise_dim = state_dim, noise_dim
        keep_input_dim(self, input_dim)
        self.velocity = _network(state_dim, noise_dim, hidden_dims, gain, input_dim)

    def forward(self, state: Tensor, noise: Tensor, dt: float, *inputs: Tensor) -> Tensor:
        """State (..., state) after `dt` frames under noise (..., noise) and inputs (..., input) of the frame."""
        return state + dt * self.velocity(torch.cat([state, noise, *inputs], -1))


@rebuildable
class MLPTransition(nn.Module):
    r"""A state that a network recomputes for every frame, :math:`y_{t+1} = g(y_t, z_{t+1})`.

    An ablation of `ResidualTransition`. It cannot take steps within a frame.

    Args:
        state_dim: Size of the state y.
        noise_dim: Size of the noise z; 0 for none.
        hidden_dims: Widths of the hidden layers of g.
        gain: Gain of the initial orthogonal matrices of g. Default: as for `ResidualTransition`.
        input_dim: Size of the known inputs, which g also reads.
    """

    is_residual: ClassVar[bool] = False

    input_dim: int = 0

    def __init__(
        self,
        state_dim: int,
        noise_dim: int,
        hidden_dims: Sequence[int] = (512, 512, 512),
        *,
        gain: float | None = None,
        input_dim: int = 0,
    ) -> None:
        super().__init__()
        self.state_dim, self.noise_dim = state_dim, noise_dim
        keep_input_dim(self, input_dim)
        self.next = _network(state_dim, noise_dim, hidden_dims, gain, input_dim)

    def forward(self, state: Tensor, noise: Tensor, dt: float = 1.0, *inputs: Tensor) -> Tensor:
        """State (..., state) of the next frame under its noise (..., noise) and inputs (..., input)."""
        return self.next(torch.cat([state, noise, *inputs], -1))


@rebuildable
class GRUTransition(nn.Module):
    r"""A state updated by a gated recurrent unit with noise as its input, :math:`y_{t+1} = GRU(z_{t+1}, y_t)`.

    An ablation of `ResidualTransition`. It cannot take steps within a frame.

    Args:
        state_dim: Size of the state y, which is the memory of the unit.
        noise_dim: Size of the noise z, at least 1.
        input_dim: Size of the known inputs, which are read together with the noise.

    Raises:
        DataError: When there is no noise to read.
    """

    is_residual: ClassVar[bool] = False

    input_dim: int = 0

    def __init__(self, state_dim: int, noise_dim: int, *, input_dim: int = 0) -> None:
        super().__init__()
        if noise_dim < 1:
            raise DataError(f"`noise_dim` must be at least 1: a GRU needs an input. Got {noise_dim}.")
        self.state_dim, self.noise_dim = state_dim, noise_dim
        keep_input_dim(self, input_dim)
        self.cell = nn.GRUCell(noise_dim + input_dim, state_dim)

    def forward(self, state: Tensor, noise: Tensor, dt: float = 1.0, *inputs: Tensor) -> Tensor:
        """State (..., state) of the next frame under its noise (..., noise) and inputs (..., input)."""
        steps = torch.cat([noise, *inputs], -1).flatten(0, -2)
        return self.cell(steps, state.reshape(-1, self.state_dim)).view(state.shape)


@rebuildable
class NoisePrior(nn.Module):
    r"""Gaussian over the noise of a frame given the state before it, :math:`z_{t+1} \mid y_t`.

    Args:
        state_dim: Size of the state y.
        noise_dim: Size of the noise z.
        hidden_dims: Widths of the hidden layers.
    """

    def __init__(self, state_dim: int, noise_dim: int, hidden_dims: Sequence[int] = (512, 512, 512)) -> None:
        super().__init__()
        self.state_dim, self.noise_dim = state_dim, noise_dim
        self.layers = mlp((state_dim, *hidden_dims, 2 * noise_dim), nn.ReLU)

    def forward(self, state: Tensor) -> dist.Normal:
        """Distribution with batch shape (..., noise) given states (..., state)."""
        return softplus_normal(self.layers(state))


def softplus_normal(features: Tensor) -> dist.Normal:
    """Normal with the first half of `features` (..., 2 * dim) as mean and the softplus of the second as scale."""
    loc, spread = features.chunk(2, -1)
    return dist.Normal(loc, softplus(spread) + _FLOOR, validate_args=False)


def _network(
    state_dim: int, noise_dim: int, hidden_dims: Sequence[int], gain: float | None, input_dim: int
) -> nn.Sequential:
    if state_dim < 1 or noise_dim < 0:
        raise DataError(f"`state_dim` must be positive, `noise_dim` 0 or more. Got {state_dim} and {noise_dim}.")
    layers = mlp((state_dim + noise_dim + input_dim, *hidden_dims, state_dim), nn.ReLU)
    if gain is None:
        # the last matrix reduces the norm of its input by the root of this share; the gain acts once per layer
        share = state_dim / (hidden_dims[-1] if hidden_dims else state_dim)
        gain = _PAPER_GAIN * (_PAPER_SHARE / share) ** (0.5 / (len(hidden_dims) + 1))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)
    return layers
