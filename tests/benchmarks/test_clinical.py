"""Clinical tables: the tasks, the published error, and the page that shows the results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import pyro_seq as ps
from benchmarks import _clinical_page as page
from benchmarks.clinical import Unmeasured, of_entries, shown, unexplained, without_gaps
from pyro_seq.datasets import intensive_care_stays


def stays() -> ps.Sequences:
    return intensive_care_stays(num_train=5, num_validation=0, num_test=1).train


def test_what_was_not_measured_is_asked_for_and_not_shown() -> None:
    data = stays()
    whole, task = without_gaps(data, 6)
    given = task.given(whole)
    assert given.entry_mask.equal(data.entry_mask[..., :6]) and given.values.equal(data.values[..., :6])
    assert task.scored(whole).equal(~given.entry_mask) and whole.entry_mask.all()
    assert whole.labels.variables == data.labels.variables[:6]
    perfect, mean = whole.values, whole.values.mean((0, 1)).expand_as(whole.values)
    assert unexplained(perfect, None, whole, task)["share"] == 0
    everywhere = Unmeasured(torch.zeros_like(given.entry_mask))  # over all entries the mean leaves all but the last
    shares = torch.tensor(unexplained(mean, None, whole, everywhere)["shares"])
    torch.testing.assert_close(shares, torch.full((6,), 1 - 1 / (5 * 48)), rtol=1e-4, atol=0)


def test_published_error_is_a_mean_over_stays_and_variables() -> None:
    data = stays()
    mean = torch.randn_like(data.values)
    total = 0.0
    for stay in range(5):
        for entry in range(11):
            seen = data.entry_mask[stay, :, entry]
            if seen.any():
                total += float((mean[stay, seen, entry] - data.values[stay, seen, entry]).square().mean())
    found = of_entries(mean, None, data, data.entry_mask)
    assert found["mse, published"] == pytest.approx(total / 55, rel=1e-5)
    plain = (mean - data.values)[data.entry_mask]
    assert found["mse"] == pytest.approx(float(plain.square().mean()), rel=1e-5)
    assert found["crps"] == pytest.approx(float(plain.abs().mean()), rel=1e-5)


def test_second_day_is_asked_for_given_the_first() -> None:
    data = stays()
    given, asked = shown(data, "extrapolation")
    late = data.times > 24
    assert not given.step_mask[late].any() and not asked[~late].any()
    assert (given.entry_mask | asked).equal(data.entry_mask)
    given, asked = shown(data, "a tenth hidden")
    assert (given.entry_mask ^ asked).equal(data.entry_mask)
    assert 0.05 < float(asked.sum() / data.entry_mask.sum()) < 0.15


def test_page_shows_the_kept_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page says is what the results hold."""
    written, copy = page.PAGE.read_text(), tmp_path / "page.md"
    copy.write_text(written)
    monkeypatch.setattr(page, "PAGE", copy)
    page.write_page()
    assert copy.read_text() == written
    assert all(page.path_of(study).is_file() for study in ("vitals", "mixed", "physionet"))


def test_numbers_are_short() -> None:
    assert [page.number(value, 2) for value in (0.5, -0.5, 10.25, 0.0)] == [".50", "-.50", "10.25", ".00"]
    assert page.each([{"a": 1.0}, {"a": 1.0}], "a") == "1.000" and page.each([{"a": 1.0}, {"a": 2.0}], "a", 0) == "1 2"
