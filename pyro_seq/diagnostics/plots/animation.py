"""``save_gif``: image sequences as an animation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pyro_seq._files import StrPath, replacing
from pyro_seq._style import ACCENT, MUTED
from pyro_seq.diagnostics.plots.images import as_rows, value_range
from pyro_seq.errors import DataError

_SMALLEST = 112  # pixels of a frame's shorter side, below which names do not fit
_GAP, _TITLE, _BAR = 8, 18, 5


def save_gif(
    path: StrPath,
    frames: Any,
    *,
    fps: float = 8.0,
    num_observed: int | None = None,
    limits: tuple[float, float] | None = None,
    zoom: int | None = None,
) -> Path:
    r"""Write an animation of several sequences side by side, with a time bar below.

    The bar is grey over the seen steps and red over the forecast. All rows share one colour scale, except ``spread``.
    An existing file is replaced only once the new one is complete. The GIF has no checksum, so alterations are not
    detected.

    Args:
        path: Path of the GIF; missing folders are created.
        frames: (time, \*image), or several by name, as for `plot_sequences`. Shorter ones are blank at the end.
        fps: Frames per second, up to 50.
        num_observed: Number of seen steps.
        limits: Values shown black and white; by default [0, 1] if it contains all numbers, otherwise their range.
        zoom: Integer magnification; by default the shorter side has at least 112 pixels.

    Returns:
        The path.

    Raises:
        ShapeError: When rows are not image sequences.
        DataError: When `fps` or `zoom` cannot be used.
    """
    if not 0 < fps <= 50:
        raise DataError(f"`fps` must lie between 0 and 50, the fastest that viewers show. Got {fps}.")
    rows = as_rows(frames)
    sizes = [images.shape[1:3] for images in rows.values()]
    zoom = -(-_SMALLEST // min(min(size) for size in sizes)) if zoom is None else zoom
    if zoom != int(zoom) or zoom < 1:
        raise DataError(f"`zoom` must be a whole number, 1 or more. Got {zoom}.")
    scaled = _scaled(rows, limits, int(zoom))
    length = max(len(images) for images in scaled.values())
    pictures = [_picture(scaled, step, length, num_observed) for step in range(length)]
    animation = {"save_all": True, "append_images": pictures[1:], "duration": round(1000 / fps), "loop": 0}
    with replacing(path) as draft:
        pictures[0].save(draft, format="GIF", disposal=1, **animation)
    return Path(path)


def _scaled(rows: dict[str, np.ndarray], limits: tuple[float, float] | None, zoom: int) -> dict[str, np.ndarray]:
    """Rows as bytes (time, height, width, 3), enlarged by repeating pixels."""
    shared = [name for name in rows if name != "spread"] or list(rows)
    common = value_range(rows, shared, limits)
    scaled = {}
    for name, images in rows.items():
        low, high = common if name in shared else (0.0, float(np.nanmax(images)) or 1.0)
        images = np.nan_to_num(np.clip((images - low) / (high - low), 0.0, 1.0), nan=0.9)
        images = (255 * images).round().astype(np.uint8)
        images = images if images.ndim == 4 else np.repeat(images[..., None], 3, -1)
        scaled[name] = images.repeat(zoom, 1).repeat(zoom, 2)
    return scaled


def _picture(rows: dict[str, np.ndarray], step: int, length: int, num_observed: int | None) -> Image.Image:
    """One picture of the animation, with its own colour palette."""
    title = _TITLE if any(rows) else 0
    width = sum(images.shape[2] for images in rows.values()) + _GAP * (len(rows) + 1)
    height = max(images.shape[1] for images in rows.values()) + title + _BAR + 2 * _GAP
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    left = _GAP
    for name, images in rows.items():
        if step < len(images):
            picture.paste(Image.fromarray(images[step]), (left, title + _GAP // 2))
        if name:
            draw.text((left, 2), name, fill="black", font=ImageFont.load_default(12))
        left += images.shape[2] + _GAP
    seen = length if num_observed is None else num_observed
    reached = _GAP + (width - 2 * _GAP) * (step + 1) / length
    border = _GAP + (width - 2 * _GAP) * min(seen, length) / length
    top, bottom = height - _BAR - _GAP // 2, height - _GAP // 2
    draw.rectangle((_GAP, top, width - _GAP, bottom), fill="#e3e5e8")
    draw.rectangle((_GAP, top, min(reached, border), bottom), fill=MUTED)
    if reached > border:
        draw.rectangle((border, top, reached, bottom), fill=ACCENT)
    return picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
