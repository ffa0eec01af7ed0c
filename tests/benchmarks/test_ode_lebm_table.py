"""The tables of ODE-LEBM: how records become rows, and that the study takes every command."""

from __future__ import annotations

import sys

import pytest

from benchmarks.studies import ode_lebm
from benchmarks.tables import _page
from benchmarks.tables import ode_lebm as table


def record(label: str, error: float) -> dict:
    row = {"single chain": 2 * error, "mean of chains": error}
    trivial = {"nearest training series": {"T = 15": 0.04}}
    known = {"label": label, "command": "python example", "seconds": 60.0, "uses": {"AUROC, prior energy": error}}
    return known | {
        "errors": {start: {"T = 15": row} for start in ("guide, 0 steps", "guide, 60 steps")},
        "trivial": trivial,
    }


def test_rows_hold_means_and_deviations_over_seeds_and_the_trivial_predictors() -> None:
    lines = table.table([record("ODE-LEBM", 0.2), record("ODE-LEBM", 0.4), record("Latent ODE", 0.5)])
    assert "| ODE-LEBM: guide, 0 steps, mean of chains | 0.300 ± 0.141 |" in lines
    assert "| Latent ODE: guide, 60 steps, single chain | 1.00 |" in lines
    assert not any("0 steps, single" in line for line in lines if "60" not in line)
    assert "| nearest training series | 0.0400 |" in lines


def test_shares_of_seen_points_are_columns() -> None:
    lines = table.table([record("ODE-LEBM, 0.1", 0.2), record("ODE-LEBM, 0.5", 0.4), record("Latent ODE, 0.5", 0.3)])
    assert lines[0] == "| predictor | 0.1 | 0.5 |"
    assert "| ODE-LEBM: guide, 60 steps, mean of chains | 0.200 | 0.400 |" in lines
    assert "| Latent ODE: guide, 60 steps, mean of chains |  | 0.300 |" in lines
    assert lines[-1] == "| nearest training series | 0.0400 | 0.0400 |"


def test_uses_stand_in_a_column_for_each_way() -> None:
    assert "| AUROC, prior energy | 0.300 ± 0.141 | 0.500 |" in table.uses(
        [record("ODE-LEBM", 0.2), record("ODE-LEBM", 0.4), record("Latent ODE", 0.5)]
    )


def test_every_study_has_a_title_and_runs_that_the_program_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert table.STUDIES.keys() == table.TITLES.keys() == table.PUBLISHED.keys()
    for _, options in (run for runs in table.STUDIES.values() for run in runs):
        monkeypatch.setattr(sys, "argv", ["ode_lebm", *options])
        ode_lebm.arguments()  # ends the program where it does not know an option


@pytest.mark.parametrize("share", table.SHARES)
def test_trainings_on_all_points_are_shared_by_the_shares_of_a_test(share: str) -> None:
    folders = {table.folder(options) for _, options in table.STUDIES["sinusoids_all"]}
    assert len(folders) == len(table.ENDS) * len(table.SEEDS) + 1  # one with the other encoder
    own = [options for _, options in table.STUDIES["sinusoids_observed"] if share in options]
    assert len({table.folder(options) for options in own}) == len(own)


def test_the_page_has_a_place_for_the_tables() -> None:
    for text in (_page.PAGE.read_text(), _page.README.read_text()):
        assert text.count("<!-- ode_lebm -->") == 1 and text.count("<!-- end of ode_lebm -->") == 1


def test_the_summary_has_the_trivial_predictor_and_the_published_figures() -> None:
    lines = table.summary([record("ODE-LEBM, 0.1", 0.2), record("Latent ODE, 0.1", 0.3)])
    assert "| ODE-LEBM, mean of 32 chains | 0.200 |  |  |  |" in lines
    assert "| nearest training series | 0.0400 |  |  |  |" in lines
    assert "| ODE-LEBM, published | 0.0700 | 0.0304 | 0.0266 | 0.0233 |" in lines
