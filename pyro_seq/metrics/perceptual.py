"""Perceptual distance of images, with features of a network supplied by the caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_seq.errors import ShapeError
from pyro_seq.metrics._scoring import Axes, as_image_mask, as_images, average

Features = Callable[[Tensor], Sequence[Tensor]]

_MAX_IMAGES = 256  # whose features are in memory at once
_TINY = 1e-10  # added to the length of a feature, as in the authors' code


def lpips(
    prediction: Any,
    truth: Any,
    features: Features,
    *,
    weights: Sequence[Tensor] | None = None,
    data_range: float | None = None,
    mask: Any | None = None,
    keep: Axes = (),
) -> Tensor:
    r"""Learned perceptual image patch similarity; smaller is better.

    .. math::

        d(x, y) = \sum_l \frac{1}{H_l W_l} \sum_{h, w} \sum_c w_{lc} \left(
        \frac{f_{lchw}(x)}{\|f_{l \cdot hw}(x)\|} - \frac{f_{lchw}(y)}{\|f_{l \cdot hw}(y)\|} \right)^2

    with the maps :math:`f_l` of some layers of a network for images. The published figures use the five rectified
    convolutions of AlexNet and weights that the authors fitted, version 0.1. Neither is shipped or downloaded: the
    result depends on the network passed in, so report its name and version with the numbers.

    Args:
        prediction: Images (\*batch, channel, height, width), usually with batch axes (series, time), and sample axes
            in front.
        truth: Images (\*batch, channel, height, width), with 1 channel, which is repeated, or 3.
        features: The network: images (image, 3, height, width) from -1 to 1 to a list of maps (image, channel, height,
            width). It must itself normalise images to the statistics of its training images.
        weights: For each map, one factor per channel, (channel,); 1 by default.
        data_range: Largest value (the smallest is 0); by default 255 for 8-bit numbers and 1 for floats.
        mask: True where scored, over whole images.
        keep: Axes of `truth` that are not averaged, up to the last batch axis.

    Returns:
        The distance, 0 for identical images.

    Raises:
        ShapeError: When shapes differ or are not images.
        DataError: When `truth` contradicts `data_range`.
        UnsupportedError: When `mask` hides parts of images.

    References:
        Zhang, Isola, Efros, Shechtman and Wang (2018), The unreasonable effectiveness of deep features as a
        perceptual metric.
    """
    prediction, truth, white = as_images(prediction, truth, data_range, mask)
    if truth.ndim < 4 or truth.shape[-3] not in (1, 3):
        raise ShapeError(f"Images must be (*batch, channel 1 or 3, height, width). Got {tuple(truth.shape)}.")
    image_mask = as_image_mask(mask, truth).all(-1)
    batch, image = truth.shape[:-3], truth.shape[-3:]
    samples = prediction.shape[: prediction.ndim - truth.ndim]
    predicted, true = prediction.reshape(-1, batch.numel(), *image), truth.reshape(-1, *image)
    count = max(1, _MAX_IMAGES // len(predicted))

    def maps(images: Tensor) -> list[Tensor]:
        images = images.expand(-1, 3, -1, -1) * (2.0 / white) - 1.0
        return [each / (each.norm(dim=1, keepdim=True) + _TINY) for each in features(images)]

    distances = []
    for some, their in zip(predicted.split(count, 1), true.split(count), strict=True):
        total = some.new_zeros(some.shape[:2])
        for layer, (first, second) in enumerate(zip(maps(some.flatten(0, 1)), maps(their), strict=True)):
            gap = (first.unflatten(0, some.shape[:2]) - second).square().mean((-2, -1))
            total = total + (gap if weights is None else gap * weights[layer].to(gap)).sum(-1)
        distances.append(total)
    return average(torch.cat(distances, 1).reshape(*samples, *batch), image_mask, keep)
