"""The labels of equations that comments cite are those of the page of derivations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = "docs/derivations.md"
DEFINED = re.findall(r"\\tag\{(\w+)\}", (ROOT / PAGE).read_text())
LABEL = re.compile(r"\(([A-Z]\d+)\)")


def labels(text: str) -> set[str]:
    """Labels that a text cites, the inner ones of a range such as (F2) to (F5) not among them."""
    return set(LABEL.findall(text))


CITED = {
    str(path.relative_to(ROOT)): found
    for path in sorted((ROOT / "pyro_seq").rglob("*.py"))
    if (found := labels(path.read_text()))
}


def test_labels_are_unique_and_the_page_cites_its_own():
    assert len(DEFINED) == len(set(DEFINED)) > 0
    assert labels((ROOT / PAGE).read_text()) <= set(DEFINED)


@pytest.mark.parametrize("file", CITED)
def test_every_cited_label_is_on_the_page_that_the_file_names(file):
    assert CITED[file] <= set(DEFINED)
    assert PAGE in (ROOT / file).read_text(), f"{file} cites equations and does not say where they are"


def test_every_label_is_cited():
    assert set(DEFINED) == set().union(*CITED.values())
