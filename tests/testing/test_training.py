"""Checks on training: each broken model fails the check made for its fault, and says so."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.model import SequenceModel
from pyro_seq.testing import training
from tests.support import Lines
from tests.testing.broken import Broken, assert_fails, checks_without_a_fault


class NoBind(Lines):
    def bind(self) -> None:
        pass


class UnusedParameter(Lines):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)


class RunningMean(Lines):
    """Keeps a number between calls that its `state_dict` does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.level = 0.0

    def guide_line(self, data: Sequences) -> Tensor:
        if self.training:
            self.level = 0.9 * self.level + 0.1 * float(data.values[:, 0].max())
        loc, log_scale = self.encoder(data.values[:, :5].flatten(1)).chunk(2, -1)
        return pyro.sample("line", dist.Normal(loc + self.level, log_scale.exp()).to_event(1))


class LooseTensor(Lines):
    def __init__(self) -> None:
        super().__init__()
        self.noise_scale = torch.tensor(1.0)


class ReversedEmission(Lines):
    """The right value with the gradient of its negative."""

    def observe(self, emission: Callable, path: Tensor, data: Sequences) -> None:
        def reversed_emission(state: Tensor) -> dist.Normal:
            mean = emission(state).mean
            return dist.Normal(2.0 * mean.detach() - mean, 1.0)

        super().observe(reversed_emission, path, data)


class OneDrawAtATime(Lines):
    def prior_drift(self, data: Sequences) -> Tensor:
        return super().prior_drift(data).view(1)


class FollowsTheFirstDraw(Lines):
    """Lets all draws follow the drift of the first."""

    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        return super().path(line, drift.reshape(-1, 1)[0], data)


BROKEN: Broken = [
    (OneDrawAtATime, "plain_pyro_predicts", "invalid"),
    (FollowsTheFirstDraw, "plain_pyro_predicts", "among others"),
    (NoBind, "plain_pyro_trains", "self.bind()"),
    (UnusedParameter, "parameters_get_gradients", "spare.weight"),
    (UnusedParameter, "training_lowers_the_objective", "spare.weight"),
    (RunningMean, "state_dict_is_complete", "parameters and buffers"),
    (LooseTensor, "state_dict_is_complete", "noise_scale"),
    (ReversedEmission, "training_lowers_the_objective", "sign"),
]


@pytest.mark.parametrize(("model_class", "check", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_each_broken_model_fails_its_check(model_class: type[SequenceModel], check: str, words: str) -> None:
    assert_fails(model_class, check, words)


def test_every_check_has_a_model_that_fails_it() -> None:
    assert checks_without_a_fault(training, BROKEN) == set()
