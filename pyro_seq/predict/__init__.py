"""Predictions of a fitted model (the verbs) and their scores."""
