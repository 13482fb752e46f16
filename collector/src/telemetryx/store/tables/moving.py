"""A run on its way from batches into chunks: moved a few series at a time, so that no transaction is long however many there are.

Table `moving` says how far that has come: of the batches seq_first to seq_last of an epoch, what belongs to series up to `upto` is in chunks
(and rollups, or in `dirty`), and no longer counts as being in these batches. It changes in the transaction that moves, so a snapshot sees each
sample once, at any moment; and what was killed in between goes on from there (compaction.plan).

    who reads batches   leaves out series up to `upto` (reading.py); who reads commits by cursor takes them whole
    a window            counts as compacted when its batch is gone, or its series is moved (WAITS)
    at the end          all series are moved (ALL), then the batches go, then the entry
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from telemetryx.store.tables.database import Database

ALL: Final = 1 << 62
"""Behind every series: nothing of the batches counts any more."""

_SHIPPED: Final = 'EXISTS (SELECT 1 FROM batch WHERE batch.id = "window".batch_id)'
WAITS: Final = (
    f'{_SHIPPED} AND NOT EXISTS (SELECT 1 FROM moving WHERE moving.epoch_id = "window".epoch_id '
    'AND "window".seq BETWEEN moving.seq_first AND moving.seq_last AND "window".series_id <= moving.upto)'
)


@dataclass(frozen=True, slots=True)
class Move:
    """A run, and up to which series it is moved."""

    epoch: int
    first: int
    last: int
    upto: int


def moves(connection: Database) -> list[Move]:
    """Return the runs that are on their way: none, as a rule."""
    if not connection.moves_runs:
        return []
    return [
        Move(*row) for row in connection.execute("SELECT epoch_id, seq_first, seq_last, upto FROM moving")
    ]


def upto(found: Sequence[Move], epoch: int, seq: int) -> int:
    """Return up to which series a batch is moved; 0 for one that isn't on its way."""
    for one in found:
        if one.epoch == epoch and one.first <= seq <= one.last:
            return one.upto
    return 0


def waits(connection: Database) -> str:
    """Return the condition on a row of `window` that its batch isn't compacted yet."""
    return WAITS if moves(connection) else _SHIPPED
