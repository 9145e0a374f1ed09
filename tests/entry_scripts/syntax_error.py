"""Is not Python."""

def run(mini_batch)
    return mini_batch
