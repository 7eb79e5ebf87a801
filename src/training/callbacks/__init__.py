"""Callbacks that monitor, save and stop a run. Read ``checkpoints.py`` first. Imports what ``src.training`` may."""
