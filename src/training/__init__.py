"""Training: one run, from its configuration to its results. Read ``run.py`` first.
May import runs, data, augment and models."""
