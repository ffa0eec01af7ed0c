r"""Fréchet distance between two sets of features, and the network for the video one (FVD)."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError

_I3D_SIZE = 224  # pixels
_I3D_BATCH = 16  # videos at a time
_WHITE = 255.0


class FrechetScore(NamedTuple):
    """A Fréchet distance, with the facts needed to compare it.

    Attributes:
        value: The distance; NaN where it was skipped.
        note: The features used, or why there is no value.
        num_videos: Number of real, and of generated, videos.
        num_frames: Number of frames of each, the seen ones included.
    """

    value: float
    note: str
    num_videos: int
    num_frames: int


def frechet_distance(first: Any, second: Any) -> Tensor:
    r"""Squared 2-Wasserstein distance between Gaussians fitted to two sets of features.

    .. math::

        \|m_1 - m_2\|^2 + \operatorname{tr}\left(C_1 + C_2 - 2 (C_1 C_2)^{1/2}\right)

    The trace of the root is the sum of the singular values of :math:`R_1 R_2^\top` with :math:`C_i = R_i^\top R_i`
    from a QR decomposition of the centred features: this avoids the root of a matrix, which would lose half of the
    digits for a singular covariance (fewer feature vectors than entries).

    The estimate grows as the number of features falls; compare only at equal numbers.

    Args:
        first: Features (feature, entry), two or more.
        second: Features (feature, entry), two or more.

    Returns:
        The distance, a scalar in double precision.

    Raises:
        ShapeError: When the features do not fit.
        DataError: When one is not finite.

    References:
        Dowson and Landau (1982), The Frechet distance between multivariate normal distributions; Heusel, Ramsauer,
        Unterthiner, Nessler and Hochreiter (2017), GANs trained by a two time-scale update rule converge to a local
        Nash equilibrium.

    Example:
        >>> features = torch.tensor([[0.0], [2.0]])
        >>> frechet_distance(features, features + 3.0)
        tensor(9., dtype=torch.float64)
    """
    first, second = torch.as_tensor(first).double(), torch.as_tensor(second).double()
    shapes = tuple(first.shape), tuple(second.shape)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ShapeError(f"Features must be (feature, entry), two or more, with equal entries. Got {shapes}.")
    if not bool(first.isfinite().all() and second.isfinite().all()):
        raise DataError("Features must be finite. Some are not.")
    means, roots = zip(*(_moments(features) for features in (first, second)), strict=True)
    overlap = torch.linalg.svdvals(roots[0] @ roots[1].mT).sum()
    spread = roots[0].square().sum() + roots[1].square().sum() - 2 * overlap
    return (means[0] - means[1]).square().sum() + spread.clamp(min=0)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and a root R of the covariance R^T R."""
    mean = features.mean(0)
    return mean, torch.linalg.qr((features - mean) / (len(features) - 1) ** 0.5, mode="r").R


class I3D:
    """Features of whole videos, for the Fréchet video distance, from a file with the network and its weights.

    The distance in the literature uses the 400 outputs of an inflated 3D network trained on Kinetics. The file is
    neither shipped nor downloaded. It must be a TorchScript function of videos (video, 3, time, 224, 224) from -1 to 1
    that returns features (video, entry); commonly shared copies take options, for example
    ``I3D("i3d_torchscript.pt", rescale=False, resize=False, return_features=True)``. Loading such a file runs its code:
    use only files that you trust.

    With fewer than 401 videos the covariance is singular: the distance exists, but depends strongly on their number.

    Args:
        path: The file.
        options: Keyword arguments passed to the TorchScript network.

    Raises:
        DataError: When the file cannot be read.

    References:
        Unterthiner, van Steenkiste, Kurach, Marinier, Michalski and Gelly (2018), Towards accurate generative models
        of video: a new metric and challenges; Carreira and Zisserman (2017), Quo vadis, action recognition?
    """

    def __init__(self, path: Path | str, **options: Any) -> None:
        self.path, self.options = Path(path), options
        try:
            content = self.path.read_bytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the only available format
                self.network = torch.jit.load(str(self.path), map_location="cpu").eval()
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{self.path} must be a TorchScript file of a video network: {error}.") from error
        self.name = f"{self.path.name}, sha256 {hashlib.sha256(content).hexdigest()[:16]}"

    def __call__(self, videos: Tensor) -> Tensor:
        """Features (video, entry) of videos (video, time, channel, height, width) in [0, 1]."""
        frames = (videos.float().clamp(0, 1) * _WHITE).floor() / _WHITE  # rounded down as when stored in 8 bits
        frames = frames.expand(-1, -1, 3, -1, -1)
        features = []
        with torch.no_grad():
            for some in frames.split(_I3D_BATCH):
                resized = F.interpolate(some.flatten(0, 1), (_I3D_SIZE, _I3D_SIZE), mode="bilinear")
                resized = resized.unflatten(0, some.shape[:2]).transpose(1, 2)
                features.append(self.network.to(some.device)(2 * resized - 1, **self.options))
        return torch.cat(features)
