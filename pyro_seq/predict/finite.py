"""Checks that predictions are finite, with errors that say where they are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from pyro_seq._nonfinite import is_about_numbers
from pyro_seq.data import Sequences
from pyro_seq.errors import NumericalError

_REMEDY = (
    "The model is unstable there: predict fewer steps, train it longer or with a lower `learning_rate`, or on longer "
    "series. If it was trained well, look whether `data` are in the units of training."
)


def require_finite(samples: Tensor, means: Tensor, times: Tensor) -> None:
    r"""Refuse predictions that are not finite; means may be NaN everywhere, for a distribution without a mean.

    Args:
        samples: Draws of observations (sample, series, time, \*obs).
        means: Means of the emission, same shape.
        times: Time stamps (time,) or (series, time).

    Raises:
        NumericalError: Naming the first time and series with a non-finite value.
    """
    _require_steps(samples, times, "draws")
    if not bool(means.isnan().all()):
        _require_steps(means, times, "means")


def require_finite_latents(latents: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]], data: Sequences) -> None:
    r"""Refuse latents that are not finite; an emission may hide them: the sigmoid of an infinite state is a pixel.

    Args:
        latents: Draws by name, (sample, series, \*event), or (sample, \*event) if all series share them.
        dims: Event axis names of each latent, as ``model.dims``; time, if any, comes first.
        data: The data of the prediction; a continuation ``<name>_future`` begins after its seen steps.

    Raises:
        NumericalError: Naming the latent and, if it has these axes, the series and the first time.
    """
    for name, values in latents.items():
        if bool(values.isfinite().all()):
            continue
        what, axes = f"draws of the latent `{name}`", tuple(dims.get(name.removesuffix("_future"), ()))
        if axes[:1] == ("time",) and values.ndim == 2 + len(axes):
            begin = data.num_steps if name.endswith("_future") else 0
            _require_steps(values, data.times[..., begin : begin + values.shape[2]], what)
        is_shared = values.ndim == 1 + len(axes)
        place = "" if is_shared else f"Those of series {int((~values.isfinite()).nonzero()[0, 1])} are not. "
        raise NumericalError(f"The {what} of a prediction must be finite. {place}{_REMEDY}")


def _require_steps(values: Tensor, times: Tensor, what: str) -> None:
    r"""Refuse `values` (sample, series, time, \*obs) at `times` that are not finite."""
    if bool(values.isfinite().all()):
        return
    bad = (~values.isfinite()).flatten(3).any(-1).any(0) if values.ndim > 3 else (~values.isfinite()).any(0)
    step, series = bad.mT.nonzero()[0].tolist()
    time = float(times.expand(len(bad), -1)[series, step])
    count = int(bad.any(1).sum())
    raise NumericalError(
        f"The {what} of a prediction must be finite. From time {time:g} on, those of series {series} are not, and in "
        f"the end those of {count} of {len(bad)} series. {_REMEDY}"
    )


@contextmanager
def about_numbers() -> Iterator[None]:
    """Turn errors of distributions and factorisations about non-finite numbers into a `NumericalError`."""
    try:
        yield
    except (ValueError, torch.linalg.LinAlgError) as error:
        if not is_about_numbers(error):
            raise
        reason = str(error).splitlines()[0].rstrip(".: ")
        raise NumericalError(f"A prediction met numbers that are not finite ({reason}). {_REMEDY}") from error
