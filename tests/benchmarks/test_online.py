"""A step of the filter and the filter run anew are timed on equal states."""

from __future__ import annotations

from benchmarks.online import row_of, table


def test_a_row_is_of_equal_states():
    row = row_of(20, 1)
    assert row.name == "step 21 of 5 variables, 4 factors"
    assert 0.7 < float(table(500).mask.double().mean()) < 0.9
