"""Batch normalisation and leaky rectifier of images in one pass, for channels-last images."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_CACHED = 2**16  # entries processed at a time: the second-level cache holds several such chunks in single precision


def is_better_in_one_pass(norm: nn.Module, images: Tensor) -> TypeGuard[nn.BatchNorm2d]:
    """True if :func:`normalise_rectify` can replace `norm`, in training on a CPU, and is more precise.

    In half precision there is nothing to gain, and torch is faster.
    """
    is_plain = type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats and norm.momentum is not None
    return is_plain and norm.training and images.device.type == "cpu" and torch.finfo(images.dtype).bits >= 32


def normalise_rectify(images: Tensor, norm: nn.BatchNorm2d, slope: float) -> Tensor:
    """Leaky rectifier of ``norm(images)``, (frame, channel, height, width); also updates the running averages."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    pixels = images.permute(0, 2, 3, 1).to(norm.weight.dtype)
    arguments = pixels.flatten(0, 2), norm.weight, norm.bias, norm.eps, slope
    result, mean, variance = _NormaliseRectify.apply(*arguments)
    count = pixels.shape[:-1].numel()
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / max(count - 1, 1)), norm.momentum)
        norm.num_batches_tracked.add_(1)
    return result.view(pixels.shape).permute(0, 3, 1, 2).to(images.dtype)


class _NormaliseRectify(torch.autograd.Function):
    r"""leaky(w (x - m) / s + b) of pixels (pixel, channel) with their mean m and deviation s; also m and s^2."""

    @staticmethod
    def forward(
        ctx: Any, pixels: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        chunks = pixels.split(max(1, _CACHED // pixels.shape[1]))
        mean = torch.stack([chunk.sum(0) for chunk in chunks]).sum(0) / len(pixels)
        variance = torch.stack([(chunk - mean).square_().sum(0) for chunk in chunks]).sum(0) / len(pixels)
        precision = (variance + eps).rsqrt()
        factor = weight * precision
        shift = bias - mean * factor
        result = torch.empty_like(pixels, memory_format=torch.contiguous_format)
        for chunk, part in zip(chunks, result.split(len(chunks[0])), strict=True):
            functional.leaky_relu_(torch.addcmul(shift, chunk, factor, out=part), slope)
        ctx.slope = slope
        ctx.save_for_backward(pixels, result, mean, precision, factor)
        ctx.mark_non_differentiable(mean, variance)
        return result, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None, None]:
        pixels, result, mean, precision, factor = ctx.saved_tensors
        size = max(1, _CACHED // pixels.shape[1])
        slopes = torch.empty_like(result)
        parts = list(zip(*(tensor.split(size) for tensor in (pixels, result, gradient, slopes)), strict=True))
        sums, products = [], []
        for chunk, outcome, incoming, slope in parts:
            torch.ops.aten.leaky_relu_backward.grad_input(incoming, outcome, ctx.slope, True, grad_input=slope)
            sums.append(slope.sum(0))
            products.append((chunk - mean).mul_(slope).sum(0))
        bias_gradient = torch.stack(sums).sum(0)
        weight_gradient = torch.stack(products).sum(0) * precision
        # the mean and the deviation also depend on the pixels
        linear = -factor * precision * weight_gradient / len(pixels)
        constant = -factor * bias_gradient / len(pixels) - linear * mean
        for chunk, _outcome, _incoming, slope in parts:
            torch.addcmul(torch.addcmul(constant, chunk, linear), slope, factor, out=slope)
        return slopes, weight_gradient, bias_gradient, None, None
