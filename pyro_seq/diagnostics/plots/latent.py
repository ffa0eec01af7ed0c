"""``plot_phase_portrait``: paths of a latent differential equation and their vector field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pyro_seq._style import SERIES, as_numpy, new_figure, tidy
from pyro_seq.diagnostics.field import rate_at
from pyro_seq.errors import DataError
from pyro_seq.model import SequenceModel
from pyro_seq.nn.flow import Flow
from pyro_seq.posterior import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Plane(NamedTuple):
    """Two orthogonal directions (state,) in the space of states, with their names."""

    horizontal: Tensor
    vertical: Tensor
    names: tuple[str, str]


def plot_phase_portrait(
    model: SequenceModel,
    prediction: Prediction,
    *,
    components: Sequence[int] = (0, 1),
    is_principal: bool = True,
    series: Sequence[int] | None = None,
    num_paths: int = 10,
    num_points: int = 24,
    site: str = "path",
) -> Figure:
    """Latent paths of several series, one panel per component, over the learned vector field.

    For a second-order equation a panel shows velocity against position along one direction. Streamlines show the field
    averaged over draws, on a plane through the mean state of all paths: a slice, which paths far from it need not
    follow.

    Args:
        model: A model with a vector field and a flow, such as ODE2VAE.
        prediction: Result of a predictive verb, with the paths and the weights.
        components: Numbers of the directions: principal directions of the positions, or their coordinates. For a
            first-order equation each panel shows a component against the next.
        is_principal: Use the directions of largest variance; otherwise coordinates of the position.
        series: Which series to draw; the first six by default.
        num_paths: Samples per series, as thin lines; their mean is a thick line, with a dot at its start.
        num_points: Grid points of the field in each direction.
        site: The site with the paths.

    Returns:
        The figure, with one panel per component.

    Raises:
        UnsupportedError: When the model has no vector field.
        DataError: When the prediction has no paths or a number is out of range.
    """
    if site not in prediction.latents:
        raise DataError(f"`site` must be a path among the latents {sorted(prediction.latents)}. Got {site!r}.")
    paths = prediction.latents[site].detach()
    series = list(range(min(paths.shape[1], 6))) if series is None else list(series)
    if not series or min(series) < 0 or max(series) >= paths.shape[1]:
        raise DataError(f"`series` must lie between 0 and {paths.shape[1] - 1}. Got {series}.")
    centre = paths.reshape(-1, paths.shape[-1]).mean(0)
    planes = _planes(model, paths, components, is_principal)
    figure = new_figure(0.4 + 3.3 * len(planes), 3.3)
    for panel, plane in zip(figure.subplots(1, len(planes), squeeze=False)[0], planes, strict=True):
        tidy(panel, x=plane.names[0], y=plane.names[1], has_grid=False)
        origin = centre.new_tensor([centre @ plane.horizontal, centre @ plane.vertical])
        flat = torch.stack([paths @ plane.horizontal, paths @ plane.vertical], -1)[:, series]
        _draw_field(panel, model, prediction, plane, centre, origin, flat, num_points)
        for place in range(len(series)):
            _draw_paths(panel, flat[:, place], SERIES[place % len(SERIES)], num_paths)
    return figure


def _planes(model: Any, paths: Tensor, components: Sequence[int], is_principal: bool) -> list[_Plane]:
    flow: Flow | None = getattr(model, "flow", None)
    dim = paths.shape[-1] if flow is None else flow.dim
    order = 1 if flow is None else flow.order
    last = dim - 1 if order > 1 else dim - 2
    chosen = [int(component) for component in components if dim > 1 or component == 0]
    if not chosen or min(chosen) < 0 or max(chosen) > last:
        raise DataError(f"`components` must lie between 0 and {last}, for {dim} positions. Got {tuple(components)}.")
    directions = torch.eye(dim, dtype=paths.dtype, device=paths.device)
    if is_principal:
        directions = _principal_directions(paths[..., :dim].reshape(-1, dim))
    kind = "principal " if is_principal else ""

    def lift(direction: Tensor, block: int) -> Tensor:
        state = direction.new_zeros(order, dim)
        state[block] = direction
        return state.flatten()

    if order > 1:
        return [
            _Plane(lift(directions[k], 0), lift(directions[k], 1), (f"{kind}position {k}", f"{kind}velocity {k}"))
            for k in chosen
        ]
    return [
        _Plane(directions[k], directions[k + 1], (f"{kind}component {k}", f"{kind}component {k + 1}")) for k in chosen
    ]


def _principal_directions(points: Tensor) -> Tensor:
    """Orthonormal rows by decreasing variance, each with a positive largest entry, so that plots do not flip."""
    centred = points - points.mean(0)
    directions = torch.linalg.eigh(centred.mT @ centred).eigenvectors.mT.flip(0)
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return directions * largest.sign()


def _draw_field(
    panel: Axes,
    model: SequenceModel,
    prediction: Prediction,
    plane: _Plane,
    centre: Tensor,
    origin: Tensor,
    flat: Tensor,
    num_points: int,
) -> None:
    """Streamlines of the mean field over the bounding rectangle of the paths."""
    low, high = flat.reshape(-1, 2).amin(0), flat.reshape(-1, 2).amax(0)
    margin = 0.08 * (high - low).clamp(min=1e-6)
    axes = [torch.linspace(float(a), float(b), num_points) for a, b in zip(low - margin, high + margin, strict=True)]
    across, up = (part.to(centre) for part in torch.meshgrid(*axes, indexing="xy"))
    states = centre + (across - origin[0])[..., None] * plane.horizontal + (up - origin[1])[..., None] * plane.vertical
    rate = rate_at(model, prediction, states.reshape(-1, len(centre))).mean(0)
    right, upward = (as_numpy((rate @ direction).reshape(across.shape)) for direction in plane[:2])
    x, y = as_numpy(axes[0]), as_numpy(axes[1])
    panel.streamplot(x, y, right, upward, color="#cdd2d8", linewidth=0.7, arrowsize=0.7, density=1.1, zorder=1)
    panel.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))


def _draw_paths(panel: Axes, paths: Tensor, colour: str, num_paths: int) -> None:
    for path in as_numpy(paths[:num_paths]):
        panel.plot(*path.T, color=colour, linewidth=0.5, alpha=0.35, zorder=2)
    mean = as_numpy(paths.mean(0))
    panel.plot(*mean.T, color=colour, linewidth=1.6, zorder=3)
    panel.plot(*mean[0], color=colour, marker="o", markersize=4.5, markeredgecolor="white", zorder=4)
