"""Simulated intensive-care stays: the law of every kind of variable, the gaps, the covariates, and the table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from pyro_seq.data import Sequences
from pyro_seq.datasets import intensive_care_stays
from pyro_seq.errors import DataError

FEW = {"num_train": 6, "num_test": 4, "num_validation": 0}
NORMAL, LOG_NORMAL, COUNT, YES, CLASS = slice(0, 4), slice(4, 6), 6, 7, slice(8, 11)


@pytest.fixture(scope="module")
def many() -> Sequences:
    return intensive_care_stays(num_train=1_500, num_validation=0, num_test=1).train


def lag_correlation(many: Sequences, process: int, low: float, high: float) -> tuple[float, float]:
    """Mean product of a process at times that lie so far apart, and the mean of the kernel there."""
    values = many.context["processes"][..., process].double()
    if process == 0:  # sicker by e^(-t/16) on average
        values = values - torch.exp(-many.times / 16)
    lags = (many.times[:, :, None] - many.times[:, None, :]).abs()
    near = (lags > low) & (lags < high)
    scaled = math.sqrt(3) * lags / (24.0, 8.0, 12.0)[process]
    kernel = (1 + scaled) * torch.exp(-scaled)
    return float((values[:, :, None] * values[:, None, :])[near].mean()), float(kernel[near].mean())


@pytest.mark.parametrize("process", range(3))
@pytest.mark.parametrize("lags", [(-1.0, 0.5), (5.0, 7.0), (14.0, 16.0)], ids=str)
def test_processes_have_the_kernel_that_is_said(many: Sequences, process: int, lags: tuple[float, float]) -> None:
    found, expected = lag_correlation(many, process, *lags)
    assert abs(found - expected) < 4 * math.sqrt(2 / len(many))  # stays are independent, times within one are not


def test_values_have_the_law_of_their_kind_around_the_truth(many: Sequences) -> None:
    whole, truth = (many.context[name].double().flatten(0, 1) for name in ("whole", "truth"))
    count = len(whole)
    for entry, scale in zip(range(4), (4.5, 4.0, 0.2, 0.018), strict=True):
        noise = ((whole - truth)[:, entry] / scale).numpy()
        assert kstest(noise[::37], "norm").pvalue > 1e-3, entry
    for entry, scale in zip((4, 5), (0.15, 0.1), strict=True):
        noise = ((whole / truth)[:, entry].log() + scale**2 / 2) / scale
        assert kstest(noise.numpy()[::37], "norm").pvalue > 1e-3, entry
    events, rate = whole[:, COUNT], truth[:, COUNT]
    assert events.equal(events.round()) and events.min() == 0
    dispersion = (events - rate).square() / rate  # of mean 1 and variance 2 + 1 / rate for Poisson's law
    assert abs(float(dispersion.mean()) - 1) < 4 * float((2 + 1 / rate).mean() / count) ** 0.5
    for entry in (YES, 8, 9, 10):
        chance = truth[:, entry]
        z = (whole[:, entry] - chance).sum() / (chance * (1 - chance)).sum().sqrt()
        assert abs(float(z)) < 4, entry
        top = chance > 0.7  # where the chance is high, so is the share
        assert abs(float((whole[:, entry] - chance)[top].mean())) < 4 * 0.5 / int(top.sum()) ** 0.5
    assert (whole[:, CLASS].sum(-1) == 1).all()
    torch.testing.assert_close(truth[:, CLASS].sum(-1), torch.ones(count).double(), rtol=0, atol=1e-6)


def test_truth_is_linear_in_processes_and_covariates(many: Sequences) -> None:
    """Least squares of the linear predictors find the loadings, in the links of their kinds, without an error."""
    truth, static = many.context["truth"].double(), many.static.double()
    age = (static[:, :1] - 63) / 16
    covariates = torch.cat([age, static[:, 1:], torch.ones(len(many), 1)], -1)[:, None].expand(-1, many.num_steps, -1)
    design = torch.cat([many.context["processes"].double(), covariates], -1).flatten(0, 1)
    odds = truth[..., CLASS].log() - truth[..., 8:9].log()
    links = torch.cat([truth[..., NORMAL], truth[..., 4:7].log(), truth[..., 7:8].logit(), odds[..., 1:]], -1)
    solved = torch.linalg.lstsq(design, links.flatten(0, 1))
    # single precision of what is stored, which the logarithm of a probability near 1 or 0 magnifies
    assert (design @ solved.solution - links.flatten(0, 1)).abs().quantile(0.99, dim=0).max() < 1e-4
    torch.testing.assert_close(solved.solution[:3, 0], torch.tensor([9.0, 9.0, 3.0]).double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(solved.solution[:3, 4], torch.tensor([0.45, 0.25, 0.0]).double(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("missing", [0.2, 0.7, 0.95])
def test_share_of_gaps(missing: float) -> None:
    train, _, _ = intensive_care_stays(num_train=800, num_test=1, num_validation=0, missing=missing)
    shares = 1 - train.entry_mask.double().mean((1, 2))
    assert abs(float(shares.mean()) - missing) < 4 * float(shares.std()) / 800**0.5


def test_gaps_follow_illness_and_variable(many: Sequences) -> None:
    seen = many.entry_mask.double()
    illness = many.context["processes"][..., 0]
    odds = seen[..., 0][illness > 1].mean() / seen[..., 0][illness < 0].mean()
    assert odds > 1.3
    assert seen.mean((0, 1))[0] > 3 * seen.mean((0, 1))[5]
    assert (many.entry_mask[..., 8:] == many.entry_mask[..., 8:9]).all(), "a class is seen as a whole"
    assert (many.values == torch.where(many.entry_mask, many.context["whole"], 0.0)).all()


def test_times_covariates_and_names(many: Sequences) -> None:
    assert kstest(many.times.flatten()[::37].numpy(), "uniform", (0.0, 48.0)).pvalue > 1e-3
    assert (many.times.diff(dim=1) >= 0).all()
    age, *flags = many.static.T
    assert age.min() >= 18 and age.max() <= 95 and abs(float(age.mean()) - 63) < 4 * 16 / len(many) ** 0.5
    for flag, share in zip(flags, (0.57, 0.3, 0.2), strict=True):
        assert abs(float(flag.mean()) - share) < 4 * (share * (1 - share) / len(many)) ** 0.5
    assert not (flags[1] * flags[2]).any()
    assert many.labels.static == ("age", "is_male", "is_surgical", "is_cardiac")
    assert len(many.labels.variables) == many.obs_shape[0] == 11


def test_table_and_back() -> None:
    train, _, _ = intensive_care_stays(**FEW)
    table = train.to_dataframe()
    assert len(table) == 6 * 48 and table["heart_rate"].isna().any()
    names = {"values": list(train.labels.variables), "static": list(train.labels.static)}
    again = Sequences.from_dataframe(table, series="series", time="time", **names)
    assert torch.equal(again.values, train.values) and torch.equal(again.entry_mask, train.entry_mask)
    assert torch.equal(again.static, train.static)


def test_seeds_and_parts(assert_rng_untouched) -> None:
    with assert_rng_untouched():
        train, validation, test = intensive_care_stays(num_train=6, num_validation=3, num_test=4)
    longer = intensive_care_stays(num_train=9, num_validation=3, num_test=4)
    assert torch.equal(longer.validation.values, validation.values) and torch.equal(longer.test.values, test.values)
    assert torch.equal(intensive_care_stays(**FEW).train.values, train.values)
    assert intensive_care_stays(**FEW).validation is None
    assert not torch.equal(intensive_care_stays(seed=1, **FEW).train.values, train.values)
    one = intensive_care_stays(num_steps=1, **FEW)
    assert one.train.values.shape == (6, 1, 11) and np.isfinite(one.train.values.numpy()).all()


@pytest.mark.parametrize(
    "name", ["num_train", "num_test", "num_validation", "num_steps", "duration", "missing", "seed"]
)
@pytest.mark.parametrize("value", [-1, "two", float("nan")], ids=str)
def test_wrong_arguments(name: str, value: object) -> None:
    with pytest.raises(DataError, match=name):
        intensive_care_stays(**(FEW | {name: value}))


@pytest.mark.parametrize("missing", [0.0, 1.0])
def test_something_is_seen_and_something_is_missing(missing: float) -> None:
    with pytest.raises(DataError, match="share above 0 and below 1"):
        intensive_care_stays(missing=missing, **FEW)
