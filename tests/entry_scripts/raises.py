"""Raises at every file with "bad" in its name, in a function of its own."""


def score(path):
    if "bad" in path:
        raise ValueError("cannot read " + path)
    return path


def run(mini_batch):
    return [score(path) for path in mini_batch]
