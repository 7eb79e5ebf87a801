"""Backbones: images to logits. Read ``layers.py`` first. May import only torch, and do not depend on training."""
