"""Networks and the parts of models that are made of them."""
