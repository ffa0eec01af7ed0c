"""Deep latent dynamical models for sequences, in Pyro."""
