"""Shared by all metrics: reading of arguments and averaging of scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_seq._arguments import require_channel_first
from pyro_seq.errors import DataError, ShapeError, UnsupportedError

_SLACK = 1e-6  # rounding error of scaled numbers

Axes = int | tuple[int, ...]


def as_pair(prediction: Any, truth: Any, *, names: tuple[str, str] = ("prediction", "truth")) -> tuple[Tensor, Tensor]:
    """Both arrays as floating tensors of one type; the prediction must end with the axes of the truth."""
    try:
        prediction, truth = torch.as_tensor(prediction), torch.as_tensor(truth)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"`{names[0]}` and `{names[1]}` must be arrays of numbers. Got {type(prediction).__name__} and "
            f"{type(truth).__name__} ({error}). Of a data set pass `data.values`, and `mask=data.mask`."
        ) from error
    if prediction.shape[max(prediction.ndim - truth.ndim, 0) :] != truth.shape:
        raise ShapeError(
            f"`{names[0]}` must have the axes of `{names[1]}`, with sample axes in front if any. Got "
            f"{tuple(prediction.shape)} and {tuple(truth.shape)}. Cut or reshape one of them: nothing is broadcast, "
            "because a broadcast score is silently wrong."
        )
    dtype = torch.promote_types(prediction.dtype, truth.dtype)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    return prediction.to(dtype), truth.to(dtype)


def as_images(prediction: Any, truth: Any, data_range: float | None, mask: Any | None) -> tuple[Tensor, Tensor, float]:
    r"""Like `as_pair`, for images (\*batch, channel, height, width); also returns the distance from black to white.

    By default, that is 255 for 8-bit numbers and 1 for floats; a range that contradicts `truth` is refused.
    """
    given = prediction, truth
    prediction, truth = as_pair(prediction, truth)
    dtypes = [torch.as_tensor(images).dtype for images in given]
    if truth.ndim < 3:
        raise ShapeError(
            f"Images must have the axes (*batch, channel, height, width). Got {tuple(truth.shape)}. "
            "Reshape flattened images first."
        )
    require_channel_first(truth.shape, "truth")
    if data_range is not None and not data_range > 0:
        raise DataError(f"`data_range` must be positive. Got {data_range}.")
    scored = truth if mask is None else truth[as_mask(mask, truth)]
    low, high = (float(end) for end in scored.aminmax()) if scored.numel() else (0.0, 0.0)
    if data_range is None:
        is_known = dtypes == [torch.uint8] * 2 or all(d.is_floating_point or d == torch.bool for d in dtypes)
        white = 255.0 if dtypes[1] == torch.uint8 else 1.0
        if not is_known or low < -_SLACK or high > white + _SLACK:
            raise DataError(
                "`prediction` and `truth` must both be 8-bit numbers, or floats with `truth` from 0 to 1. Got "
                f"{dtypes[0]} and {dtypes[1]} with `truth` from {low:g} to {high:g}. Rescale one, or pass the distance "
                "from black to white, such as `data_range=255`."
            )
        return prediction, truth, white
    if high - low > data_range * (1 + _SLACK):
        raise DataError(
            f"`data_range` must be the distance from the smallest to the largest possible value. Got {data_range:g} "
            f"for `truth` from {low:g} to {high:g}. Pass that of black and white."
        )
    return prediction, truth, float(data_range)


def as_samples(samples: Any, truth: Any) -> tuple[Tensor, Tensor]:
    """Like `as_pair`, for exactly one leading sample axis with at least one sample."""
    samples, truth = as_pair(samples, truth, names=("samples", "truth"))
    if samples.ndim != truth.ndim + 1 or samples.shape[0] == 0:
        raise ShapeError(
            f"`samples` must have one sample axis in front of the axes of `truth`. Got {tuple(samples.shape)} and "
            f"{tuple(truth.shape)}. For a single prediction pass `prediction[None]`."
        )
    return samples, truth


def as_mask(mask: Any | None, truth: Tensor) -> Tensor:
    """The mask over every entry of `truth`; a mask over its leading axes counts for whole entries."""
    if mask is None:
        return torch.ones_like(truth, dtype=torch.bool)
    mask = torch.as_tensor(mask, device=truth.device)
    if mask.dtype != torch.bool or mask.shape != truth.shape[: mask.ndim]:
        raise ShapeError(
            f"`mask` must be boolean, over the leading axes of `truth` {tuple(truth.shape)}. "
            f"Got {mask.dtype} {tuple(mask.shape)}. Pass `data.mask`, True where an entry is scored."
        )
    return mask.reshape(mask.shape + (1,) * (truth.ndim - mask.ndim)).expand_as(truth)


def as_image_mask(mask: Any | None, truth: Tensor) -> Tensor:
    r"""The mask over whole images (\*batch, channel), for scores that need every pixel."""
    mask = as_mask(mask, truth).flatten(-2)
    if bool((mask.any(-1) != mask.all(-1)).any()):
        raise UnsupportedError(
            "This score is defined for whole images only, but `mask` hides single pixels of some. "
            "Pass a mask over whole images (series, time)."
        )
    return mask.any(-1)


def average(score: Tensor, mask: Tensor, keep: Axes) -> Tensor:
    """Mean of `score` over the axes of `mask` that are not kept, counting entries where `mask` is True."""
    keep = (keep,) if isinstance(keep, int) else tuple(keep)
    if len(set(keep)) != len(keep) or not all(0 <= axis < mask.ndim for axis in keep):
        raise ShapeError(
            f"`keep` must name different axes of `truth` that this score leaves, 0 to {mask.ndim - 1}. Got {keep}. "
            "Use `keep=0` for one number a series, `keep=()` for one number."
        )
    extra = score.ndim - mask.ndim
    total = torch.where(mask, score, score.new_zeros(()))
    count = mask.to(score.dtype)
    for axis in sorted(set(range(mask.ndim)) - set(keep), reverse=True):
        total, count = total.sum(axis + extra), count.sum(axis)
    return total / count
