"""``check_model``: check any model against the rules that the verbs and methods rely on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, PyroSeqError
from pyro_seq.model import SequenceModel
from pyro_seq.testing import densities, predictions, structure, training
from pyro_seq.testing.case import Case, CheckFailed, NotApplicable
from pyro_seq.testing.lent_guide import lend_guide

Check = Callable[[Case], None]

CHECKS: tuple[Check, ...] = (
    structure.sites_match,
    structure.x_is_observed,
    structure.series_is_the_only_plate,
    structure.dims_name_every_latent,
    structure.terms_are_unweighted,
    structure.guide_ignores_the_horizon,
    structure.randomness_lives_in_sites,
    densities.hidden_steps_are_ignored,
    densities.hidden_entries_are_ignored,
    densities.unseen_series_is_finite,
    densities.hiding_equals_cutting,
    densities.series_are_independent,
    densities.minibatches_partition,
    densities.draws_vectorise,
    densities.shared_times_equal_repeated,
    densities.horizon_continues_the_series,
    predictions.forecasts_have_the_horizon,
    predictions.longer_horizons_keep_the_beginning,
    predictions.imputation_keeps_the_seen,
    predictions.prior_can_be_sampled,
    predictions.dtype_follows_the_data,
    predictions.device_follows_the_data,
    predictions.seeds_decide_the_draw,
    predictions.no_global_state_is_touched,
    predictions.errors_name_the_argument,
    training.parameters_get_gradients,
    training.training_lowers_the_objective,
    training.plain_pyro_trains,
    training.plain_pyro_predicts,
    training.state_dict_is_complete,
)
SLOW_CHECKS: tuple[Check, ...] = (densities.density_matches_sampler,)

_FEWEST_SERIES, _FEWEST_STEPS = 3, 4
_LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check.

    Attributes:
        name: Name of the check, which states what must hold.
        status: ``"passed"``, ``"failed"`` or ``"not applicable"``.
        reason: Why it failed or does not apply, with a remedy.
    """

    name: str
    status: str
    reason: str = ""


@dataclass(frozen=True)
class CheckReport:
    """Outcomes of all checks, in the order they ran; prints as a table."""

    results: tuple[CheckResult, ...]

    def names(self, status: str) -> tuple[str, ...]:
        """Names of the checks that ended with `status`."""
        return tuple(result.name for result in self.results if result.status == status)

    def __str__(self) -> str:
        width = max(len(result.name) for result in self.results)
        return "\n".join(f"{r.name:<{width}}  {r.status}{': ' if r.reason else ''}{r.reason}" for r in self.results)


class ModelCheckError(PyroSeqError, AssertionError):
    """A model breaks rules of the contract; `report` has the outcome of every check."""

    def __init__(self, model_name: str, report: CheckReport) -> None:
        failed = [result for result in report.results if result.status == "failed"]
        lines = [f"{model_name} fails {len(failed)} of {len(report.results)} checks."]
        names: dict[str, list[str]] = {}
        for result in failed:  # one mistake may make many checks fail in the same way
            names.setdefault(result.reason, []).append(result.name)
        super().__init__("\n".join(lines + [f"* {', '.join(same)}: {reason}" for reason, same in names.items()]))
        self.report = report


def check_model(
    model: SequenceModel,
    data: Sequences,
    *,
    seed: int = 0,
    only: Collection[str] | None = None,
    slow: bool = False,
) -> CheckReport:
    """Check a model against the rules that every verb and method relies on.

    Each check is one function in `pyro_seq.testing`, and its docstring states the property that it tests. All run on
    copies of the model, adapted to `data`; exact properties are tested in double precision. A model declares missing
    abilities, such as sampling without seen frames, by class attributes, and the report lists them. A model without a
    guide gets a temporary one that draws noise, so that the rest can be checked.

    Cost: about a hundred evaluations of the objective. Use small parts and a few short series.

    Args:
        model: The model, initialised but not necessarily trained.
        data: At least 3 series of at least 4 steps, all different, without a horizon.
        seed: Seed of all draws.
        only: Names of checks to run; all by default.
        slow: Also test that the model's density is that of its sampler, on simulated series.

    Returns:
        The outcome of each check.

    Raises:
        ModelCheckError: When a check fails; names each failed check, the reason and a remedy.
        DataError: When there are too few `data`, or `only` names an unknown check.

    Example:
        >>> report = check_model(model, data)  # doctest: +SKIP
        >>> report.names("failed")  # doctest: +SKIP
        ()
    """
    if data.num_series < _FEWEST_SERIES or data.num_steps < _FEWEST_STEPS or data.horizon or data.total != len(data):
        raise DataError(
            f"`data` must be a whole data set of at least {_FEWEST_SERIES} series and {_FEWEST_STEPS} steps without a "
            f"horizon. Got {data!r}."
        )
    checks = CHECKS + SLOW_CHECKS if slow or only else CHECKS
    unknown = set(only or ()) - {check.__name__ for check in checks}
    if unknown:
        raise DataError(f"`only` must name checks. Got {sorted(unknown)}; there are {[c.__name__ for c in checks]}.")
    model.check(data)
    adapted = copy.deepcopy(model)
    adapted.adapt(data)
    if not adapted.has_guide:
        lend_guide(adapted, data)
    case = Case(adapted.eval(), data, seed)
    report = CheckReport(tuple(_run(check, case) for check in checks if only is None or check.__name__ in only))
    if report.names("failed"):
        raise ModelCheckError(type(model).__name__, report)
    return report


def _run(check: Check, case: Case) -> CheckResult:
    name = check.__name__
    try:
        check(case.copy())
    except NotApplicable as reason:
        return CheckResult(name, "not applicable", str(reason))
    except CheckFailed as reason:
        return CheckResult(name, "failed", str(reason))
    except Exception as error:
        text = str(error).partition("\n")[0]
        return CheckResult(name, "failed", f"It raised {type(error).__name__}: {text[:_LONGEST_MESSAGE]}")
    return CheckResult(name, "passed")
