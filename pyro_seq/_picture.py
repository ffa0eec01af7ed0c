"""``Picture``: a figure displayed by notebooks. Imported on first use, because matplotlib is slow to import."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure displayed by notebooks, without pyplot."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()
