"""Benchmarks of this project against the usual alternatives. Read ``parts.py`` first. May import all other packages."""
