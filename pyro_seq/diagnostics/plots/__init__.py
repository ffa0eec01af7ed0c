"""Figures and animations. Every function returns a new figure and does not use pyplot."""

from pyro_seq.diagnostics.plots.animation import save_gif
from pyro_seq.diagnostics.plots.backtest import plot_backtest
from pyro_seq.diagnostics.plots.calibration import plot_calibration, plot_ranks
from pyro_seq.diagnostics.plots.energy import plot_energy
from pyro_seq.diagnostics.plots.forecasts import plot_forecast_fan
from pyro_seq.diagnostics.plots.images import frame_rows, sample_rows
from pyro_seq.diagnostics.plots.latent import plot_phase_portrait
from pyro_seq.diagnostics.plots.scores import plot_scores
from pyro_seq.diagnostics.plots.sequences import plot_sequences
from pyro_seq.diagnostics.plots.traces import plot_trace
from pyro_seq.diagnostics.plots.training import plot_learning_curve

__all__ = [
    "frame_rows",
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
    "sample_rows",
    "save_gif",
]
