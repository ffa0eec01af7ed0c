"""The latents of each series as a vector: what goes in and out, and starts for chains."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.infer.series_target import SeriesTarget
from tests.swings import F64, Swings, exact_posterior, make_data


class Misled(Swings):
    """A guide half a deviation off and a third too wide."""

    def guide(self, data: Sequences) -> None:
        mean, cov = exact_posterior(self, data)
        scale = cov.diagonal(dim1=-2, dim2=-1).sqrt()
        with self.series(data):
            pyro.sample("start", dist.Normal(mean + 0.5 * scale, 1.3 * scale).to_event(1))


def test_starts_picked_among_candidates_are_posterior_draws() -> None:
    model, data = Misled(), make_data()
    mean, cov = exact_posterior(model, data)
    target, count = SeriesTarget(model, data), 4000
    with isolated_rng(0):
        picked = target.draw(count, from_guide=True, num_candidates=200)
        plain = target.draw(count, from_guide=True)
    root = torch.linalg.cholesky(cov)
    for starts, is_posterior in ((picked, True), (plain, False)):
        white = torch.linalg.solve_triangular(root, (starts - mean)[..., None], upper=False)[..., 0]
        off = white.mean(0) * count**0.5
        wide = (white.square().mean(0) - 1) * (count / 2) ** 0.5
        # resampling biases by var(w) / candidates, 0.01 deviations at most; 5 standard errors are 0.08
        assert (max(off.abs().max(), wide.abs().max()) < 5) == is_posterior


def test_candidates_without_a_density_are_not_picked() -> None:
    class Half(Swings):
        def path(self, start: Tensor, data: Sequences) -> Tensor:
            return super().path(torch.where(start[..., :1] < 0, torch.nan, start), data)

        def guide(self, data: Sequences) -> None:
            with self.series(data):
                pyro.sample("start", dist.Normal(data.values.new_zeros(2), 1.0).to_event(1))

    target = SeriesTarget(Half(), make_data())
    with isolated_rng(1):
        assert (target.draw(50, from_guide=True, num_candidates=30)[..., 0] > 0).all()


def test_vectors_and_sites() -> None:
    target = SeriesTarget(Swings(), make_data())
    vector = torch.randn(3, 5, 2, dtype=F64)
    values, log_det = target.split(vector)
    assert torch.equal(target.join(values), vector) and torch.equal(log_det, torch.zeros(3, 5, dtype=F64))
    with pytest.raises(DataError, match="Missing"):
        target.join({})
    with pytest.raises(DataError, match=r"series 5"):
        target.join({"start": vector[:, :2]})
