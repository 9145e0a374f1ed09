"""Talks to the output file system: journal, rows, commit, lock, logs."""
