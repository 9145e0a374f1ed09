"""The hash that tells whether an entry script has changed; the runner computes the same one.

Owns nothing but the door to `child.fingerprint`.
Touches: the entry script's folder, read only.
Never:   decides what a change means.
"""

from mpirun_infer.child.fingerprint import source_hash as _source_hash


def source_hash(script: str, source_directory: str | None) -> str:
    """SHA-256 in hex over the script and its source_directory."""
    return _source_hash(script, source_directory)
