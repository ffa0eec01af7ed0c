"""Animations that Pillow reads back."""

from __future__ import annotations

import matplotlib.colors as colors
import numpy as np
import pytest
from PIL import Image

from pyro_seq._style import ACCENT
from pyro_seq.diagnostics import (
    save_gif,
)
from pyro_seq.errors import DataError
from tests.diagnostics.plots.figures import images


def test_gif_has_all_frames(tmp_path):
    frames = images(7)
    path = save_gif(tmp_path / "new" / "clip.gif", {"truth": frames, "mean": frames[:5]}, fps=10, num_observed=4)
    with Image.open(path) as picture:
        assert picture.n_frames == 7 and picture.info["duration"] == 100 and picture.info["loop"] == 0
        assert picture.size[0] == 2 * 10 * 14 + 3 * 8  # zoom 14 for the shorter side of 8 pixels
    assert [file.name for file in path.parent.iterdir()] == ["clip.gif"]


def test_gif_shows_the_pixels(tmp_path):
    frames = images(3)
    with Image.open(save_gif(tmp_path / "grey.gif", frames, zoom=4)) as picture:
        for step in range(3):
            picture.seek(step)
            shown = np.asarray(picture.convert("RGB"), dtype=float)[4 : 4 + 32, 8 : 8 + 40] / 255
            assert np.abs(shown[2::4, 2::4] - frames[step, 0].numpy()[..., None]).max() < 0.02  # palette and rounding


def test_gif_in_colour_with_a_time_bar(tmp_path):
    with Image.open(save_gif(tmp_path / "colour.gif", images(4, 3), num_observed=2, zoom=4)) as picture:
        accent = np.array(colors.to_rgb(ACCENT)) * 255
        reds = []
        for step in range(4):
            picture.seek(step)
            bar = np.asarray(picture.convert("RGB"), dtype=float)[-6]
            reds.append(int((np.abs(bar - accent).max(-1) < 24).sum()))
    assert reds[0] == reds[1] == 0 < reds[2] < reds[3]


def test_gif_refuses(tmp_path):
    for options in ({"fps": 0}, {"fps": 60}, {"zoom": 0}, {"zoom": 1.5}):
        with pytest.raises(DataError):
            save_gif(tmp_path / "x.gif", images(2), **options)
    assert not list(tmp_path.iterdir())
