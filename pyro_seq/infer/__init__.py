"""Methods of inference: how a model is fitted, and the posteriors that they leave."""
