"""From run folders to a table, statistics, figures and a report. Read ``table.py``, then ``effects.py`` first.
May import sweeps and runs, not training."""
