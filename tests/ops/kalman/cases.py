"""Random systems and series, and exact answers for one series from the joint Gaussian of all its states."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.ops.kalman import (
    LinearGaussianParameters,
)

STATE, OBS, INPUT, BATCH = 3, 2, 2, (2, 4)


class Case(NamedTuple):
    values: Tensor
    parameters: LinearGaussianParameters
    mask: Tensor | None


class Dense(NamedTuple):
    """Exact answers of one series, from the joint Gaussian of all states and observations."""

    mean: Tensor
    cov: Tensor
    log_likelihood: Tensor

    def means(self) -> Tensor:
        return self.mean.unflatten(0, (-1, STATE))

    def block(self, t: int, s: int) -> Tensor:
        return self.cov[t * STATE : (t + 1) * STATE, s * STATE : (s + 1) * STATE]


def random_cov(generator: torch.Generator, *shape: int) -> Tensor:
    root = torch.randn(*shape, shape[-1], dtype=torch.float64, generator=generator) / math.sqrt(shape[-1])
    return root @ root.mT + 0.1 * torch.eye(shape[-1], dtype=torch.float64)


def random_case(
    time: int = 6, *, hide: str = "entries", varying: bool = True, inputs: bool = True, seed: int = 0
) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    lead = (*BATCH, time) if varying else ()
    parameters = LinearGaussianParameters(
        transition=normal(*lead, STATE, STATE) * 0.6,
        transition_cov=random_cov(generator, *lead, STATE),
        observation=normal(*lead, OBS, STATE),
        observation_cov=random_cov(generator, *lead, OBS),
        initial_mean=normal(*BATCH, STATE),
        initial_cov=random_cov(generator, *(BATCH if varying else ()), STATE),
        input_matrix=normal(*lead, STATE, INPUT) if inputs else None,
        inputs=normal(*BATCH, time, INPUT) if inputs else None,
    )
    shapes = {"nothing": None, "steps": (*BATCH, time), "entries": (*BATCH, time, OBS)}
    shape = shapes[hide]
    mask = None if shape is None else torch.rand(*shape, generator=generator) < 0.6
    return Case(normal(*BATCH, time, OBS), parameters, mask)


def of_series(case: Case, place: tuple[int, ...]) -> Case:
    """One series of a case, every matrix with a time axis."""
    time = case.values.shape[-2]

    def at(tensor: Tensor | None, num_axes: int) -> Tensor | None:
        if tensor is None:
            return None
        lead = (time,) if num_axes == 3 or tensor is case.parameters.inputs else ()
        if tensor.ndim < num_axes:
            tensor = tensor.expand(*lead, *tensor.shape)
        return tensor.expand(*BATCH, *tensor.shape[-num_axes:])[place]

    axes = [3, 3, 3, 3, 1, 2, 3, 2]
    parameters = LinearGaussianParameters(*map(at, case.parameters, axes))
    return Case(case.values[place], parameters, None if case.mask is None else case.mask[place])


def dense(case: Case) -> Dense:
    """Condition the joint Gaussian of all states on the observed entries, which are picked, not masked."""
    values, parameters, mask = case
    transition, noise, observation, observation_cov, start, start_cov, input_matrix, inputs = parameters[:8]
    time = len(values)
    means, covs = [start], [[start_cov]]
    for t in range(1, time):
        mean = transition[t] @ means[-1]
        means.append(mean if inputs is None else mean + input_matrix[t] @ inputs[t])
        row = [transition[t] @ block for block in covs[-1]]
        covs.append([*row, row[-1] @ transition[t].T + noise[t]])
    prior_mean = torch.cat(means)
    prior_cov = torch.cat(
        [torch.cat([covs[t][s] if s <= t else covs[s][t].T for s in range(time)], 1) for t in range(time)]
    )
    seen = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
    seen = (seen if seen.ndim == 2 else seen[:, None].expand(-1, OBS)).flatten()
    see = torch.block_diag(*observation)[seen]
    joint = see @ prior_cov @ see.T + torch.block_diag(*observation_cov)[seen][:, seen]
    residual = values.flatten()[seen] - see @ prior_mean
    gain = torch.linalg.solve(joint, see @ prior_cov).T
    log_likelihood = -0.5 * (
        residual @ torch.linalg.solve(joint, residual) + torch.logdet(joint) + len(residual) * math.log(2 * math.pi)
    )
    return Dense(prior_mean + gain @ residual, prior_cov - gain @ see @ prior_cov, log_likelihood)


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


CASES = [
    random_case(hide=hide, varying=varying, inputs=inputs, seed=seed)
    for seed, (hide, varying, inputs) in enumerate(
        [("nothing", False, False), ("nothing", True, True), ("steps", True, True), ("entries", True, True),
         ("entries", False, True), ("steps", False, False)]
    )
]  # fmt: skip


def changed(case: Case, **changes: Tensor | None) -> Case:
    return case._replace(parameters=case.parameters._replace(**changes))


GOOD = random_case(seed=4)


ZEROS = GOOD.values.new_zeros
