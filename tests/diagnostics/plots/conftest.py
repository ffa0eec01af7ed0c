"""No plot may leave a figure open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_pyplot_figures() -> Iterator[None]:
    """Fail when a plot registers a figure with pyplot."""
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    yield
    assert plt.get_fignums() == before
