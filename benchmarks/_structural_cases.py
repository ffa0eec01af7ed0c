"""The series of the benchmark of structural time series, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import pyro_seq as ps
from pyro_seq.nn.components import Seasonal, Structure, Trend

QUIET = ps.Trainer(progress=False, accelerator="cpu")
# monthly totals of international airline passengers, 1949 to 1960, in thousands (Box and Jenkins, 1976, series G)
PASSENGERS = """
112 118 132 129 121 135 148 148 136 119 104 118 115 126 141 135 125 149 170 170 158 133 114 140
145 150 178 163 172 178 199 199 184 162 146 166 171 180 193 181 183 218 230 242 209 191 172 194
196 196 236 235 229 243 264 272 237 211 180 201 204 188 235 227 234 264 302 293 259 229 203 229
242 233 267 269 270 315 364 347 312 274 237 278 284 277 317 313 318 374 413 405 355 306 271 306
315 301 356 348 355 422 465 467 404 347 305 336 340 318 362 348 363 435 491 505 404 359 310 337
360 342 406 396 420 472 548 559 463 407 362 405 417 391 419 461 472 535 622 606 508 461 390 432
"""


class Case(NamedTuple):
    """One series, what it is made of, the same for statsmodels, and how far ahead."""

    data: Callable[[], ps.Sequences]
    components: Structure
    options: dict
    horizon: int
    season: int


def co2() -> ps.Sequences:
    """Atmospheric CO2 at Mauna Loa, weekly from 1958 to 2001, in parts per million; missing weeks are hidden."""
    from statsmodels.datasets import co2

    return ps.Sequences(co2.load_pandas().data["co2"].to_numpy()[None, :, None])


def passengers() -> ps.Sequences:
    """The logarithm, in which growth and seasons add up."""
    return ps.Sequences(np.log(np.array(PASSENGERS.split(), dtype=np.float64))[None, :, None])


YEAR = 365.25 / 7
CASES = {
    "co2": Case(
        co2,
        Trend() + Seasonal(YEAR, harmonics=2),
        {"level": "lltrend", "freq_seasonal": [{"period": YEAR, "harmonics": 2}]},
        104,
        52,
    ),
    "passengers": Case(
        passengers,
        Trend() + Seasonal(12),
        {"level": "lltrend", "freq_seasonal": [{"period": 12}]},
        24,
        12,
    ),
}
