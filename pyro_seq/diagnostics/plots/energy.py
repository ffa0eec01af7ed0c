"""``plot_energy``: a density of latents over a plane, and draws on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_seq._style import SERIES, add_legend, as_numpy, new_figure, tidy
from pyro_seq.errors import DataError, ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SPAN = 15.0  # range of the colours, in nats above the lowest energy
_MARGIN = 0.1  # of the range of the draws, around them


def plot_energy(
    potential: Callable[[Tensor], Tensor],
    draws: Mapping[str, Tensor],
    *,
    components: tuple[int, int] = (0, 1),
    is_principal: bool = True,
    num_points: int = 80,
    max_draws: int = 500,
) -> Figure:
    r"""Energy landscape over two directions of the latent space, with draws projected onto it.

    The landscape is a slice through the mean of the first draws: other coordinates are fixed there, so draws far from
    the plane may appear on a slope. Energies are in nats above the minimum of the slice; 15 and more look alike. For a
    well-learned prior, prior chains gather where posterior draws do.

    Args:
        potential: Energy of vectors (point, dim), such as ``lambda z: -model.prior(data).tilted(z)``.
        draws: Vectors (..., dim) by name, such as posterior draws and prior chains; the first entry determines the
            directions.
        components: Numbers of the two directions: principal directions of the first draws, or coordinates.
        is_principal: Use the directions of largest variance; otherwise coordinates.
        num_points: Grid points of the landscape in each direction.
        max_draws: Largest number of points of each kind, evenly chosen.

    Returns:
        The figure: the landscape with the draws.

    Raises:
        ShapeError: When draws are not vectors of one size.
        DataError: When there are none, or a component does not exist.

    Example:
        >>> figure = plot_energy(lambda z: 0.5 * z.square().sum(-1), {"normal": torch.randn(50, 3)})  # doctest: +SKIP
    """
    flat = _vectors(draws)
    first = next(iter(flat.values()))
    dim = first.shape[-1]
    if len(set(components)) != 2 or not all(0 <= component < dim for component in components):
        raise DataError(f"`components` must be two different numbers from 0 to {dim - 1}. Got {components}.")
    centre = first.mean(0)
    directions = torch.linalg.svd(first - centre).Vh if is_principal else torch.eye(dim).to(first)
    plane = directions[list(components)]
    # coordinates are shown unchanged, principal components relative to their mean
    origin = centre if is_principal else centre - plane.T @ (plane @ centre)
    flat = {name: ((values - origin) @ plane.T) for name, values in flat.items()}
    across, up, energy = _landscape(potential, origin, plane, torch.cat(list(flat.values())), num_points)
    figure = new_figure(5.0, 4.0)
    name = "principal direction" if is_principal else "entry"
    panel = tidy(figure.subplots(), x=f"{name} {components[0]}", y=f"{name} {components[1]}", has_grid=False)
    levels = np.linspace(0.0, _SPAN, 16)
    filled = panel.contourf(across, up, np.minimum(energy, _SPAN), levels=levels, cmap="Greys_r", alpha=0.7)
    bar = figure.colorbar(filled, ax=panel, ticks=[0, 5, 10, 15])
    bar.set_label("energy above the lowest (nats)", fontsize=8)
    bar.ax.tick_params(labelsize=7, length=2)
    for place, (label, points) in enumerate(flat.items()):
        chosen = np.linspace(0, len(points) - 1, min(len(points), max_draws)).round().astype(int)
        colour = SERIES[place % len(SERIES)]
        panel.plot(*as_numpy(points)[chosen].T, ".", color=colour, markersize=3, alpha=0.7, label=label)
    add_legend(panel, markerscale=2)
    return figure


def _vectors(draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(draws, Mapping) or not draws:
        raise DataError(f"`draws` must be vectors by name, one kind at least. Got {type(draws).__name__}.")
    flat = {name: values.detach().reshape(-1, values.shape[-1]) for name, values in draws.items()}
    sizes = {name: tuple(values.shape) for name, values in flat.items()}
    if len({size[-1] for size in sizes.values()}) > 1 or min(size[0] for size in sizes.values()) < 2:
        raise ShapeError(f"`draws` must be two vectors or more of each kind, all of one size. Got {sizes}.")
    return flat


@torch.no_grad()
def _landscape(
    potential: Callable[[Tensor], Tensor], origin: Tensor, plane: Tensor, points: Tensor, num_points: int
) -> tuple[Any, Any, np.ndarray]:
    """Grid over the bounding rectangle of the points, and energies above their minimum on it."""
    low, high = points.amin(0), points.amax(0)
    margin = _MARGIN * (high - low).clamp(min=1e-6)
    sides = [torch.linspace(float(a), float(b), num_points) for a, b in zip(low - margin, high + margin, strict=True)]
    across, up = torch.meshgrid(*sides, indexing="xy")
    grid = torch.stack([across, up], -1).reshape(-1, 2).to(origin)
    energy = as_numpy(potential(origin + grid @ plane)).reshape(num_points, num_points)
    return across.numpy(), up.numpy(), energy - np.nanmin(energy)
