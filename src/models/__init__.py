"""Backbones: images to logits. Know nothing of training. Import torch only."""
