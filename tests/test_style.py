"""The shared look: figures outside of pyplot whose parts do not overlap, arrays from anything, units in labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_seq._style import add_legend, as_numpy, new_figure, tidy, time_label
from tests.diagnostics.plots.figures import drawn


def test_a_figure_has_its_size_and_its_parts_do_not_overlap() -> None:
    figure = new_figure(4.0, 1.5)
    panels = [tidy(axes, title="a title", x="time (s)", y="value") for axes in figure.subplots(1, 2)]
    drawn(figure)
    left, right = (axes.get_tightbbox() for axes in panels)
    assert tuple(figure.get_size_inches()) == (4.0, 1.5)
    assert left.x1 <= right.x0
    assert left.x0 >= 0 and right.x1 <= figure.bbox.x1


def test_a_panel_has_half_a_frame_and_a_legend_none() -> None:
    axes = tidy(new_figure(3.0, 2.0).subplots(), title="x", has_grid=False)
    axes.plot([0, 1], label="line")
    add_legend(axes)
    assert [axes.spines[side].get_visible() for side in ("left", "bottom", "right", "top")] == [
        True,
        True,
        False,
        False,
    ]
    assert not axes.get_legend().get_frame_on()


@pytest.mark.parametrize("values", [[1.0, 2.0], torch.tensor([1.0, 2.0], requires_grad=True), np.array([1.0, 2.0])])
def test_arrays_come_from_anything(values: object) -> None:
    np.testing.assert_array_equal(as_numpy(values), [1.0, 2.0])


def test_a_label_has_its_unit() -> None:
    assert (time_label("time", "s"), time_label("step", "")) == ("time (s)", "step")
