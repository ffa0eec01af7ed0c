"""Numerical routines from tensors to tensors, without Pyro and modules. Import each from its file."""
