"""Simulated stays in intensive care: a table of mixed types, mostly missing, with known truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pyro_seq._arguments import real_number, require, whole_number
from pyro_seq.data import Labels, Sequences
from pyro_seq.datasets._arguments import part_sizes, streams
from pyro_seq.datasets._splits import Splits

_LENGTHS = np.array([24.0, 8.0, 12.0])  # hours over which illness, circulation and breathing change
_ADMISSION, _RECOVERY = 1.0, 16.0  # additional illness at admission, and the hours in which it fades
_ATTENTION = 0.5  # log odds of a measurement for each unit of illness
_STATIC = ("age", "is_male", "is_surgical", "is_cardiac")
_UNITS = (0.5, 0.3, 0.2)  # shares of medical, surgical and cardiac stays
_AGE, _AGE_SCALE, _AGES = 63.0, 16.0, (18.0, 95.0)


class _Entry(NamedTuple):
    """How one entry of an observation depends on the hidden processes and the covariates."""

    name: str
    kind: str  # "normal", "log-normal", "count", "yes or no", or "class"
    level: float
    loadings: tuple[float, float, float]  # on illness, circulation, breathing
    effects: tuple[float, float, float, float]  # of the covariates; age relative to its mean
    noise: float  # standard deviation; of the logarithm for "log-normal"
    attention: float  # log odds of a measurement relative to other entries


_ENTRIES = (
    _Entry("heart_rate", "normal", 88.0, (9.0, 9.0, 3.0), (-3.0, 0.0, 0.0, -3.0), 4.5, 1.2),  # a minute
    _Entry("pressure", "normal", 80.0, (-6.0, -9.0, 0.0), (2.0, 1.0, 0.0, -3.0), 4.0, 1.0),  # mean arterial, mmHg
    _Entry("temperature", "normal", 37.2, (0.5, 0.1, 0.15), (-0.1, 0.0, 0.0, 0.0), 0.2, 0.4),  # degrees Celsius
    _Entry("ph", "normal", 7.38, (-0.03, -0.01, -0.05), (0.0, 0.0, 0.005, 0.0), 0.018, -0.8),
    _Entry("lactate", "log-normal", 0.6, (0.45, 0.25, 0.0), (0.0, 0.0, 0.05, 0.1), 0.15, -1.2),  # mmol/l
    _Entry("platelets", "log-normal", 5.2, (-0.3, 0.0, -0.05), (-0.05, -0.05, -0.1, 0.0), 0.1, -1.5),  # 1000/microlitre
    _Entry("urine_events", "count", 1.2, (-0.35, -0.35, 0.0), (-0.1, 0.0, 0.0, 0.0), 0.0, 0.0),
    _Entry("is_ventilated", "yes or no", -0.6, (1.2, 0.0, 1.6), (0.1, 0.0, 0.8, 0.3), 0.0, 0.4),
    _Entry("rhythm_sinus", "class", 0.0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), 0.0, 0.0),
    _Entry("rhythm_fibrillation", "class", -1.8, (0.6, 1.8, 0.0), (0.7, 0.0, 0.0, 1.0), 0.0, 0.0),
    _Entry("rhythm_paced", "class", -3.0, (0.0, -0.8, 0.0), (0.5, 0.3, 0.0, 2.0), 0.0, 0.0),
)
_KINDS = np.array([entry.kind for entry in _ENTRIES])
_ONE_CLASS = np.flatnonzero(_KINDS == "class")


def intensive_care_stays(
    *,
    num_train: int = 400,
    num_validation: int = 100,
    num_test: int = 100,
    num_steps: int = 48,
    duration: float = 48.0,
    missing: float = 0.7,
    seed: int = 0,
) -> Splits:
    r"""Simulated stays in intensive care: nine variables of five types in clinical units, most entries missing.

    Three hidden processes, illness, circulation and breathing, are independent Gaussian processes of variance 1 with
    Matérn kernels of smoothness 3/2, over 24, 8 and 12 hours; illness is 1 higher at admission, which fades within 16
    hours. With covariates :math:`c` of the stay each variable depends on

    .. math:: \eta_v(t) = \ell_v + \lambda_v^\top z(t) + \beta_v^\top c

    as follows, and given the processes all measurements are independent:

    * heart rate (1/min), mean pressure (mmHg), temperature (degrees Celsius) and pH: :math:`N(\eta_v, \sigma_v^2)`;
    * lactate (mmol/l) and platelets (1000/microlitre): :math:`\exp N(\eta_v, \sigma_v^2)`;
    * events of urine: Poisson, of rate :math:`e^{\eta_v}`;
    * ventilation: yes with probability :math:`1 / (1 + e^{-\eta_v})`;
    * rhythm (sinus, fibrillation or paced): a class with probabilities softmax :math:`\eta_v`.

    Each stay has separate times, uniform over its duration. Vital signs are measured often and laboratory values
    rarely, and sicker patients more often: the log odds rise by 1/2 per unit of illness. So gaps are informative, as in
    a hospital, but add little given the observed values.

    Args:
        num_train: Number of training stays.
        num_validation: Number of validation stays; 0 makes this part None.
        num_test: Number of test stays.
        num_steps: Times per stay.
        duration: Upper limit of the times, in hours.
        missing: Expected share of the entries that are not measured, above 0 and below 1.
        seed: Each part has separate random streams, so that it does not depend on the sizes of the others.

    Returns:
        Splits with values (series, time, 11), single precision, the rhythm as three one-hot entries, and static
        covariates age, sex and type of unit, all with names. ``train.to_dataframe()`` is the table. The context holds
        `whole`, the values without gaps, `truth`, their means given the processes (probabilities for yes-or-no entries
        and classes), (series, time, 11) each, and the `processes` (series, time, 3).

    Raises:
        DataError: When an argument is out of range.

    Example:
        >>> train, _, _ = intensive_care_stays(num_train=8)
        >>> train.labels.variables[:3]
        ('heart_rate', 'pressure', 'temperature')
    """
    sizes, num_steps = part_sizes(num_train, num_validation, num_test), whole_number(num_steps, "num_steps", 1)
    duration = real_number(duration, "duration", 1e-9)
    require(0 < real_number(missing, "missing", 0.0, 1.0) < 1, "missing", "a share above 0 and below 1", missing)
    level = _attention_level(duration, missing)

    def part(num_series: int, rng: np.random.Generator) -> Sequences:
        times = np.sort(rng.uniform(0.0, duration, (num_series, num_steps)), axis=1)
        static = _covariates(num_series, rng)
        processes = _processes(times, rng)
        truth, whole = _measured(processes, static, rng)
        odds = level + np.array([entry.attention for entry in _ENTRIES]) + _ATTENTION * processes[..., :1]
        mask = rng.uniform(size=truth.shape) < _sigmoid(odds)
        mask[..., _ONE_CLASS] = mask[..., _ONE_CLASS[:1]]  # a class is measured as a whole
        context = {"whole": whole, "truth": truth, "processes": processes}
        return Sequences(
            torch.from_numpy(whole).float(),
            mask=torch.from_numpy(mask),
            times=torch.from_numpy(times),
            static=torch.from_numpy(static).float(),
            context={name: torch.from_numpy(extra).float() for name, extra in context.items()},
            labels=Labels(variables=[entry.name for entry in _ENTRIES], static=_STATIC),
        )

    train, validation, test = zip(sizes, streams(seed, len(sizes)), strict=True)
    return Splits(part(*train), part(*validation) if num_validation else None, part(*test))


def _covariates(num_series: int, rng: np.random.Generator) -> np.ndarray:
    """Age, and indicators of male sex and of a surgical or cardiac unit, (series, covariate)."""
    age = rng.normal(_AGE, _AGE_SCALE, num_series).clip(*_AGES).round()
    is_male = rng.uniform(size=num_series) < 0.57
    unit = rng.choice(len(_UNITS), num_series, p=_UNITS)
    return np.stack([age, is_male, unit == 1, unit == 2], -1).astype(float)


def _processes(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws of the hidden processes (series, time, process) at given times (series, time)."""
    lags = np.sqrt(3) * np.abs(times[:, None, :, None] - times[:, None, None, :]) / _LENGTHS[:, None, None]
    covariance = (1 + lags) * np.exp(-lags) + 1e-9 * np.eye(times.shape[1])
    noise = rng.normal(size=(*covariance.shape[:3], 1))
    processes = np.moveaxis((np.linalg.cholesky(covariance) @ noise)[..., 0], 1, 2)
    processes[..., 0] += _admission(times)
    return processes


