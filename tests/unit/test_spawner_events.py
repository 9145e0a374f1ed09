"""What the zygote says, as the rank reads it."""

import json

from mpirun_infer.supervise.spawner import Exited, SpawnFailed, Started, decode_event


def said(**event):
    """As `child.zygote` puts it on the wire."""
    return decode_event(json.dumps(event).encode("ascii"))


def test_every_event_is_read_with_all_that_it_holds():
    assert said(event="started", token=1, pid=7) == Started(1, 7)
    assert said(event="spawn_failed", token=1, error="no") == SpawnFailed(1, "no")
    ended = said(event="exited", token=1, pid=7, status=9, killed=[8, 9], left=[9])
    assert ended == Exited(1, 7, 9, [8, 9], [9])
