"""The guest house: programs run by path under other interpreters; imports nothing of ours."""
