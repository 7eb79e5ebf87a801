"""Where images come from, and how batches leave. Imports augment, runs."""
