"""One run on disk: folder, checkpoints, identity, provenance, and checks of untrusted files. Read ``folder.py`` first.
Imports no other package of ``src``."""
