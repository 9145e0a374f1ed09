"""Talks to child processes, through the zygote."""
