"""The report as HTML and Markdown. Read ``contents.py`` first. Imports what ``src.analysis`` may."""
