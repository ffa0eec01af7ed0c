"""Checks on sites, plates and parameters: each broken model fails the check made for its fault, and says so."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.model import SequenceModel
from pyro_seq.testing import structure
from tests.support import Lines
from tests.testing.broken import Broken, ForgetsTotal, assert_fails, checks_without_a_fault


class ExtraPlate(Lines):
    def prior_line(self, data: Sequences) -> Tensor:
        with pyro.plate("coefficients", 1, dim=-2):
            return pyro.sample("line", dist.Normal(data.values.new_zeros(2), 1.0).to_event(1))

    def guide_line(self, data: Sequences) -> Tensor:
        with pyro.plate("coefficients", 1, dim=-2):
            return super().guide_line(data)


class ScaledInside(Lines):
    def prior_line(self, data: Sequences) -> Tensor:
        with pyro.poutine.scale(scale=0.5):
            return super().prior_line(data)


class HiddenNoise(Lines):
    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        return super().path(line, drift, data) + 0.1 * torch.randn(())


class GuideLacksSite(Lines):
    def guide_drift(self) -> Tensor:
        return self.drift_loc


class GlobalInPlate(Lines):
    """Weights that the model draws inside the plate become one set for each series."""

    def model(self, data: Sequences) -> None:
        self.bind()
        with self.series(data):
            drift, line = self.prior_drift(data), self.prior_line(data)
            self.observe(lambda state: dist.Normal(self.emit(state), 1.0), self.path(line, drift, data), data)


class NotObserved(Lines):
    def observe(self, emission: Callable, path: Tensor, data: Sequences) -> None:
        pyro.sample("x", emission(path).to_event(2))


class OtherName(Lines):
    def observe(self, emission: Callable, path: Tensor, data: Sequences) -> None:
        pyro.sample("y", emission(path[..., : data.num_steps, :]).to_event(2), obs=data.values)


class GuideReadsHorizon(Lines):
    def guide(self, data: Sequences) -> None:
        self.bind()
        self.guide_drift()
        with self.series(data):
            loc, log_scale = (self.encoder(data.values[:, :5].flatten(1)) + self.model_times(data)[-1]).chunk(2, -1)
            pyro.sample("line", dist.Normal(loc, log_scale.exp().clamp(max=1.0)).to_event(1))


class WrongDims(Lines):
    dims = {"line": ("series", "coefficient"), "drift": ("drift",)}  # noqa: RUF012


class MissingDims(Lines):
    dims = {"line": ("coefficient",)}  # noqa: RUF012


BROKEN: Broken = [
    (ExtraPlate, "series_is_the_only_plate", "'coefficients'"),
    (ForgetsTotal, "terms_are_unweighted", "self.series(data)"),
    (ScaledInside, "terms_are_unweighted", "'line'"),
    (HiddenNoise, "randomness_lives_in_sites", "sample sites only"),
    (GuideLacksSite, "sites_match", "['drift']"),
    (GlobalInPlate, "sites_match", "'drift'"),
    (NotObserved, "x_is_observed", "obs=data.values"),
    (OtherName, "x_is_observed", "no site 'x'"),
    (GuideReadsHorizon, "guide_ignores_the_horizon", "data.seen()"),
    (WrongDims, "dims_name_every_latent", "'line'"),
    (MissingDims, "dims_name_every_latent", "'drift'"),
]


@pytest.mark.parametrize(("model_class", "check", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_each_broken_model_fails_its_check(model_class: type[SequenceModel], check: str, words: str) -> None:
    assert_fails(model_class, check, words)


def test_every_check_has_a_model_that_fails_it() -> None:
    assert checks_without_a_fault(structure, BROKEN) == set()
