"""What an incomplete manifest already holds, asked while all is listed again.

Owns the comparison of a new listing with an earlier one.
Touches: reads a manifest.
Never:   decides what becomes of what is new (`inputs.lister` does).
"""

from collections import Counter
from collections.abc import Iterator

from mpirun_infer.inputs import manifest
from mpirun_infer.inputs.listing import Unusable


class Known:
    """What an earlier manifest holds, asked in the order of a new listing.

    As long as the new listing says the same in the same order nothing is remembered. From the first
    difference on, the rest of the earlier items is held in memory.
    """

    def __init__(self, path: str | None, end_bytes: int) -> None:
        self._found = self._entries(path, end_bytes, unusable=False)
        self._lost = self._entries(path, end_bytes, unusable=True)
        self._next_found = next(self._found, None)
        self._next_lost = next(self._lost, None)
        self._found_rest: Counter[tuple[int, bytes]] | None = None
        self._lost_rest: Counter[tuple[int, bytes]] | None = None

    @staticmethod
    def _entries(
        path: str | None, end_bytes: int, *, unusable: bool
    ) -> Iterator[tuple[int, bytes]]:
        if path is None:
            return
        for entry in manifest.read(path, end_bytes=end_bytes):
            if isinstance(entry, Unusable):
                if unusable:
                    yield (entry.input_index, entry.path)
            elif not unusable:
                for item in entry.paths:
                    yield (entry.input_index, item)

    def new_of(self, index: int, paths: list[bytes]) -> list[bytes]:
        """Those that the earlier manifest does not hold."""
        if self._next_found is None and self._found_rest is None:
            return paths
        return [path for path in paths if not self._has(index, path)]

    def _has(self, index: int, path: bytes) -> bool:
        key = (index, path)
        if self._found_rest is None:
            if key == self._next_found:
                self._next_found = next(self._found, None)
                return True
            if self._next_found is None:
                return False
            self._found_rest = Counter(self._found)
            self._found_rest[self._next_found] += 1
            self._next_found = None
        return _struck_off(self._found_rest, key)

    def has_unusable(self, index: int, path: bytes) -> bool:
        """Whether the earlier manifest holds it as unusable."""
        key = (index, path)
        if self._lost_rest is None:
            if key == self._next_lost:
                self._next_lost = next(self._lost, None)
                return True
            if self._next_lost is None:
                return False
            self._lost_rest = Counter(self._lost)
            self._lost_rest[self._next_lost] += 1
            self._next_lost = None
        return _struck_off(self._lost_rest, key)


def _struck_off(rest: Counter[tuple[int, bytes]], key: tuple[int, bytes]) -> bool:
    left = rest.get(key, 0)
    if left > 1:
        rest[key] = left - 1
    elif left:
        del rest[key]
    return left > 0
