"""Neural networks, and the model components built from them."""
