"""Checks of a fit: labelled draws for ArviZ, convergence, calibration, plots."""

from pyro_seq.diagnostics.arviz import to_arviz
from pyro_seq.diagnostics.calibration import (
    CalibrationCurve,
    Uniformity,
    calibration_curve,
    guide_ranks,
    probability_integral_transform,
    rank_statistics,
    rank_uniformity,
    uniformity,
)
from pyro_seq.diagnostics.convergence import summary
from pyro_seq.diagnostics.field import field_at, rate_at
from pyro_seq.diagnostics.leave_out import steps_left_out
from pyro_seq.diagnostics.netcdf import load_netcdf, save_netcdf
from pyro_seq.diagnostics.plots import (
    frame_rows,
    plot_backtest,
    plot_calibration,
    plot_energy,
    plot_forecast_fan,
    plot_learning_curve,
    plot_phase_portrait,
    plot_ranks,
    plot_scores,
    plot_sequences,
    plot_trace,
    sample_rows,
    save_gif,
)

__all__ = [
    "CalibrationCurve",
    "Uniformity",
    "calibration_curve",
    "field_at",
    "frame_rows",
    "guide_ranks",
    "load_netcdf",
    "plot_backtest",
    "plot_calibration",
    "plot_energy",
    "plot_forecast_fan",
    "plot_learning_curve",
    "plot_phase_portrait",
    "plot_ranks",
    "plot_scores",
    "plot_sequences",
    "plot_trace",
    "probability_integral_transform",
    "rank_statistics",
    "rank_uniformity",
    "rate_at",
    "sample_rows",
    "save_gif",
    "save_netcdf",
    "steps_left_out",
    "summary",
    "to_arviz",
    "uniformity",
]
