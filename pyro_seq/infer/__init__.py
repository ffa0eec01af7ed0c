"""Inference methods, which fit models, and the posteriors that they return."""
