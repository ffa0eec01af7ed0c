"""The baseline and the library compute the same numbers; no timing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks import _ode2vae_baseline as plain
from benchmarks._channels_last import channels_last
from benchmarks._measure import gap, require_equal
from benchmarks.ode2vae import DOUBLE, SINGLE, TrainingTask, latent_task


@pytest.mark.parametrize("num_draws", [1, 3])
def test_latent_parts_agree_in_value_and_gradient(num_draws):
    exact = latent_task(num_draws, 6, 3, num_series=4, dtype=torch.float64)
    assert gap(exact.library(), exact.baseline(plain.classical)) < DOUBLE
    single = latent_task(num_draws, 6, 3, num_series=4, dtype=torch.float32)
    assert gap(single.library(), single.baseline()) < SINGLE


def test_draws_of_the_baseline_differ():
    path, density, *_ = latent_task(2, 6, 3, num_series=4, dtype=torch.float64).baseline()
    assert (path[0] - path[1]).norm() > 1e-3 and (density[0] - density[1]).norm() > 1e-3


@pytest.mark.parametrize("is_channels_last", [False, True])
def test_training_steps_agree_in_loss_and_gradient(is_channels_last):
    task = TrainingTask(3, 4, dtype=torch.float64, is_channels_last=is_channels_last)
    assert gap(*task.both(plain.classical)) < DOUBLE
    for library, baseline in zip(task.parameters, task.plain_parameters, strict=True):
        assert library.shape == baseline.shape and library.grad is not None


def test_normalise_rectify_is_the_two_layers():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 8, 6, 7, generator=generator, dtype=torch.float64) * 2 + 3
    layers = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()).double()
    with torch.no_grad():
        layers[0].weight.copy_(torch.randn(8, generator=generator))
        layers[0].bias.copy_(torch.randn(8, generator=generator))
    fused = channels_last(layers)
    results = []
    for network in (fused, layers):
        leaf = images.clone().requires_grad_()
        network(leaf).square().sum().backward()
        norm = getattr(network[0], "norm", network[0])
        seen = [leaf.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
        results.append([*seen, network(images), network.eval()(images)])
    assert gap(*results) < 1e-12
    assert fused[0].norm.num_batches_tracked == layers[0].num_batches_tracked


def test_unequal_values_stop_the_benchmark():
    ones = [torch.ones(3)]
    assert require_equal("same", ones, ones, 1e-12) == 0
    with pytest.raises(SystemExit, match="differ"):
        require_equal("other", ones, [torch.full((3,), 1.1)], 1e-5)
    with pytest.raises(SystemExit, match="differ"):
        require_equal("not a number", ones, [torch.full((3,), torch.nan)], 1e-5)
