"""Components of a structural time series, to be added: ``Trend() + Seasonal(12)``. One idea a file."""

from pyro_seq.nn.components.autoregression import Autoregression
from pyro_seq.nn.components.component import Block, Component, Structure
from pyro_seq.nn.components.cycle import Cycle
from pyro_seq.nn.components.level import Constant, Level
from pyro_seq.nn.components.matern import Matern
from pyro_seq.nn.components.parameter import Parameter
from pyro_seq.nn.components.regression import Regression
from pyro_seq.nn.components.seasonal import Seasonal
from pyro_seq.nn.components.seasonal_dummies import SeasonalDummies
from pyro_seq.nn.components.trend import SmoothTrend, Trend

__all__ = [
    "Autoregression",
    "Block",
    "Component",
    "Constant",
    "Cycle",
    "Level",
    "Matern",
    "Parameter",
    "Regression",
    "Seasonal",
    "SeasonalDummies",
    "SmoothTrend",
    "Structure",
    "Trend",
]
