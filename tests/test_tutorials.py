"""The manual's pages with code run from top to bottom, and show what they say."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.pages import ROOT, python_blocks, run_page

PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
QUOTING = {"docs/contributing.md", "docs/design.md"}  # snippets that are not meant to run
ELSEWHERE = {"docs/index.md", "docs/new_model.md"}  # run by tests of their own


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_first_forecast(empty_folder: Path) -> None:
    names = run_page("docs/tutorials/first_forecast.md")
    loss = names["posterior"].history["loss"]
    assert loss[-1] < 0 < loss[0]
    assert names["prediction"].samples.shape == (50, 33, 11, 1, 8, 8)
    scores = {
        row.name: row.means() for row in names["ps"].evaluate_baselines(*(names[n] for n in ("train", "test", "task")))
    }
    for baseline, factor in (("training mean", 0.7), ("last frame", 0.4)):
        assert names["scores"].means()["mse"] < factor * scores[baseline]["mse"]
    assert 0.75 < names["scores"].means()["coverage_90"] < 0.99
    assert (empty_folder / "forecast.png").stat().st_size > 10_000
    again = names["ps"].evaluate(names["again"], names["test"], names["task"], num_samples=50)
    assert again.mse.equal(names["scores"].mse)


def test_missing_and_irregular() -> None:
    names = run_page("docs/tutorials/missing_and_irregular.md")
    assert names["data"].entry_mask.sum() == 2 * 12 * 2 - 2 - 1
    assert names["ragged"].lengths.tolist() == [20, 20, 12, 15]
    assert names["records"].mask.sum() == 8
    assert names["error"] < 0.5 * names["whole"].values.var()
    assert names["prediction"].samples.shape == (50, 16, 3, 2)


def test_clinical_records() -> None:
    names = run_page("docs/tutorials/clinical_records.md", num_train="150", num_steps="40", batch_size="32")
    test, shares = names["test"], names["shares"]
    held = names["ps"].metrics.coverage(names["filled"].samples, names["whole"], 0.9, mask=names["hidden"])
    assert shares.mean() < 0.3 and shares.max() < 0.5, "carried forward leaves a half, lines a third"
    assert abs(float(held) - 0.9) < 0.05
    drawn = names["charts"].samples
    assert drawn.shape == (100, 100, 48, 11)
    seen = test.entry_mask.expand_as(drawn)
    assert drawn[seen].equal(test.values.expand_as(drawn)[seen])
    assert (drawn[..., 4:6] > 0).all() and (drawn[..., 6] == drawn[..., 6].round()).all()
    assert set(drawn[..., 7].unique().tolist()) == {0.0, 1.0} and (drawn[..., 8:].sum(-1) == 1).all()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mechanistic_field() -> None:
    names = run_page("docs/tutorials/mechanistic_field.md", num_samples="20", warmup_steps="40")
    means = names["table"]["mean"]
    assert means["constants[stiffness]"] == pytest.approx(2.0, rel=0.1)
    assert means["constants[noise]"] == pytest.approx(0.1, rel=0.3)
    assert len(names["table"]) == 3 + 4 * 2
    rivals = names["ps"].evaluate_baselines(names["data"], names["whole"], names["task"])
    still = {row.name: row.means()["mse"] for row in rivals}["last frame"]
    assert names["scores"].means()["mse"] < 0.2 * still


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page not in QUOTING | ELSEWHERE and "tutorials" not in page and python_blocks(page)],
)
def test_page_runs(page: str) -> None:
    names = set(run_page(page)) - {"__name__", "__builtins__"}
    assert names, "a page of Python defines something"


@pytest.mark.parametrize("page", [*PAGES, "README.md"])
def test_cited_tests_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    files = set(re.findall(r"`(tests/[\w/]+\.py)", text))
    assert all((ROOT / file).is_file() for file in files), files
    sources = "".join((ROOT / file).read_text() for file in files)
    missing = [name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in sources]
    assert not missing, f"{page} cites {missing}, which are in none of {sorted(files)}"


@pytest.mark.parametrize("page", [*PAGES, "README.md"])
def test_relative_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", (ROOT / page).read_text())
    missing = [target for target in targets if not os.path.exists((ROOT / page).parent / target)]
    assert not [target for target in missing if not target.startswith("_static/") and "/_static/" not in target]
