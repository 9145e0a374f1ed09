"""Talks to the input file system: listing, manifest, mini-batches."""
