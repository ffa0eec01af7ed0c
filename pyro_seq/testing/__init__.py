"""Check a model against the contract, and assertions for stochastic code."""

from pyro_seq.testing.assertions import assert_close_mc, assert_rng_untouched
from pyro_seq.testing.checks import CheckReport, CheckResult, ModelCheckError, check_model

__all__ = ["CheckReport", "CheckResult", "ModelCheckError", "assert_close_mc", "assert_rng_untouched", "check_model"]