def _admission(times: np.ndarray) -> np.ndarray:
    """Expected illness at given times."""
    return _ADMISSION * np.exp(-times / _RECOVERY)


def _measured(processes: np.ndarray, static: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Means given the processes, and noisy measured values, (series, time, entry) each."""
    level, loadings, effects, scale = (
        np.array([getattr(entry, field) for entry in _ENTRIES]) for field in ("level", "loadings", "effects", "noise")
    )
    covariates = np.concatenate([(static[:, :1] - _AGE) / _AGE_SCALE, static[:, 1:]], -1)
    eta = level + processes @ loadings.T + (covariates @ effects.T)[:, None]
    noisy = eta + scale * rng.normal(size=eta.shape)
    truth, whole = eta.copy(), noisy.copy()
    is_log, is_count, is_yes, is_class = (
        np.equal(_KINDS, kind) for kind in ("log-normal", "count", "yes or no", "class")
    )
    truth[..., is_log], whole[..., is_log] = np.exp(eta + scale**2 / 2)[..., is_log], np.exp(noisy[..., is_log])
    truth[..., is_count] = np.exp(eta[..., is_count])
    whole[..., is_count] = rng.poisson(truth[..., is_count])
    truth[..., is_yes] = _sigmoid(eta[..., is_yes])
    whole[..., is_yes] = rng.uniform(size=truth[..., is_yes].shape) < truth[..., is_yes]
    weights = np.exp(eta[..., is_class])
    truth[..., is_class] = weights / weights.sum(-1, keepdims=True)
    drawn = rng.uniform(size=(*eta.shape[:2], 1)) > truth[..., is_class].cumsum(-1)[..., :-1]
    whole[..., is_class] = np.eye(len(_ONE_CLASS))[drawn.sum(-1)]
    return truth, whole


def _attention_level(duration: float, missing: float) -> float:
    """Log odds of a measurement that give the wanted missing share, on average over stays and entries."""
    from scipy.optimize import brentq  # slow to import and needed only here

    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    illness = nodes[:, None] + _admission(np.linspace(0.0, duration, 49))
    odds = _ATTENTION * illness[..., None] + np.array([entry.attention for entry in _ENTRIES])
    expected = weights / weights.sum()
    return brentq(lambda level: expected @ _sigmoid(level + odds).mean((1, 2)) - (1 - missing), -50.0, 50.0)


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    """Probabilities from log odds."""
    return 1 / (1 + np.exp(-odds))
