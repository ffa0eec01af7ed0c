"""Tables of the manual are what is in the files of results."""

from __future__ import annotations

import json

import pytest

from benchmarks.tables import kalman_nile, weight_posteriors
from benchmarks.tables._page import PAGE


@pytest.mark.parametrize("module", [kalman_nile, weight_posteriors], ids=["kalman_nile", "weight_posteriors"])
def test_the_page_shows_what_the_file_holds(module):
    page = PAGE.read_text()
    for line in module.section(json.loads(module.RESULT.read_text())):
        assert line in page


def test_the_exact_maxima_lie_within_the_intervals():
    for rows in json.loads(kalman_nile.RESULT.read_text())["fits"].values():
        maximum, *others = [row for row in rows if row["method"] in kalman_nile.METHODS]
        for row in others:
            for best, (low, high) in zip(maximum["variances"], row["interval"], strict=True):
                assert low <= best <= high or best == 0.0
