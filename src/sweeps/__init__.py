"""Sweeps: names of runs, launching, the state of every job, relaunching. Read ``jobs.py`` first.
May import runs, and ``data.content_hash``."""
