"""From run folders to a table, statistics, figures and a page. Knows nothing of training. Imports sweeps, runs."""
