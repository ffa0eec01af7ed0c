"""Studies: one program a model, with the data, ablations and scores that its tables show; teaching is for examples."""
