"""Run the code of a page of the manual, so that it is never stale."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def python_blocks(page: str) -> list[str]:
    """The Python blocks of a page, named from the root of the repository."""
    return _BLOCK.findall((ROOT / page).read_text())


def run_page(page: str, **shorter: str) -> dict[str, Any]:
    """Execute all blocks in order in one namespace, and return it.

    `shorter` replaces the number behind an argument's name, such as ``num_steps="5"``, to save time.
    """
    names: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(python_blocks(page), 1):
        for argument, value in shorter.items():
            block = re.sub(rf"\b{argument}=[\d_]+", f"{argument}={value}", block)
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names
