r"""Scores of one prediction against the truth: squared error, PSNR, SSIM.

All metrics share three conventions. Arrays have the axes (series, time, \*obs). `mask` is True where an entry is
scored and covers the leading axes of the truth, so that `data.mask` can be passed unchanged. The result is the mean
over all scored entries; `keep` names the axes of the truth that are not averaged: `keep=0` gives one number per series,
`keep=1` one per time step, `keep=(0, 1)` one per frame. Where nothing is scored the result is NaN.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.metrics._scoring import Axes, as_image_mask, as_images, as_mask, as_pair, average

_SSIM_STABILISERS = (0.01, 0.03)  # K1 and K2 of Wang et al. (2004)


def mse(prediction: Any, truth: Any, *, mask: Any | None = None, keep: Axes = ()) -> Tensor:
    r"""Mean squared error.

    Args:
        prediction: (series, time, \*obs). Axes in front of these, as for samples, are kept.
        truth: (series, time, \*obs).
        mask: True where scored, over leading axes of `truth`.
        keep: Axes of `truth` that are not averaged.

    Returns:
        The error, a scalar unless axes are kept.

    Raises:
        ShapeError: When shapes differ.

    Example:
        >>> prediction, truth = torch.zeros(2, 3, 1), torch.tensor([[[1.0]] * 3, [[2.0]] * 3])
        >>> mse(prediction, truth), mse(prediction, truth, keep=0)
        (tensor(2.5000), tensor([1., 4.]))
    """
    prediction, truth = as_pair(prediction, truth)
    return average((prediction - truth).square(), as_mask(mask, truth), keep)


def mae(prediction: Any, truth: Any, *, mask: Any | None = None, keep: Axes = ()) -> Tensor:
    r"""Mean absolute error; the median of a prediction minimises it.

    Args:
        prediction: (series, time, \*obs). Axes in front of these, as for samples, are kept.
        truth: (series, time, \*obs).
        mask: True where scored, over leading axes of `truth`.
        keep: Axes of `truth` that are not averaged.

    Returns:
        The error, a scalar unless axes are kept.

    Raises:
        ShapeError: When shapes differ.
    """
    prediction, truth = as_pair(prediction, truth)
    return average((prediction - truth).abs(), as_mask(mask, truth), keep)


def psnr(
    prediction: Any,
    truth: Any,
    *,
    data_range: float | None = None,
    mask: Any | None = None,
    keep: Axes = (),
    cap: float = 100.0,
) -> Tensor:
    r"""Peak signal-to-noise ratio in decibels, averaged over images and channels.

    .. math::

        \mathrm{PSNR} = 10 \log_{10} \frac{R^2}{\mathrm{MSE}}

    for every channel of every frame, then averaged (a mean of decibels, not decibels of a mean error). Hidden pixels
    are left out of an image's error. Identical images have an infinite ratio, so the ratio of each image is capped at
    `cap`.

    Args:
        prediction: Images (\*batch, channel, height, width), usually with batch axes (series, time).
        truth: Images of the same shape.
        data_range: Distance R between the smallest and the largest possible value; by default 255 for 8-bit numbers
            and 1 for floats, whose truth must then lie between 0 and 1.
        mask: True where scored, over leading axes of `truth`.
        keep: Axes of `truth` that are not averaged, up to and including the channel.
        cap: Largest value given to one image, in decibels.

    Returns:
        The ratio; larger is better.

    Raises:
        ShapeError: When shapes differ or are not images.
        DataError: When `data_range` is not positive, or `truth` contradicts it.
    """
    prediction, truth, data_range = as_images(prediction, truth, data_range, mask)
    pixels = as_mask(mask, truth)
    squared = torch.where(pixels, (prediction - truth).square(), truth.new_zeros(()))
    count = pixels.sum((-2, -1))
    error = squared.sum((-2, -1)) / count.clamp(min=1)
    ratio = 10.0 * torch.log10(data_range**2 / error.clamp(min=data_range**2 * 10.0 ** (-cap / 10.0)))
    return average(ratio, count > 0, keep)


def ssim(
    prediction: Any,
    truth: Any,
    *,
    data_range: float | None = None,
    window: int = 11,
    sigma: float = 1.5,
    mask: Any | None = None,
    keep: Axes = (),
) -> Tensor:
    r"""Structural similarity of images, averaged over windows, channels and frames.

    .. math::

        \mathrm{SSIM}(x, y) = \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
        {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}, \qquad C_i = (K_i R)^2

    with moments under a Gaussian window and K = (0.01, 0.03). Only windows that lie entirely inside the image are used:
    there is no padding, so an image gives (height - window + 1) x (width - window + 1) values.

    Args:
        prediction: Images (\*batch, channel, height, width), usually with batch axes (series, time).
        truth: Images of the same shape.
        data_range: Distance R between the smallest and the largest possible value; by default 255 for 8-bit numbers
            and 1 for floats, whose truth must then lie between 0 and 1.
        window: Odd width of the window in pixels, at most the image's height and width.
        sigma: Standard deviation of the window in pixels.
        mask: True where scored, over whole images.
        keep: Axes of `truth` that are not averaged, up to and including the channel.

    Returns:
        The similarity, 1 for identical images.

    Raises:
        ShapeError: When shapes differ, are not images, or are smaller than the window.
        DataError: When `data_range` or `sigma` is not positive, or `truth` contradicts `data_range`.
        UnsupportedError: When `mask` hides single pixels.

    References:
        Wang, Bovik, Sheikh and Simoncelli (2004), Image quality assessment: from error visibility to structural
        similarity.
    """
    prediction, truth, data_range = as_images(prediction, truth, data_range, mask)
    height, width = truth.shape[-2:]
    if window < 1 or window % 2 == 0 or window > min(height, width):
        raise ShapeError(
            f"`window` must be odd and fit into the image. Got {window} for images of {height} x {width} pixels. "
            f"Pass a smaller one, for example `window={(min(height, width) - 1) // 2 * 2 + 1}`, and report it."
        )
    if not sigma > 0:
        raise DataError(f"`sigma` must be positive. Got {sigma}.")
    image_mask = as_image_mask(mask, truth)
    taps = torch.arange(window, dtype=truth.dtype, device=truth.device) - window // 2
    taps = torch.softmax(-0.5 * (taps / sigma).square(), 0)
    mean_x, mean_y = _blur(prediction, taps), _blur(truth, taps)
    var_x = _blur(prediction.square(), taps) - mean_x.square()
    var_y = _blur(truth.square(), taps) - mean_y.square()
    cov = _blur(prediction * truth, taps) - mean_x * mean_y
    c1, c2 = ((factor * data_range) ** 2 for factor in _SSIM_STABILISERS)
    similarity = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    similarity = similarity / ((mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2))
    return average(similarity.mean((-2, -1)), image_mask, keep)


def _blur(images: Tensor, taps: Tensor) -> Tensor:
    """Weighted means over all windows inside the image.

    Uses two products with banded matrices: a convolution of one channel is ten times slower, at least up to 256 pixels.
    """
    rows, columns = (_band(taps, size) for size in images.shape[-2:])
    return rows @ images @ columns.mT


def _band(taps: Tensor, size: int) -> Tensor:
    """The matrix (size - len(taps) + 1, size) that slides `taps` along an axis."""
    count = size - len(taps) + 1
    band = taps.new_zeros(count, size)
    for shift, tap in enumerate(taps):
        band.diagonal(shift)[:count] = tap
    return band
