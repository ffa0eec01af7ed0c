"""SRVP the plain way: torch's layers as they come, a loop over frames, every sample with its own encoding."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

FLOOR = 1e-4  # of deviations, the library's; the public code has 1e-8


class Sizes(NamedTuple):
    """Of the networks; those of the paper for moving digits when left alone."""

    obs_shape: tuple[int, int, int] = (1, 64, 64)
    channels: tuple[int, ...] = (64, 128, 256, 512)
    code_dim: int = 128
    state_dim: int = 20
    noise_dim: int = 20
    content_dim: int = 256
    num_frames: int = 5
    hidden_dim: int = 512


class Networks(nn.Module):
    """All parts, with images in torch's own layout."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        half, code, state, noise = sizes.hidden_dim // 2, sizes.code_dim, sizes.state_dim, sizes.noise_dim
        self.encoder = _encoder(sizes)
        self.decoder = _decoder(sizes)
        self.each = nn.Sequential(nn.Linear(code, sizes.content_dim), nn.ReLU())
        self.content = nn.Sequential(nn.Linear(sizes.content_dim, sizes.content_dim), nn.Tanh())
        self.first = _dense(code * sizes.num_frames, half, half, 2 * state)
        self.lstm = nn.LSTM(code, half)
        self.head = nn.Linear(half, 2 * noise)
        self.prior = _dense(state, *[sizes.hidden_dim] * 3, 2 * noise)
        self.velocity = _dense(state + noise, *[sizes.hidden_dim] * 3, state)

    def encode(self, frames: Tensor) -> Tensor:
        r"""Codes (time, series, code) of frames (time, series, \*obs)."""
        return self.encoder(frames.flatten(0, 1)).flatten(1).unflatten(0, frames.shape[:2])

    def decode(self, content: Tensor, states: Tensor) -> Tensor:
        r"""Frames (time, series, \*obs) of states (time, series, state)."""
        latent = torch.cat([content.expand(len(states), *content.shape), states], -1)
        return self.decoder(latent.flatten(0, 1)[..., None, None]).unflatten(0, states.shape[:2])

    def content_of(self, codes: Tensor) -> Tensor:
        """Content (series, content) of the codes (frame, series, code) of some frames."""
        return self.content(self.each(codes).sum(0))

    def posterior(self, codes: Tensor) -> tuple[Normal, Normal]:
        """Distributions of the first state (series, state) and of the noise of each frame (time, series, noise)."""
        start = codes[: self.sizes.num_frames].transpose(0, 1).flatten(1)
        return gaussian(self.first(start)), gaussian(self.head(self.lstm(codes)[0]))


def training_loss(networks: Networks, frames: Tensor, content_frames: Tensor, noise_weight: float = 2.0) -> Tensor:
    r"""Objective of frames (series, time, \*obs), with the content from the frames `content_frames` (series, frame)."""
    frames = frames.transpose(0, 1)
    codes = networks.encode(frames)
    chosen = codes.transpose(0, 1).gather(1, content_frames[..., None].expand(-1, -1, codes.shape[-1]))
    content = networks.content_of(chosen.transpose(0, 1))
    initial, noise = networks.posterior(codes)
    state = initial.rsample()
    standard = torch.randn(noise.loc.transpose(0, 1).shape, dtype=frames.dtype)  # series first, as the library draws
    draws = noise.loc + noise.scale * standard.transpose(0, 1)
    states, divergences, residuals = [state], [], []
    for step in range(1, len(frames)):
        prior = gaussian(networks.prior(state))
        divergences.append(kl_divergence(Normal(noise.loc[step], noise.scale[step]), prior))
        residuals.append(networks.velocity(torch.cat([state, draws[step]], -1)))
        state = state + residuals[-1]
        states.append(state)
    means = networks.decode(content, torch.stack(states))
    first_prior = Normal(torch.zeros_like(initial.loc), torch.ones_like(initial.scale))
    loss = -Normal(means, 1.0).log_prob(frames).sum() + kl_divergence(initial, first_prior).sum()
    loss = loss + noise_weight * torch.stack(divergences).sum() + torch.stack(residuals).norm(dim=-1).sum()
    return loss / frames.shape[1]


@torch.no_grad()
def roll(networks: Networks, frames: Tensor, horizon: int, latents: tuple[Tensor, Tensor] | None = None) -> Tensor:
    r"""Future frames (horizon, series, \*obs) of frames (time, series, \*obs), decoded together with the seen ones.

    Args:
        networks: In evaluation mode.
        frames: The seen frames.
        horizon: Number of future frames.
        latents: First state (series, state) and noise (time, series, noise) of all frames; drawn when absent.
    """
    codes = networks.encode(frames)
    content = networks.content_of(codes[-networks.sizes.num_frames :])
    initial, noise = networks.posterior(codes)
    state = initial.sample() if latents is None else latents[0]
    states, num_seen = [state], len(frames)
    for step in range(1, num_seen + horizon):
        prior = gaussian(networks.prior(state))
        if latents is not None:
            draw = latents[1][step]
        elif step < num_seen:
            draw = Normal(noise.loc[step], noise.scale[step]).sample()
        else:
            draw = prior.sample()
        state = state + networks.velocity(torch.cat([state, draw], -1))
        states.append(state)
    return networks.decode(content, torch.stack(states))[num_seen:].clamp(0, 1)


def one_by_one(networks: Networks, frames: Tensor, horizon: int, num_samples: int) -> Tensor:
    """Futures (sample, horizon, series, ...), the whole of the work done anew for each sample."""
    return torch.stack([roll(networks, frames, horizon) for _ in range(num_samples)])


def at_once(networks: Networks, frames: Tensor, horizon: int, num_samples: int) -> Tensor:
    """The same with all samples as so many series."""
    futures = roll(networks, frames.repeat_interleave(num_samples, 1), horizon)
    return futures.unflatten(1, (-1, num_samples)).movedim(2, 0)


def gaussian(features: Tensor) -> Normal:
    """Mean and raw deviation from `features`."""
    loc, spread = features.chunk(2, -1)
    return Normal(loc, functional.softplus(spread) + FLOOR, validate_args=False)


def _encoder(sizes: Sizes) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise([sizes.obs_shape[0], *sizes.channels]):
        layers.append(nn.Conv2d(size_in, size_out, 4, stride=2, padding=1, bias=False))
        layers += [nn.BatchNorm2d(size_out)] if len(layers) > 1 else []
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    last = nn.Conv2d(sizes.channels[-1], sizes.code_dim, _smallest(sizes), bias=False)
    return nn.Sequential(*layers, last, nn.BatchNorm2d(sizes.code_dim), nn.Tanh())


def _decoder(sizes: Sizes) -> nn.Sequential:
    channels = [*reversed(sizes.channels), sizes.obs_shape[0]]
    dim = sizes.content_dim + sizes.state_dim
    layers: list[nn.Module] = [nn.ConvTranspose2d(dim, channels[0], _smallest(sizes), bias=False)]
    for size_in, size_out in itertools.pairwise(channels):
        layers += [nn.BatchNorm2d(size_in), nn.LeakyReLU(0.2, inplace=True)]
        layers.append(nn.ConvTranspose2d(size_in, size_out, 4, stride=2, padding=1, bias=False))
    return nn.Sequential(*layers, nn.Sigmoid())


def _smallest(sizes: Sizes) -> tuple[int, int]:
    factor = 2 ** len(sizes.channels)
    return sizes.obs_shape[1] // factor, sizes.obs_shape[2] // factor


def _dense(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
