"""Distributions over whole paths, with time inside the event."""

from pyro_seq.distributions.ode_path import ODEPushForward
from pyro_seq.distributions.path import PathDistribution

__all__ = ["ODEPushForward", "PathDistribution"]
