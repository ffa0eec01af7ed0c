"""Distributions over whole paths, with time inside the event."""

from pyro_seq.distributions.path import PathDistribution

__all__ = ["PathDistribution"]
