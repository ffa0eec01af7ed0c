"""Kalman filter and smoother the plain way: step by step, every inverse explicit, the public Kalman VAE's formulas."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Model(NamedTuple):
    """Parameters; A and C for each series and step, as the mixture of a Kalman VAE gives them.

    Attributes:
        transition: A (series, time, state, state); A[:, t] moves into step t, the first is not read.
        observation: C (series, time, obs, state).
        transition_cov: Q (state, state).
        observation_cov: R (obs, obs).
        initial_mean: (state,).
        initial_cov: (state, state).
    """

    transition: Tensor
    observation: Tensor
    transition_cov: Tensor
    observation_cov: Tensor
    initial_mean: Tensor
    initial_cov: Tensor


class Moments(NamedTuple):
    """Lists over time of columns (series, state, 1), matrices (series, state, state), log densities (series,)."""

    filtered_means: list[Tensor]
    filtered_covs: list[Tensor]
    predicted_means: list[Tensor]
    predicted_covs: list[Tensor]
    log_densities: list[Tensor]


def filter_steps(values: Tensor, model: Model, *, has_density: bool) -> Moments:
    """Forward pass with Joseph's form of the update.

    Args:
        values: (series, time, obs).
        model: The parameters.
        has_density: Whether to evaluate the log density of each observation.
    """
    num_series, _, num_obs = values.shape
    moments = Moments([], [], [], [], [])
    mean = model.initial_mean[:, None].expand(num_series, -1, 1)
    cov = model.initial_cov.expand(num_series, -1, -1)
    identity = torch.eye(cov.shape[-1], dtype=values.dtype)
    # an index inside the loop would copy the gradient of the whole tensor once a step
    steps = zip(values.unbind(1), model.transition.unbind(1), model.observation.unbind(1), strict=True)
    for t, (value, transition, observation) in enumerate(steps):
        if t:
            mean = transition @ mean
            cov = transition @ cov @ transition.mT + model.transition_cov
        moments.predicted_means.append(mean)
        moments.predicted_covs.append(cov)
        residual = value[..., None] - observation @ mean
        innovation_cov = observation @ cov @ observation.mT + model.observation_cov
        precision = torch.inverse(innovation_cov)
        gain = cov @ observation.mT @ precision
        mean = mean + gain @ residual
        rest = identity - gain @ observation
        cov = rest @ cov @ rest.mT + gain @ model.observation_cov @ gain.mT
        moments.filtered_means.append(mean)
        moments.filtered_covs.append(cov)
        if has_density:
            distance = (residual.mT @ precision @ residual)[:, 0, 0]
            constant = num_obs * math.log(2 * math.pi)
            moments.log_densities.append(-0.5 * (distance + torch.logdet(innovation_cov) + constant))
    return moments


def log_likelihood(values: Tensor, model: Model) -> Tensor:
    """Log density of each series, (series,)."""
    return torch.stack(filter_steps(values, model, has_density=True).log_densities).sum(0)


def smooth(values: Tensor, model: Model) -> tuple[Tensor, Tensor]:
    """Means (series, time, state) and covariances (series, time, state, state) given all observations."""
    moments = filter_steps(values, model, has_density=False)
    mean, cov = moments.filtered_means[-1], moments.filtered_covs[-1]
    means, covs = [mean], [cov]
    transitions = model.transition.unbind(1)
    for t in range(values.shape[1] - 2, -1, -1):
        predicted = moments.predicted_covs[t + 1]
        filtered = moments.filtered_covs[t]
        gain = filtered @ transitions[t + 1].mT @ torch.inverse(predicted)
        mean = moments.filtered_means[t] + gain @ (mean - moments.predicted_means[t + 1])
        cov = filtered + gain @ (cov - predicted) @ gain.mT
        means.append(mean)
        covs.append(cov)
    return torch.stack(means[::-1], 1).squeeze(-1), torch.stack(covs[::-1], 1)


def smooth_into_slices(values: Tensor, model: Model) -> tuple[Tensor, Tensor]:
    """The same results, written step by step into whole tensors, as a public PyTorch port does it.

    Backward then copies the gradient of the whole tensor once a step: its cost grows with the square of time.
    """
    num_series, num_steps = values.shape[:2]
    size = model.initial_mean.shape[0]
    moments = filter_steps(values, model, has_density=False)
    stores = [values.new_zeros(num_steps, num_series, size, k) for k in (1, size, 1, size)]
    for store, steps in zip(stores, moments[:4], strict=True):
        for t, moment in enumerate(steps):
            store[t] = moment
    filtered_means, filtered_covs, predicted_means, predicted_covs = stores
    means, covs = torch.zeros_like(filtered_means), torch.zeros_like(filtered_covs)
    means[-1], covs[-1] = filtered_means[-1], filtered_covs[-1]
    for t in range(num_steps - 2, -1, -1):
        gain = filtered_covs[t] @ model.transition[:, t + 1].mT @ torch.inverse(predicted_covs[t + 1])
        means[t] = filtered_means[t] + gain @ (means[t + 1].clone() - predicted_means[t + 1])
        covs[t] = filtered_covs[t] + gain @ (covs[t + 1].clone() - predicted_covs[t + 1]) @ gain.mT
    return means.transpose(0, 1).squeeze(-1), covs.transpose(0, 1)
