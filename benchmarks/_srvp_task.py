"""SRVP of the library and of the baseline with the same weights, clips and draws."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pyro
import torch
from torch import Tensor, nn

from benchmarks import _srvp_baseline as plain
from pyro_seq.data import Sequences
from pyro_seq.infer.objective import Objective
from pyro_seq.models.srvp import SRVP
from pyro_seq.nn.dcgan import DCGAN
from pyro_seq.posterior import GuidePosterior, Prediction
from pyro_seq.predict.verbs import forecast

NOISE_WEIGHT = 2.0  # of the paper, for moving digits
Pair = tuple[nn.Parameter, nn.Parameter, Callable[[Tensor], Tensor]]


class Task:
    """A step of Adam, and forecasts, by either side.

    Args:
        sizes: Of the networks.
        num_series: Clips in the minibatch.
        num_steps: Frames of each.
        dtype: Precision of everything.
        is_mixed: Networks compute in bfloat16.
    """

    def __init__(
        self,
        sizes: plain.Sizes,
        num_series: int,
        num_steps: int,
        *,
        dtype: torch.dtype = torch.float32,
        is_mixed: bool = False,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        frames = torch.rand(num_series, num_steps, *sizes.obs_shape, generator=generator).to(dtype)
        order = torch.rand(num_series, num_steps, generator=generator).argsort(-1)
        self.content_frames = order[:, : sizes.num_frames]
        chosen = torch.zeros(num_series, num_steps, dtype=torch.bool).scatter(1, self.content_frames, True)
        self.data = Sequences(frames, context={"content_frames": chosen})
        self.sizes, self.is_mixed = sizes, is_mixed
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = library_model(sizes).to(dtype)
            self.networks = plain.Networks(sizes).to(dtype)
        self.pairs = pairs(self.model, self.networks)
        with torch.no_grad():
            for own, other, convert in self.pairs:
                other.copy_(convert(own))
        self.objective = Objective(self.model, scales={"noise": NOISE_WEIGHT})
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-4)
        self.plain_optimizer = torch.optim.Adam(self.networks.parameters(), lr=3e-4)

    def library(self) -> Tensor:
        """One step; the loss before it."""
        self.optimizer.zero_grad()
        with self._precision():
            loss = self.objective(self.data).total
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def baseline(self) -> Tensor:
        """One step; the loss before it."""
        self.networks.train()
        self.plain_optimizer.zero_grad()
        with self._precision():
            loss = plain.training_loss(self.networks, self.data.values, self.content_frames, NOISE_WEIGHT)
        loss.backward()
        self.plain_optimizer.step()
        return loss.detach()

    def _precision(self) -> AbstractContextManager:
        return torch.autocast("cpu", torch.bfloat16) if self.is_mixed else nullcontext()

    def both(self) -> list[list[Tensor]]:
        """Loss and gradients of the library and of the baseline with the same draws; each takes one step."""
        losses = []
        for step in (self.library, self.baseline):
            with torch.random.fork_rng():
                pyro.set_rng_seed(1)
                losses.append(step())
        ours, theirs = [], []
        for own, other, convert in self.pairs:
            assert own.grad is not None and other.grad is not None
            ours.append(convert(own.grad))
            theirs.append(other.grad)
        return [[losses[0], *ours], [losses[1], *theirs]]

    def futures(self, horizon: int, num_samples: int, chunk_size: int | None = None) -> Prediction:
        """A forecast of the library from the first frames."""
        data = Sequences(self.data.values[:, : self.sizes.num_frames])
        posterior = GuidePosterior(self.model)
        return forecast(posterior, data, horizon=horizon, num_samples=num_samples, chunk_size=chunk_size)

    def seen(self) -> Tensor:
        r"""The first frames as the baseline takes them, (time, series, \*obs)."""
        self.networks.eval()
        return self.data.values[:, : self.sizes.num_frames].transpose(0, 1)

    def both_futures(self, horizon: int, num_samples: int) -> list[list[Tensor]]:
        """Means of the frames of the library's forecast, and what the baseline makes of the same latents."""
        prediction = self.futures(horizon, num_samples)
        latents, frames = prediction.latents, self.seen()
        noise = torch.cat([latents["noise"], latents["noise_future"]], -2)
        expected = [
            plain.roll(self.networks, frames, horizon, (latents["initial"][k], noise[k].transpose(0, 1)))
            for k in range(num_samples)
        ]
        return [[prediction.emission_means], [torch.stack(expected).transpose(1, 2)]]


def library_model(sizes: plain.Sizes) -> SRVP:
    """The library's model of those sizes."""
    return SRVP(
        sizes.obs_shape,
        sizes.state_dim,
        noise_dim=sizes.noise_dim,
        content_dim=sizes.content_dim,
        num_frames=sizes.num_frames,
        hidden_dim=sizes.hidden_dim,
        architecture=DCGAN(sizes.channels, sizes.code_dim),
    )


def pairs(model: SRVP, networks: plain.Networks) -> list[Pair]:
    """Each parameter of the library, the one of the baseline that does its work, and the way to the latter's layout."""
    encoder, decoder = model.frame_encoder, model.emission.decoder
    layers = [part for stage in encoder.stages for part in stage] + [encoder.head.linear, encoder.head.norm]
    layers += [decoder.seed.linear, decoder.seed.norm]
    for layer, norm in itertools.zip_longest(decoder.layers, decoder.norms):
        layers += [layer] if norm is None else [layer, norm]
    assert model.content is not None and model.noise_prior is not None
    content, read = model.content, model.encoder
    layers += [content.each, content.head, read.first, read.lstm, read.head, model.noise_prior, model.transition]
    ours = [parameter for layer in layers for parameter in layer.parameters()]
    seed = decoder.seed.linear.weight
    return [
        (own, other, _layout(own, other, is_transposed=own is seed))
        for own, other in zip(ours, networks.parameters(), strict=True)
    ]


def _layout(own: Tensor, other: Tensor, *, is_transposed: bool) -> Callable[[Tensor], Tensor]:
    """From weights with their channels last, or those of a matrix product over all pixels, to torch's layout."""
    if other.ndim < 4:
        return lambda value: value
    pixels = (*other.shape[2:], other.shape[1])
    if own.ndim == 4:
        return lambda value: value.permute(0, 3, 1, 2)
    return lambda value: (value.t() if is_transposed else value).unflatten(1, pixels).permute(0, 3, 1, 2)
