"""What a fitted model says: the predictive verbs, and their scores."""
