"""What a run does; ``run.py`` is the one screen to read first. Imports runs, data, augment, models."""
