"""Components of a structural time series, summed as in ``Trend() + Seasonal(12)``; noise; parameter sharing."""

from pyro_seq.nn.components.autoregression import Autoregression
from pyro_seq.nn.components.component import Block, Component, Structure
from pyro_seq.nn.components.cycle import Cycle
from pyro_seq.nn.components.level import Constant, Level
from pyro_seq.nn.components.matern import Matern
from pyro_seq.nn.components.noise import GaussianNoise, Noise, StudentTNoise
from pyro_seq.nn.components.parameter import Parameter
from pyro_seq.nn.components.regression import Regression
from pyro_seq.nn.components.seasonal import Seasonal
from pyro_seq.nn.components.seasonal_dummies import SeasonalDummies
from pyro_seq.nn.components.sharing import Hierarchical, PerSeries, Shared, Sharing
from pyro_seq.nn.components.trend import SmoothTrend, Trend

__all__ = [
    "Autoregression",
    "Block",
    "Component",
    "Constant",
    "Cycle",
    "GaussianNoise",
    "Hierarchical",
    "Level",
    "Matern",
    "Noise",
    "Parameter",
    "PerSeries",
    "Regression",
    "Seasonal",
    "SeasonalDummies",
    "Shared",
    "Sharing",
    "SmoothTrend",
    "Structure",
    "StudentTNoise",
    "Trend",
]
