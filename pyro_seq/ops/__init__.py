"""Numerical routines: tensors in, tensors out, without Pyro and without modules. Import each from its own file."""
