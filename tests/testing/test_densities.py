"""Checks on densities and objectives: each broken model fails the check made for its fault, and says so."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.model import SequenceModel
from pyro_seq.testing import densities
from tests.support import Lines, RandomWalk, Walks
from tests.testing.broken import Broken, ForecastSeesItsEnd, ForgetsTotal, assert_fails, checks_without_a_fault


class PaddingCounts(Lines):
    """The mean over all steps takes the zeros of hidden steps for observations."""

    def guide_line(self, data: Sequences) -> Tensor:
        loc, log_scale = self.encoder(data.values.mean(1).repeat(1, 5)).chunk(2, -1)
        return pyro.sample("line", dist.Normal(loc, log_scale.exp()).to_event(1))


class NoValid(Walks):
    """The path does not know which steps exist, and the guide's padded steps are no longer the prior's."""

    def valid(self, data: Sequences) -> None:
        return None


class UnmaskedLikelihood(Lines):
    def model(self, data: Sequences) -> None:
        self.bind()
        drift = self.prior_drift(data)
        with self.series(data):
            path = self.path(self.prior_line(data), drift, data)
            seen = dist.Normal(self.emit(path[..., : data.num_steps, :]), 1.0).to_event(2)
            pyro.sample("x", seen, obs=data.values)
            if data.horizon:
                pyro.sample("x_future", dist.Normal(self.emit(path[..., data.num_steps :, :]), 1.0).to_event(2))


class MasksStepsOnly(Lines):
    """Counts the zeros at single hidden entries of a step that was seen in part."""

    def observe(self, emission: Callable, path: Tensor, data: Sequences) -> None:
        seen = emission(path[..., : data.num_steps, :]).to_event(1).mask(data.step_mask)
        pyro.sample("x", seen.to_event(1), obs=data.values)


class DividesByTheCount(Lines):
    """The mean over observed steps of a series without any is 0 / 0."""

    def guide_line(self, data: Sequences) -> Tensor:
        mean = data.values.sum(1) / data.step_mask.sum(-1, keepdim=True)
        loc, log_scale = self.encoder(mean.repeat(1, 5)).chunk(2, -1)
        return pyro.sample("line", dist.Normal(loc, log_scale.exp()).to_event(1))


class BatchCentred(Lines):
    def guide_line(self, data: Sequences) -> Tensor:
        values = data.values[:, :5] - data.values[:, :5].mean(0)
        loc, log_scale = self.encoder(values.flatten(1)).chunk(2, -1)
        return pyro.sample("line", dist.Normal(loc, log_scale.exp()).to_event(1))


class ScaledRegulariser(Lines):
    def regulariser(self, data: Sequences, model_trace: object, guide_trace: object) -> dict[str, Tensor]:
        return {"size": self.emit.weight.square().sum() * data.values.new_ones(data.num_series) * data.weight}


class FirstDrawForAll(Lines):
    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        return super().path(line, drift.reshape(-1)[0], data)


class SharedGridOnly(Lines):
    """Takes the spacing of the first rows of `times`, which are steps only when the times are shared."""

    def model_times(self, data: Sequences) -> Tensor:
        times = super().model_times(data)
        return times * (times[1] - times[0]).mean()


class BadFuture(RandomWalk):
    """Starts the future from zero, not from the last state."""

    def future(self, value: Tensor, horizon: int) -> RandomWalk:
        return RandomWalk(value.new_zeros((*value.shape[:-2], horizon, value.shape[-1])), self.scale)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> RandomWalk:
        return BadFuture(self.drift.expand((*batch_shape, *self.event_shape)), self.scale, self.valid)


class WalkStartsAnew(Walks):
    def prior(self, data: Sequences) -> RandomWalk:
        return BadFuture(data.values.new_zeros((*data.values.shape[:2], 1)), self.log_scale.exp(), self.valid(data))


class WideDraws(RandomWalk):
    """Draws twice as wide as its density says."""

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return 2.0 * super().rsample(sample_shape)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> RandomWalk:
        return WideDraws(self.drift.expand((*batch_shape, *self.event_shape)), self.scale, self.valid)


class SamplerOfAnotherLaw(Walks):
    def prior(self, data: Sequences) -> RandomWalk:
        return WideDraws(data.values.new_zeros((*data.values.shape[:2], 1)), self.log_scale.exp(), self.valid(data))


BROKEN: Broken = [
    (PaddingCounts, "hiding_equals_cutting", "padding"),
    (NoValid, "hiding_equals_cutting", "`valid`"),
    (UnmaskedLikelihood, "hidden_steps_are_ignored", "self.observe"),
    (MasksStepsOnly, "hidden_entries_are_ignored", "self.observe"),
    (DividesByTheCount, "unseen_series_is_finite", ""),
    (BatchCentred, "series_are_independent", "'line'"),
    (BatchCentred, "minibatches_partition", "'line'"),
    (ForgetsTotal, "minibatches_partition", "self.series(data)"),
    (ScaledRegulariser, "minibatches_partition", "'size'"),
    (FirstDrawForAll, "draws_vectorise", "squeeze"),
    (ForecastSeesItsEnd, "hiding_equals_cutting", "'x'"),
    (SharedGridOnly, "shared_times_equal_repeated", "model_times"),
    (WalkStartsAnew, "horizon_continues_the_series", "`future`"),
    (SamplerOfAnotherLaw, "density_matches_sampler", "another"),
]


@pytest.mark.parametrize(("model_class", "check", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_each_broken_model_fails_its_check(model_class: type[SequenceModel], check: str, words: str) -> None:
    assert_fails(model_class, check, words)


def test_every_check_has_a_model_that_fails_it() -> None:
    assert checks_without_a_fault(densities, BROKEN) == set()
