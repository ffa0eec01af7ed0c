"""What methods that follow a gradient share."""

from __future__ import annotations

import functools

import torch

from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.training.schedules import Constant
from tests.training.runs import same_weights


def test_optimizers(toy, quiet):
    for optimizer in (torch.optim.SGD, functools.partial(torch.optim.AdamW, weight_decay=0.1), torch.optim.RMSprop):
        model = fit(toy.make_lines(), toy.make_data(), SVI(num_steps=2, optimizer=optimizer), trainer=quiet).model
        assert not same_weights(model, toy.make_lines())


def test_constant_is_the_default_schedule():
    assert SVI(num_steps=1).schedule == Constant()
