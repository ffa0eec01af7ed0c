"""Encoders of the initial state of a flow."""

from __future__ import annotations

from typing import Protocol

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.nn.known_inputs import InputMixer, keep_input_dim
from pyro_seq.nn.units import Standardise


class Trunk(Protocol):
    """A module that maps a window of frames to features."""

    num_features: int

    def __call__(self, frames: Tensor, mask: Tensor, gaps: Tensor) -> Tensor:
        r"""Features (batch, feature) of frames and mask (batch, frame, \*obs), `gaps` (batch, frame - 1) apart."""
        ...


class SeriesEncoder(Protocol):
    """A module that maps a series to a Gaussian over a vector at its start; every flow model accepts it.

    Optional: a method ``adapt(data)`` sets units from the training data; an encoder that reads only part of a series
    reports by ``sees(mask)`` which entries of its vector it can infer, (batch, dim), and the others follow the prior;
    with an attribute `input_dim` other than 0 the encoder gets one more argument, the inputs (batch, frame, input) in
    units of the training data, 0 after the last frame with an observed entry. `InitialStateEncoder` reads the first
    frames, `RNNEncoder` and `ODERNNEncoder` whole series.
    """

    @property
    def dim(self) -> int:
        """Size of the vector."""
        ...

    def __call__(self, frames: Tensor, mask: Tensor, times: Tensor) -> dist.TorchDistribution:
        r"""Batch (batch,), event (dim,), for frames and mask (batch, frame, \*obs) at model times (batch, frame).

        Times are in double precision: compute their differences first, then convert these to the type of the frames.
        """
        ...


@rebuildable
class FrameWindow(nn.Module):
    r"""Means and log standard deviations from a window of frames, with masks and times of the frames.

    Args:
        trunk: Module that reads the window, such as `MLPTrunk`; missing entries of the frames are zero.
        num_frames: Length of the window.
        dim: Size of the result.
        initial_log_scale: Initial log standard deviation.
        input_dim: Size of the inputs at each frame, which are read together with its features.
    """

    input_dim: int = 0

    def __init__(
        self, trunk: Trunk, num_frames: int, dim: int, *, initial_log_scale: float = -2.0, input_dim: int = 0
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.num_frames = num_frames
        self.dim = dim
        keep_input_dim(self, input_dim)
        num_features = trunk.num_features
        if input_dim:
            self.mixer = InputMixer(num_features, num_frames * input_dim + num_frames - 1)
            num_features = self.mixer.num_features
        self.head = nn.Linear(num_features, 2 * dim)
        with torch.no_grad():
            self.head.bias[dim:].fill_(initial_log_scale)
            self.head.weight[dim:].mul_(0.1)

    def forward(
        self, frames: Tensor, mask: Tensor, gaps: Tensor, inputs: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Read frames (batch, frame, \*obs) with `mask` of that shape, `gaps` (batch, frame - 1) apart in model time.

        Inputs, if any, are (batch, frame, input).

        Returns:
            Mean and log standard deviation, (batch, dim) each.
        """
        features = self.trunk(frames, mask, gaps)
        if inputs is not None:
            features = self.mixer(features, torch.cat([inputs.flatten(1), gaps], -1))
        loc, log_scale = self.head(features).chunk(2, -1)
        return loc, log_scale


@rebuildable
class InitialStateEncoder(nn.Module):
    r"""Gaussian over the initial state: the position from the first frame, its derivatives from the first few.

    .. math::
        q(z_0 \mid x) = \mathcal N\left(s_0 \mid \mu_s(x_0), \sigma_s(x_0)\right)\,
                        \mathcal N\left(v_0 \mid \mu_v(x_{0:m}), \sigma_v(x_{0:m})\right)

    Args:
        position: Reads one frame.
        velocity: Reads the first m frames; None if the state is only a position.
        units: Standardises the frames; by default one unit per variable, and one for all pixels of an image.

    References:
        Yildiz, Heinonen, Lahdesmaki, "ODE2VAE", NeurIPS 2019, section 3.2.
    """

    def __init__(
        self, position: FrameWindow, velocity: FrameWindow | None = None, *, units: Standardise | None = None
    ) -> None:
        super().__init__()
        self.units = Standardise() if units is None else units
        self.position = position
        self.velocity = velocity

    @property
    def dim(self) -> int:
        """Size of the state."""
        return sum(window.dim for window in self._windows())

    @property
    def num_frames(self) -> int:
        """Number of frames read."""
        return max(window.num_frames for window in self._windows())

    @property
    def input_dim(self) -> int:
        """Size of the inputs that the windows read."""
        return max(window.input_dim for window in self._windows())

    def adapt(self, data: Sequences) -> None:
        """Set the units of the frames from the training data."""
        self.units.adapt(data)

    def sees(self, mask: Tensor) -> Tensor:
        r"""Entries of the state (batch, dim) with an observation in their window, from mask (batch, frame, \*obs)."""
        windows = [mask[:, : window.num_frames].flatten(1).any(1, keepdim=True) for window in self._windows()]
        sizes = [window.dim for window in self._windows()]
        return torch.cat([seen.expand(-1, size) for seen, size in zip(windows, sizes, strict=True)], -1)

    def forward(
        self, frames: Tensor, mask: Tensor, times: Tensor, inputs: Tensor | None = None
    ) -> dist.TorchDistribution:
        r"""Distribution of the state at the first of `frames`.

        Args:
            frames: Frames (batch, frame, \*obs), at least one; if fewer than the window, the rest count as missing.
            mask: True where observed, of the same shape.
            times: Model times of the frames (batch, frame).
            inputs: Inputs at the frames (batch, frame, input), if the windows read inputs.

        Returns:
            A normal with batch shape (batch,) and event shape (state,).
        """
        frames = self.units(frames[:, : self.num_frames])
        parts = [
            window(*_window(frames, mask, times, window.num_frames), *_inputs(inputs, window))
            for window in self._windows()
        ]
        loc = torch.cat([part[0] for part in parts], -1)
        scale = torch.cat([part[1] for part in parts], -1).clamp(-10.0, 5.0).exp()
        return dist.Normal(loc, scale).to_event(1)

    def _windows(self) -> list[FrameWindow]:
        return [self.position] if self.velocity is None else [self.position, self.velocity]


def _window(frames: Tensor, mask: Tensor, times: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first `length` frames, hidden entries zero; absent frames are masked, with gaps of zero."""
    frames, mask, times = frames[:, :length], mask[:, :length], times[:, :length]
    lacking = length - frames.shape[1]
    mask = mask.to(frames.dtype)
    frames = frames * mask
    gaps = times.diff(dim=-1).to(frames.dtype)
    if lacking:
        empty = frames.new_zeros(frames.shape[0], lacking, *frames.shape[2:])
        frames, mask = torch.cat([frames, empty], 1), torch.cat([mask, empty], 1)
        gaps = torch.cat([gaps, gaps.new_zeros(gaps.shape[0], lacking)], -1)
    return frames, mask, gaps


def _inputs(inputs: Tensor | None, window: FrameWindow) -> tuple[Tensor, ...]:
    """The inputs at the frames of a window that reads inputs; zeros at absent frames."""
    if not window.input_dim or inputs is None:
        return ()
    inputs = inputs[:, : window.num_frames]
    lacking = window.num_frames - inputs.shape[1]
    return (torch.cat([inputs, inputs.new_zeros(len(inputs), lacking, window.input_dim)], 1),)
