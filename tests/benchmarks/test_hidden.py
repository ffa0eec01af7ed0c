"""Intervals of what was hidden: for every model they hold about what they say, on data of its own."""

from __future__ import annotations

import pytest
import torch

from benchmarks.hidden import CASES, coverage_of, patterns, squares


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_intervals_of_what_was_hidden_hold_ninety_percent(name):
    """Four standard errors around 90 %, and 4 % for what a normal guide cannot say of a posterior that is none.

    The default encoder of ODE2VAE reads the first three frames only: of a random half it may hold more or less.
    """
    for pattern, found in coverage_of(name).items():
        is_window = name == "ODE2VAE" and pattern == "random half"
        allowed = 4 * found.standard_error + (0.08 if is_window else 0.04)
        assert abs(found.share - 0.9) < allowed, (pattern, found)


def test_patterns_hide_what_they_say():
    hidden = patterns(50)
    assert [int(mask.sum(1).unique()) for mask in hidden.values()] == [6, 6, 12]
    assert not bool(hidden["first half"][:, 6:].any()) and len(hidden["random half"].unique(dim=0)) > 25


def test_squares_have_nine_pixels_and_drift():
    video = squares(20)
    assert video.shape == (20, 12, 1, 8, 8) and set(video.flatten(1).sum(1).tolist()) == {9.0 * 12}
    still = (video[:, 1:] == video[:, :-1]).all((1, 2, 3, 4))
    assert 0 < int(still.sum()) < 10 and set(torch.unique(video).tolist()) == {0.0, 1.0}
