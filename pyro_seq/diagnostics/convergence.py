"""``summary``: a table of a posterior, with convergence statistics if there are chains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_seq.diagnostics.arviz import chain_diagnostics
from pyro_seq.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_GUIDE_NOTE = (
    "Draws of a guide are independent: R-hat and effective sample sizes would say nothing about the fit. "
    "Use `calibration_curve` and `guide_ranks`."
)
_ONE_CHAIN_NOTE = "R-hat compares chains and needs two or more."


def summary(idata: Any, names: Sequence[str] | None = None, *, level: float = 0.9) -> pd.DataFrame:
    """Mean, standard deviation and central interval of every entry, and convergence statistics for MCMC.

    Trust an interval only if, with two or more chains, R-hat is below 1.01 and effective sample sizes are above 400
    (Vehtari et al. 2021). Statistics that would mislead are left out: both for draws of a guide, R-hat for a single
    chain; see ``table.attrs["note"]``.

    Args:
        idata: The result of `to_arviz`.
        names: Variables of the posterior; all by default. Large ones, such as weights, make long tables.
        level: Probability of the interval.

    Returns:
        One row per entry, named like ``initial[3, velocity_0]``; columns mean, sd, lower, upper, and for MCMC rhat,
        ess_bulk, ess_tail.

    Raises:
        DataError: When a name is unknown or `level` is not a probability.

    References:
        Vehtari, Gelman, Simpson, Carpenter, Burkner (2021), Rank-normalization, folding, and localization: an improved
        R-hat for assessing convergence of MCMC.
    """
    import pandas as pd  # slow to import and needed only here

    draws = select(idata, names)
    if not 0 < level < 1:
        raise DataError(f"`level` must lie between 0 and 1. Got {level}. For 90 % pass 0.9.")
    both = ["chain", "draw"]
    columns = {
        "mean": draws.mean(both),
        "sd": draws.std(both, ddof=1) if draws.sizes["chain"] * draws.sizes["draw"] > 1 else draws.std(both) * np.nan,
        "lower": draws.quantile((1 - level) / 2, both),
        "upper": draws.quantile((1 + level) / 2, both),
    }
    is_guide = draws.attrs.get("inference") == "guide"
    if not is_guide:
        columns |= chain_diagnostics(draws)
    index = [row for name in draws.data_vars for row in entry_names(draws[name])]
    table = {
        column: np.concatenate([np.ravel(figures[name].values) for name in draws.data_vars])
        for column, figures in columns.items()
    }
    result = pd.DataFrame(table, index=index)
    result.attrs["note"] = _GUIDE_NOTE if is_guide else "" if draws.sizes["chain"] > 1 else _ONE_CHAIN_NOTE
    return result


def select(idata: Any, names: Sequence[str] | None) -> xr.Dataset:
    """Variables of the posterior as one data set."""
    import xarray as xr

    draws = idata["posterior"]
    draws = draws.to_dataset() if isinstance(draws, xr.DataTree) else draws
    names = [str(name) for name in draws.data_vars] if names is None else names
    unknown = [name for name in names if name not in draws.data_vars]
    if isinstance(names, str) or unknown or not names:
        raise DataError(f"`names` must be a list of names among {sorted(draws.data_vars)}. Got {names!r}.")
    return draws[list(names)]


def entry_names(variable: xr.DataArray) -> list[str]:
    """A name for every entry of a variable, in the order of its flattened axes after chain and draw."""
    axes = [axis for axis in variable.dims if axis not in ("chain", "draw")]
    if not axes:
        return [str(variable.name)]
    labels = [
        variable.coords[axis].values if axis in variable.coords else np.arange(variable.sizes[axis]) for axis in axes
    ]
    grid = np.stack(
        [part.ravel() for part in np.meshgrid(*[label.astype(object) for label in labels], indexing="ij")], 1
    )
    return [f"{variable.name}[{', '.join(str(label) for label in row)}]" for row in grid]
