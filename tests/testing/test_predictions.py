"""Checks on the verbs: each broken model fails the check made for its fault, and says so."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.model import SequenceModel
from pyro_seq.testing import predictions
from tests.support import Lines
from tests.testing.broken import Broken, ForecastSeesItsEnd, assert_fails, checks_without_a_fault


class BareZeros(Lines):
    def prior_line(self, data: Sequences) -> Tensor:
        return pyro.sample("line", dist.Normal(torch.zeros(2), 1.0).to_event(1).expand([data.num_series]))


class BareTimes(Lines):
    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        return (line[..., :1] + (line[..., 1:] + drift) * data.times)[..., None]

    def model(self, data: Sequences) -> None:
        self.emit.to(torch.float64)
        super().model(data)


class OwnGenerator(Lines):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        self.calls += 1
        generator = torch.Generator().manual_seed(self.calls)
        return super().path(line, drift, data) + torch.rand((), generator=generator)


class Reseeds(Lines):
    def guide_line(self, data: Sequences) -> Tensor:
        torch.manual_seed(0)
        return super().guide_line(data)


class ReseedsEmission(Lines):
    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        torch.manual_seed(0)
        return super().path(line, drift, data)


class ShortForecast(Lines):
    def model_times(self, data: Sequences) -> Tensor:
        return super().model_times(data)[..., : data.num_steps + 1]


class CountsWhileReading(Lines):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def guide_line(self, data: Sequences) -> Tensor:
        self.calls += 1
        return super().guide_line(data)


class NoObsShape(Lines):
    def __init__(self) -> None:
        super().__init__()
        del self.obs_shape


BROKEN: Broken = [
    (BareZeros, "prior_can_be_sampled", "float"),
    (BareTimes, "dtype_follows_the_data", "float64"),
    (OwnGenerator, "seeds_decide_the_draw", "generators"),
    (Reseeds, "seeds_decide_the_draw", "torch.manual_seed"),
    (ReseedsEmission, "seeds_decide_the_draw", "'x_future'"),
    (ShortForecast, "forecasts_have_the_horizon", "data.times"),
    (ForecastSeesItsEnd, "longer_horizons_keep_the_beginning", "earlier steps only"),
    (CountsWhileReading, "no_global_state_is_touched", "state_dict of the model"),
    (NoObsShape, "errors_name_the_argument", "self.obs_shape"),
]


@pytest.mark.parametrize(("model_class", "check", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_each_broken_model_fails_its_check(model_class: type[SequenceModel], check: str, words: str) -> None:
    assert_fails(model_class, check, words)


def test_every_check_has_a_model_that_fails_it() -> None:
    assert checks_without_a_fault(predictions, BROKEN) == {"imputation_keeps_the_seen", "device_follows_the_data"}
