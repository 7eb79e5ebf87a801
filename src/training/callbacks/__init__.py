"""What watches a run, saves it and stops it."""
