"""init() always fails."""


def init():
    raise OSError("no model here")


def run(mini_batch):
    return mini_batch
