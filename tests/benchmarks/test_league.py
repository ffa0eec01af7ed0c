"""The league: every cell is one that can be played, results are kept, and tables show them."""

from __future__ import annotations

import json

import pytest

from benchmarks import league


def test_a_cell_is_played_once_and_shown(tmp_path, capsys) -> None:
    path = tmp_path / "league.json"
    words = ["--fields", "irregular sinusoids", "--models", "DynamicFactors", "--seeds", "0", "--seconds", "0.01"]
    league.main([*words, "--results", str(path)])
    kept = json.loads(path.read_text())
    name = "irregular sinusoids | DynamicFactors | 0 | 0.01 s"
    assert kept.keys() == {"irregular sinusoids | baselines", name}
    assert kept[name]["forecast"]["mse"] > 0 and kept[name]["parameters"] > 0 and kept[name]["num_steps"] >= 1
    assert "| DynamicFactors | " in capsys.readouterr().out
    path.write_text(json.dumps(kept | {name: kept[name] | {"num_steps": 777}}))
    league.main([*words, "--results", str(path)])  # goes on from there, which is nothing
    assert "| 777 | 1 |" in capsys.readouterr().out


def test_an_error_is_a_result(tmp_path, monkeypatch) -> None:
    def broken(*_: object) -> dict:
        raise league.ps.NumericalError("nothing is finite")

    monkeypatch.setattr(league, "run", broken)
    results: dict = {}
    league.play(results, "a | b", lambda: league.run(), tmp_path / "league.json")
    assert results == {"a | b": {"error": "NumericalError: nothing is finite"}}
    assert league.lines(results, "a")[2:] == []


@pytest.mark.parametrize("field", league.FIELDS)
def test_there_is_more_than_one_model_for_each(field) -> None:
    models = [model for _, model, _ in league.cells([field], league.ENTRANTS, [0])]
    assert len(models) >= 4 and not set(league.FIELDS[field].absent) - league.ENTRANTS.keys()
