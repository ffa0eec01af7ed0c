"""Training of any objective, step by step, with files, schedules and views; independent of the method."""
