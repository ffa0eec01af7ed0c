"""An encoder of single frames, and the default encoder and emission for a shape of frames."""

from __future__ import annotations

from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.nn.conv import ConvTrunk
from pyro_seq.nn.emission import BernoulliEmission, Emission, GaussianEmission
from pyro_seq.nn.encoder import Trunk
from pyro_seq.nn.input_decoder import InputDecoder
from pyro_seq.nn.known_inputs import InputMixer, keep_input_dim
from pyro_seq.nn.mlp import MLPDecoder, MLPTrunk
from pyro_seq.nn.subpixel import SubPixelDecoder
from pyro_seq.nn.units import Standardise


@rebuildable
class FrameEncoder(nn.Module):
    r"""Gaussian over the code of one frame, independent of the other frames.

    .. math::
        q(a_t \mid x_t) = \mathcal N\left(a_t \mid \mu(x_t),\ v\, \mathrm{sigmoid}(\rho(x_t))\right)

    The bound v on the variance keeps codes precise enough for the dynamics to explain them.

    Args:
        trunk: Reads a window of one frame, such as ``ConvTrunk(1, obs_shape)``; missing entries are zero.
        dim: Size of the code.
        maximum_variance: The bound v.
        units: Standardises the frames; by default one unit per variable, and one for all pixels of an image.
        input_dim: Size of the inputs at the step of the frame, which are read together with it.

    References:
        Fraccaro, Kamronn, Paquet, Winther, "A disentangled recognition and nonlinear dynamics model for unsupervised
        learning", NeurIPS 2017.
    """

    input_dim: int = 0

    def __init__(
        self,
        trunk: Trunk,
        dim: int,
        *,
        maximum_variance: float = 0.03,
        units: Standardise | None = None,
        input_dim: int = 0,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.units = Standardise() if units is None else units
        self.dim = dim
        self.maximum_variance = maximum_variance
        keep_input_dim(self, input_dim)
        num_features = trunk.num_features
        if input_dim:
            self.mixer = InputMixer(num_features, input_dim)
            num_features = self.mixer.num_features
        self.head = nn.Linear(num_features, 2 * dim)

    def adapt(self, data: Sequences) -> None:
        """Set the units of the frames from the training data."""
        self.units.adapt(data)

    def forward(self, frames: Tensor, mask: Tensor, inputs: Tensor | None = None) -> dist.Normal:
        r"""Codes of frames.

        Args:
            frames: Frames (series, time, \*obs).
            mask: True where observed, of the same shape.
            inputs: Inputs (series, time, input), if the encoder reads inputs.

        Returns:
            A normal with batch shape (series, time, dim).
        """
        seen = mask.to(frames.dtype)
        windows = (self.units(frames) * seen).flatten(0, 1)[:, None]
        features = self.trunk(windows, seen.flatten(0, 1)[:, None], frames.new_zeros(windows.shape[0], 0))
        if inputs is not None:
            features = self.mixer(features, inputs.flatten(0, 1).to(features.dtype))
        loc, spread = self.head(features).to(frames.dtype).unflatten(0, frames.shape[:2]).chunk(2, -1)
        variance = self.maximum_variance * torch.sigmoid(spread)
        return dist.Normal(loc, variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt(), validate_args=False)


def frame_encoder(
    obs_shape: tuple[int, ...], dim: int, maximum_variance: float = 0.03, input_dim: int = 0
) -> FrameEncoder:
    """A convolutional encoder for images, otherwise an MLP."""
    trunk = ConvTrunk(1, obs_shape, (32, 32, 32)) if len(obs_shape) == 3 else MLPTrunk(1, obs_shape)
    return FrameEncoder(trunk, dim, maximum_variance=maximum_variance, input_dim=input_dim)


def give_decoder(emission: Emission, make: Callable[[], nn.Module]) -> None:
    """Make the decoder of an emission without one, or of its `InputDecoder` without one."""
    holder = emission.decoder if isinstance(emission.decoder, InputDecoder) else emission
    if holder.decoder is None:
        holder.decoder = emission.heads(make)


def frame_emission(obs_shape: tuple[int, ...], dim: int, emission: Emission | None = None) -> Emission:
    """An emission with a decoder; by default Bernoulli and convolutional for images, otherwise Gaussian with an MLP."""
    is_image = len(obs_shape) == 3
    if emission is None:
        emission = BernoulliEmission() if is_image else GaussianEmission()
    give_decoder(emission, lambda: SubPixelDecoder(dim, obs_shape) if is_image else MLPDecoder(dim, obs_shape))
    return emission
