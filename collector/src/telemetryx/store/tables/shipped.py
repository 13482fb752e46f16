"""Batches as shipped that were read lately, opened: a page of charts asks for many series of the same newest batches, again and again.

What is kept is the payload out of its compression, from which any series is decoded alone (wire/parts.py); a batch that is here
isn't fetched again. Which batches there are, every query reads from its own snapshot: a batch never changes, it only goes.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from telemetryx.errors import StoreDamaged, WireError
from telemetryx.store.tables.database import Database
from telemetryx.wire import parts

KEPT_BYTES: Final = 16 << 20
AT_ONCE: Final = 8
"""Payloads that are fetched together."""


class Key(NamedTuple):
    """Names a batch: its row, and what would differ if the database were put back and the row's number given anew."""

    row_id: int
    epoch: int
    seq: int
    received_ns: int


class Opened:
    """The opened batches of one process's readers, as many as fit into some bytes."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        """Keep nothing yet."""
        self._most = most
        self._bytes = 0
        self._kept: OrderedDict[Key, tuple[int, parts.Samples]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count what is kept."""
        return len(self._kept)

    def read(self, connection: Database, keys: Sequence[Key]) -> Iterator[tuple[Key, parts.Samples]]:
        """Give these batches, each once and in any order; those that aren't kept are fetched. Inside a snapshot that has them."""
        missing: list[Key] = []
        for key in keys:
            found = self._get(key)
            if found is None:
                missing.append(key)
            else:
                yield key, found
        for start in range(0, len(missing), AT_ONCE):
            wanted = {key.row_id: key for key in missing[start : start + AT_ONCE]}
            marks = ",".join("?" * len(wanted))
            for row_id, payload in connection.execute(
                f"SELECT id, payload FROM batch WHERE id IN ({marks})", list(wanted)
            ):
                opened = _opened(row_id, payload)
                self._put(wanted[row_id], opened)
                yield wanted[row_id], opened

    def _get(self, key: Key) -> parts.Samples | None:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[1]

    def _put(self, key: Key, opened: parts.Samples) -> None:
        size = opened.nbytes
        with self._lock:
            if key in self._kept or size > self._most // 4:
                return  # another reader was faster, or one batch would push out all the others
            self._kept[key] = (size, opened)
            self._bytes += size
            while self._bytes > self._most:
                _, (gone, _) = self._kept.popitem(last=False)
                self._bytes -= gone


def _opened(row_id: int, payload: bytes) -> parts.Samples:
    try:
        return parts.samples(payload)
    except WireError as error:
        raise damaged(row_id, error) from error


def damaged(row_id: int, error: WireError) -> StoreDamaged:
    """Say that a stored payload isn't what came."""
    return StoreDamaged(
        f"batch row {row_id} can't be decoded any more: {error}; run `telemetryx store verify`"
    )
