"""Inference with a trained network: predict, evaluate, explain, export. Read ``load.py`` first.
May import training, runs, data and augment."""
