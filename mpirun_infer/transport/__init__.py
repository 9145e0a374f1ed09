"""Talks to other ranks; knows nothing of what messages mean."""
