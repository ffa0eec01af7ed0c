"""Kernels tuned to one version of torch."""
