"""A trained network at work: load, predict, evaluate, explain, export. Imports training, runs, data, augment."""
