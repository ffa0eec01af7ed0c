"""Recurrent networks give the same values and gradients in both modes, on a GPU as on a CPU."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pyro_seq.nn.fused import run_recurrent

SHAPE = 3, 7, 2  # series, steps, entries


def network(kind: type[nn.RNNBase], device: str = "cpu") -> nn.RNNBase:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(SHAPE[-1], 4, batch_first=True).to(device)


def steps(device: str = "cpu") -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).to(device)


def gradients(recurrent: nn.RNNBase, read: Tensor) -> list[Tensor]:
    read = read.detach().requires_grad_()
    features, _ = run_recurrent(recurrent, read)
    return [part.cpu() for part in torch.autograd.grad(features.square().sum(), [read, *recurrent.parameters()])]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_modes_agree_and_come_back(kind):
    training, evaluating = network(kind), network(kind).eval()
    for got, expected in zip(gradients(evaluating, steps()), gradients(training, steps()), strict=True):
        assert torch.equal(got, expected)
    assert training.training and not evaluating.training
    with pytest.raises(RuntimeError):
        run_recurrent(evaluating, steps()[..., :1])
    assert not evaluating.training


@pytest.mark.parametrize("with_gradient", [True, False])
def test_a_call_is_one_of_training_where_gradients_are_on(with_gradient):
    modes: list[bool] = []
    recurrent = network(nn.GRU).eval()
    recurrent.register_forward_pre_hook(lambda module, given: modes.append(module.training))
    with torch.set_grad_enabled(with_gradient):
        run_recurrent(recurrent, steps())
    assert modes == [with_gradient]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_gradients_in_evaluation_mode_on_a_gpu_are_those_of_the_cpu(kind, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    on_host = network(kind).eval()
    on_device = copy.deepcopy(on_host).cuda()
    for got, expected in zip(gradients(on_device, steps("cuda")), gradients(on_host, steps()), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
