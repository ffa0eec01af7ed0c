"""Requirements of a structure on data: inputs, enough entries to determine its start, and whole steps."""

from __future__ import annotations

from torch import Tensor

from pyro_seq._host import on_host
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.components.component import Structure


def require_inputs(structure: Structure, data: Sequences) -> None:
    """Refuse data whose number of inputs is not the one that the components read.

    Raises:
        ShapeError: With both numbers.
    """
    wanted = sum(part.num_inputs for part in structure.components)
    size = 0 if data.inputs is None else data.inputs.shape[-1]
    if size != wanted:
        raise ShapeError(
            f"`data.inputs` must have {wanted} entries a step, as many as the components read. Got {size}. Pass "
            f"them to `Sequences(..., inputs=...)`, or name their number: `Regression({size or 1})`."
        )


def require_entries(structure: Structure, data: Sequences) -> None:
    """Refuse series with fewer entries than states with an unknown start.

    Raises:
        DataError: With the first such series.
    """
    unknown = sum(part.state_dim for part in structure.components if not part.is_stationary)
    seen = data.entry_mask.flatten(1).sum(-1)
    if bool((seen < unknown).any()):
        series = int(seen.argmin())
        raise DataError(
            f"`data` must have at least {unknown} observed entries in each series, as many as there are states of "
            f"unknown start. Got {int(seen[series])} in series {series}. Observe more, leave such series out, or "
            "use fewer components or harmonics."
        )


def require_whole_steps(structure: Structure, times: Tensor, step: Tensor, tolerance: float) -> None:
    """Refuse gaps that are not a whole number of steps if a component needs whole steps.

    Args:
        structure: The components.
        times: Time stamps, (time,) or (series, time).
        step: Length of a step.
        tolerance: Tolerance of the gaps, as a share of a step.

    Raises:
        DataError: With the first such gap, and the remedy.
    """
    strict = [part for part in structure.components if part.has_whole_steps]
    gaps = on_host(times).diff(dim=-1) / on_host(step)
    off = (gaps - gaps.round().clamp(min=1)).abs()
    if strict and bool((off > tolerance).any()):
        raise DataError(
            f"`data.times` must have gaps of whole steps of {float(step):g} for {type(strict[0]).__name__}. Got a gap "
            f"of {float(gaps.flatten()[off.argmax()]):g} steps. Name the step that they share, "
            "`StructuralSeries(..., step=...)`, put months on a grid by `Sequences.from_dataframe(..., freq='MS')`, or "
            "take components for gaps of any length: `Level`, `SmoothTrend`, `Seasonal` with fewer harmonics, `Cycle`."
        )
