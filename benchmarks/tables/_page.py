"""Pages that are part written by hand, part from results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"


def write_between(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- end of name -->``.

    Raises:
        ValueError: When the page lacks the marks.
    """
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = page.read_text()
    if text.count(first) != 1 or text.count(last) != 1:
        raise ValueError(f"{page.name} must hold `{first}` and `{last}` once each. Put them where the results belong.")
    before, _, rest = text.partition(first)
    after = rest.partition(last)[2]
    page.write_text("\n".join([f"{before}{first}", "", *lines, "", f"{last}{after}"]))
