"""An oracle without any recursion: states and codes of one series as one dense Gaussian. And dynamics to test with."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.nn.continuous_mixture import ContinuousDynamics
from pyro_seq.nn.mixture import LSTMMixture, MixedDynamics, WindowMixture
from pyro_seq.ops.kalman import LinearGaussianParameters

CODE, STATE = 2, 3


class Gaussian(NamedTuple):
    """A normal of any size."""

    mean: Tensor
    cov: Tensor

    def log_prob(self, value: Tensor) -> Tensor:
        residual = value - self.mean
        square = (residual * torch.linalg.solve(self.cov, residual[..., None]).squeeze(-1)).sum(-1)
        return -0.5 * (square + torch.logdet(self.cov) + len(self.mean) * math.log(2 * math.pi))

    def marginal(self, places: Tensor) -> Gaussian:
        return Gaussian(self.mean[places], self.cov[places][:, places])

    def given(self, places: Tensor, known: Tensor, value: Tensor) -> Gaussian:
        """Of the entries at `places`, when those at `known` have a value."""
        gain = torch.linalg.solve(self.cov[known][:, known], self.cov[known][:, places]).mT
        cov = self.cov[places][:, places] - gain @ self.cov[known][:, places]
        return Gaussian(self.mean[places] + gain @ (value - self.mean[known]), cov)

    def with_marginal(self, known: Tensor, mean: Tensor, cov: Tensor) -> Gaussian:
        """The same conditional of all other entries, when those at `known` follow another normal."""
        gain = torch.linalg.solve(self.cov[known][:, known], self.cov[known]).mT  # the identity at `known`
        left = self.cov - gain @ self.cov[known]
        return Gaussian(self.mean + gain @ (mean - self.mean[known]), left + gain @ cov @ gain.mT)

    def mapped(self, matrix: Tensor, shift: Tensor, noise_variance: Tensor) -> Gaussian:
        """Of a linear map of it, with independent noise."""
        return Gaussian(matrix @ self.mean + shift, matrix @ self.cov @ matrix.T + noise_variance.diag())

    def detached(self) -> Gaussian:
        return Gaussian(self.mean.detach(), self.cov.detach())


class DensePath(NamedTuple):
    """States and codes of all steps, stacked: first all states, then all codes."""

    joint: Gaussian
    num_steps: int
    state_dim: int
    code_dim: int

    def states(self, *steps: int) -> Tensor:
        """Places of the states at some steps, all of them when none are named."""
        return places(steps or range(self.num_steps), self.state_dim)

    def codes(self, *steps: int) -> Tensor:
        return self.num_steps * self.state_dim + places(steps or range(self.num_steps), self.code_dim)


def places(steps, size: int) -> Tensor:
    return torch.tensor([step * size + entry for step in steps for entry in range(size)], dtype=torch.long)


def dense_path(parameters: LinearGaussianParameters, num_steps: int) -> DensePath:
    """The joint of one series, every state a linear map of independent noises."""

    def at(matrix: Tensor, t: int) -> Tensor:
        return matrix if matrix.ndim == 2 else matrix[t]

    state, code = parameters.initial_mean.shape[-1], parameters.observation.shape[-2]
    maps, means = [], []
    for t in range(num_steps):
        own = torch.zeros(state, num_steps * state, dtype=torch.float64)
        own[:, t * state : (t + 1) * state] = torch.eye(state)
        if t == 0:
            maps, means = [own], [parameters.initial_mean]
            continue
        shift = 0.0 if parameters.inputs is None else at(parameters.input_matrix, t) @ parameters.inputs[t]
        maps.append(at(parameters.transition, t) @ maps[-1] + own)
        means.append(at(parameters.transition, t) @ means[-1] + shift)
    steps = range(num_steps)
    noise = torch.block_diag(parameters.initial_cov, *(at(parameters.transition_cov, t) for t in steps[1:]))
    see = torch.block_diag(*(at(parameters.observation, t) for t in steps))
    blur = torch.block_diag(*(at(parameters.observation_cov, t) for t in steps))
    mean, cov = torch.cat(means), torch.cat(maps) @ noise @ torch.cat(maps).T
    joint_cov = torch.cat([torch.cat([cov, cov @ see.T], 1), torch.cat([see @ cov, see @ cov @ see.T + blur], 1)])
    return DensePath(Gaussian(torch.cat([mean, see @ mean]), joint_cov), num_steps, state, code)


def assert_moments(draws: Tensor, exact: Gaussian, errors: float = 5.0) -> None:
    """Means and all covariances of draws (draw, entry) within so many standard errors."""
    variance = exact.cov.diagonal()
    mean_error = (variance / len(draws)).sqrt()
    assert float(((draws.mean(0) - exact.mean) / mean_error).abs().max()) < errors
    cov_error = ((variance[:, None] * variance + exact.cov**2) / len(draws)).sqrt()
    assert float(((draws.T.cov() - exact.cov) / cov_error).abs().max()) < errors


def of_series(parameters: LinearGaussianParameters, *place: int) -> LinearGaussianParameters:
    """One series of parameters that may or may not differ between series."""
    axes = LinearGaussianParameters(3, 3, 3, 3, 1, 2, 3, 2)
    picked = [
        value if value is None or value.ndim <= num_axes else value[place]
        for value, num_axes in zip(parameters, axes, strict=True)
    ]
    return LinearGaussianParameters(*picked)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_dynamics(
    kind: str = "lstm", *, num_modes: int = 3, code_dim: int = CODE, state_dim: int = STATE, input_dim: int = 0,
    num_learned_inputs: int = 0, **options,
) -> MixedDynamics | ContinuousDynamics:  # fmt: skip
    """Dynamics with weights that differ much between paths.

    `kind` is lstm, window, or one, which has one mode; after "continuous" the same in continuous time.
    """
    is_continuous, kind = kind.startswith("continuous"), kind.removeprefix("continuous ")
    num_modes = 1 if kind == "one" else num_modes
    num_outputs, size = num_modes + num_learned_inputs, code_dim + is_continuous
    mixture = {
        "lstm": lambda: LSTMMixture(size, num_outputs, hidden_dim=5),
        "window": lambda: WindowMixture(size, num_outputs, length=2, hidden_dims=(6,)),
        "one": lambda: None,
    }[kind]()
    noise = "diffusion" if is_continuous else "transition_variance"
    options = {noise: 0.3, "observation_variance": 0.2, "initial_variance": 1.5} | options
    options |= {"mixture": mixture, "input_dim": input_dim}
    if is_continuous:
        dynamics = ContinuousDynamics(code_dim, state_dim, num_modes, **options).double()
    else:
        options |= {"num_learned_inputs": num_learned_inputs}
        dynamics = MixedDynamics(code_dim, state_dim, num_modes, **options).double()
    with torch.no_grad():
        for seed, (name, parameter) in enumerate(dynamics.named_parameters()):
            random = normal(*parameter.shape, seed=seed)
            is_variance = "variance" in name or "diffusion" in name
            parameter.copy_(parameter + 0.3 * random if is_variance else random * (0.6 if random.ndim == 3 else 1))
    return dynamics
