"""Data: image sources, splits, and batches for training and inference. Read ``datamodule.py`` first.
May import augment and runs."""
