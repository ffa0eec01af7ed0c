"""Recalibrated intervals hold what they say on exchangeable series, whatever the model, and by an exact count."""

from __future__ import annotations

import math
from typing import ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_seq as ps

SIMULATIONS = 1000  # one in each variable, for variables are calibrated each by itself
SEEN, HORIZON = 1, 2


class Wrong(ps.SequenceModel):
    """Predicts values around a level with a spread that has nothing to do with the truth."""

    dims: ClassVar = {"level": ("state",)}

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = spread

    def model(self, data):
        with self.series(data):
            level = pyro.sample("level", dist.Normal(data.values.new_zeros(1), 0.1).to_event(1))
            path = level[..., None, :].expand(*level.shape[:-1], data.times.shape[-1], 1)
            size = data.obs_shape[0]
            self.observe(lambda state: dist.Normal(state.expand(*state.shape[:-1], size), self.spread), path, data)

    def guide(self, data):
        with self.series(data):
            pyro.sample("level", dist.Normal(data.values.new_zeros(1), 0.1).to_event(1))


def posterior(spread: float = 0.3) -> ps.GuidePosterior:
    return ps.GuidePosterior(Wrong(spread))


def truth(num_series: int, seed: int, size: int = SIMULATIONS) -> torch.Tensor:
    """Exchangeable series: skewed, heavy-tailed, each of a width of its own, with later steps wider."""
    torch.manual_seed(seed)
    width = dist.LogNormal(0.0, 0.5).sample((num_series, 1, size))
    steps = torch.arange(1.0, SEEN + HORIZON + 1)[:, None]
    return width * steps * (dist.Exponential(1.0).sample((num_series, SEEN + HORIZON, size)) - 0.3)


@pytest.mark.parametrize("spread", [0.3, 30.0])
@pytest.mark.parametrize(("num_series", "level", "share"), [(19, 0.9, 18 / 20), (25, 0.8, 21 / 26), (9, 0.9, 9 / 10)])
def test_share_is_exact_in_a_thousand_simulations(num_series, level, share, spread):
    values = truth(num_series + 1, 0)
    widened = ps.recalibrate(
        posterior(spread), ps.Sequences(values[:-1]), ps.Forecasting(SEEN), level=level, num_samples=50
    )
    assert widened.margins.shape == (HORIZON, SIMULATIONS)
    new = ps.Sequences(values[-1:, :SEEN]).extend(horizon=HORIZON)
    interval = widened.intervals(new)
    assert interval.times.tolist() == [1.0, 2.0]
    inside = ((interval.lower <= values[-1:, SEEN:]) & (values[-1:, SEEN:] <= interval.upper))[0]
    band = 4.5 * (share * (1 - share) / SIMULATIONS) ** 0.5
    assert bool(((inside.double().mean(-1) - share).abs() < band).all())  # at each step
    before = ps.forecast(posterior(spread), new, num_samples=50).quantile([(1 - level) / 2, (1 + level) / 2])
    plain = ((before[0] <= values[-1:, SEEN:]) & (values[-1:, SEEN:] <= before[1])).double().mean()
    assert abs(float(plain) - share) > 2 * band


def test_hidden_entries_do_not_count():
    values = truth(20, 1, size=2)
    mask = torch.ones(20, SEEN + HORIZON, 2, dtype=torch.bool)
    mask[:5, SEEN, 0] = False
    data, task = ps.Sequences(values, mask), ps.Forecasting(SEEN)
    found = ps.recalibrate(posterior(), data, task, level=0.8).margins
    whole = ps.recalibrate(posterior(), ps.Sequences(values), task, level=0.8).margins
    assert torch.equal(found[:, 1], whole[:, 1]) and torch.equal(found[1], whole[1])
    low, high = ps.forecast(posterior(), task.given(data), num_samples=200).quantile([0.1, 0.9])
    distance = torch.maximum(low - values[:, SEEN:], values[:, SEEN:] - high)[5:, 0, 0]
    assert float(found[0, 0]) == float(distance.sort().values[12])  # the 13th of 15, for 16 times 0.8 is 12.8


def test_other_tasks_have_intervals_too():
    data = ps.Sequences(truth(40, 2, size=1))
    widened = ps.recalibrate(posterior(), data, ps.Reconstruction(), level=0.5)
    low, high, _ = widened.intervals(data)
    inside = ((low <= data.values) & (data.values <= high)).double().mean(0)
    assert (
        inside.flatten().tolist() == [21 / 40] * 3
    )  # on the series themselves: the 21st of 40, for 20.5 is half of 41


def test_too_little_to_go_by_is_refused():
    task, few = ps.Forecasting(SEEN), ps.Sequences(truth(8, 0, size=1))
    with pytest.raises(ps.DataError, match=r"`validation` must score 9 series.*Got 8"):
        ps.recalibrate(posterior(), few, task)
    widened = ps.recalibrate(posterior(), few, task, level=0.8)
    with pytest.raises(ps.ShapeError, match=r"`given` must be seen on the grid"):
        widened.intervals(few.first(SEEN).extend(horizon=HORIZON + 1))
    with pytest.raises(ps.DataError, match="`level`"):
        ps.recalibrate(posterior(), few, task, level=1.0)


@pytest.mark.parametrize("spread", [0.3, 30.0])
def test_pooled_entries_share_one_factor(spread):
    """The factor by hand, and the share held in new series, of other steps and variables; a few scored entries."""
    values = truth(60, 1, 40)
    hidden = torch.rand(values.shape, generator=torch.Generator().manual_seed(0)) < 0.97
    validation = ps.Sequences(values).hide(hidden & (torch.arange(SEEN + HORIZON)[:, None] >= SEEN))
    task = ps.Forecasting(SEEN)
    with pytest.raises(ps.DataError, match="is_pooled=True"):
        ps.recalibrate(posterior(spread), validation, task)
    widened = ps.recalibrate(posterior(spread), validation, task, num_samples=50, is_pooled=True)
    assert widened.margins.shape == ()
    drawn = ps.forecast(posterior(spread), task.given(validation), num_samples=50)
    low, high = drawn.interval(0.9)
    scores = (values[:, SEEN:] - (low + high) / 2).abs() / ((high - low) / 2)  # in halves of widths from the middle
    scores = scores[validation.entry_mask[:, SEEN:]].sort().values
    rank = math.ceil((len(scores) + 1) * 0.9)
    torch.testing.assert_close(1 + widened.margins, scores[rank - 1])
    new = truth(800, 2, 40)
    interval = widened.intervals(ps.Sequences(new[:, :SEEN]).extend(horizon=HORIZON))
    inside = (new[:, SEEN:] >= interval.lower) & (new[:, SEEN:] <= interval.upper)
    # the quantile of n scores is off by a standard error of sqrt(p (1 - p) / n)
    assert abs(float(inside.float().mean()) - 0.9) < 4 * (0.09 / len(scores)) ** 0.5
    one = widened.intervals(ps.Sequences(new[:1, :SEEN]).extend(horizon=1))
    assert one.lower.shape == (1, 1, 40)
    with pytest.raises(ps.DataError, match=r"Got \d. Keep more"):
        ps.recalibrate(posterior(), validation[:1], task, is_pooled=True)
    with pytest.raises(ps.DataError, match="`is_pooled` must be True or False"):
        ps.recalibrate(posterior(), validation, task, is_pooled="yes")
