"""One run on disk: its folder, checkpoints, identity and origin; what a stranger's may do. Imports no other room."""
