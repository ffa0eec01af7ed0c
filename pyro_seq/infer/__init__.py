"""Methods that fit a model, and verbs that read a fitted one."""
