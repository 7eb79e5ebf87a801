"""Inference with a trained network: predict, evaluate, explain, export. Read ``load.py`` first.
May import training, sweeps, runs, data, augment and models."""
