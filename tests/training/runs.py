"""A short run, ways to act on it between steps, and how to compare what came out."""

from __future__ import annotations

import errno
import os
import signal

import lightning.pytorch as lightning
import torch

from pyro_seq.infer.svi import SVI
from pyro_seq.training.views import RandomSteps
from tests import toy

METHOD = SVI(num_steps=20, batch_size=3, learning_rate=0.01, average=0.9, views=(RandomSteps(count=7, keep=5),))


class At(lightning.Callback):
    """Call `action` after the given step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_train_batch_end(self, trainer, engine, *_):
        if engine.steps_done == self.step:
            self.action(engine)


def make_normalised():
    """`toy.Lines` with an encoder that keeps running statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = toy.Lines()
        model.encoder = torch.nn.Sequential(torch.nn.BatchNorm1d(2 * toy.SEEN), model.encoder)
    return model


def with_infinite(bad_step, value=float("inf")):
    """A view that puts `value` into one entry at one step."""

    def view(data, step, generator):
        if step != bad_step:
            return data
        values = data.values.clone()
        values[0, 0, 0] = value
        return data._with(values=values)

    view.is_anchored = True
    return view


def ctrl_c(engine=None):
    signal.raise_signal(signal.SIGINT)


def same_weights(first, second) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def full_disk(monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
