"""Training: any objective, step by step, with its files, schedules and views; it knows no method."""
