"""Figures and buffers of several devices; `infer/test_devices.py` has a run on two."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from pyro_seq.training.devices import mean_over_devices, share_buffers, warn_of_other_number


def test_figures_are_means_weighted_by_shares(monkeypatch):
    """A batch of 5 on two devices: 3 series with loss 2, and 2 with loss 7; the first skipped the term of the other."""

    def gather(rows, mine):
        rows[:] = [mine, (0.8, {"loss": 7.0, "kl": 5.0})]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    means = mean_over_devices({"loss": 2.0}, 1.2, 2)
    assert means == {"loss": pytest.approx((3 * 2 + 2 * 7) / 5), "kl": pytest.approx(5.0)}
    assert mean_over_devices({"loss": 2.0}, 0.3, 1) == {"loss": 2.0}


def test_buffers_come_from_the_first_device(monkeypatch):
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, source: tensor.fill_(7))
    part = nn.BatchNorm1d(2)
    share_buffers(part, 1)
    assert part.running_var.tolist() == [1.0, 1.0]
    share_buffers(part, 2)
    assert part.running_var.tolist() == [7.0, 7.0] and int(part.num_batches_tracked) == 7
    assert part.weight.tolist() == [1.0, 1.0]


def test_another_number_of_devices_is_said():
    with pytest.warns(UserWarning, match=r"began on 2 device\(s\) and goes on with 1"):
        warn_of_other_number(2, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_number(None, 1)
        warn_of_other_number(2, 2)
