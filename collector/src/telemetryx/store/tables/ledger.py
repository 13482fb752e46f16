"""The dedup ledger: which seqs of which epoch are stored. Exactly once rests on this file and nothing else.

A seq is entered in the transaction that stores its data, so the two can't disagree. Ranges are inclusive, never touch and
never overlap: rows of `ledger` are the shortest form of the set. Nothing here is cached: SQLite's pages are the cache,
and a rolled back transaction leaves nothing behind.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from telemetryx.store.tables.database import Database
from telemetryx.types import Holding

CHECKSUMS: Final = 10_000
"""So many of the newest of each epoch are kept."""
_SLACK: Final = 1_000
"""They are cut in steps of this size."""


_NEXT: Final = (
    "UPDATE ledger SET last = ?1 WHERE epoch_id = ?2 AND last = ?1 - 1 AND first = "
    "(SELECT first FROM ledger WHERE epoch_id = ?2 AND first <= ?1 ORDER BY first DESC LIMIT 1) "
    "AND NOT EXISTS (SELECT 1 FROM ledger WHERE epoch_id = ?2 AND first = ?1 + 1)"
)
"""The seq that most often comes: the one after a range, with none right behind it."""


def agent_id(connection: Database, name: str, now_ns: int) -> int:
    """Return the agent's id, entering it when it is new."""
    row = connection.execute("SELECT id FROM agent WHERE name = ?", (name,)).fetchone()
    if row is None:
        row = connection.execute(
            "INSERT INTO agent (name, first_seen_ns, last_seen_ns) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET last_seen_ns = agent.last_seen_ns RETURNING id",
            (name, now_ns, now_ns),
        ).fetchone()
    return int(row[0])


def epoch_id(connection: Database, agent: int, epoch: bytes, now_ns: int) -> int:
    """Return the epoch's id, entering it when it is new, and keep other writers away from it until the transaction ends.

    Also when it is there: another process may have entered it since lock_epochs looked.
    """
    (found,) = connection.execute(
        "INSERT INTO epoch (agent_id, epoch, created_ns) VALUES (?, ?, ?) "
        "ON CONFLICT (agent_id, epoch) DO UPDATE SET epoch = excluded.epoch RETURNING id",
        (agent, epoch, now_ns),
    ).fetchone()
    return int(found)


def enter(connection: Database, epoch: int, seq: int) -> bool:
    """Enter a seq; False when it is there already."""
    if connection.execute(_NEXT, (seq, epoch)).rowcount:
        return True
    near = connection.execute(
        "SELECT first, last FROM ledger WHERE epoch_id = ? AND first <= ? ORDER BY first DESC LIMIT 2",
        (epoch, seq + 1),
    ).fetchall()
    after = near.pop(0) if near and near[0][0] == seq + 1 else None
    before = near[0] if near else None
    if before is not None and before[1] >= seq:
        return False
    last = seq
    if after is not None:
        last = after[1]
        connection.execute("DELETE FROM ledger WHERE epoch_id = ? AND first = ?", (epoch, seq + 1))
    if before is not None and before[1] == seq - 1:
        connection.execute(
            "UPDATE ledger SET last = ? WHERE epoch_id = ? AND first = ?", (last, epoch, before[0])
        )
    else:
        connection.execute("INSERT INTO ledger VALUES (?, ?, ?)", (epoch, seq, last))
    return True


def remember(connection: Database, known: Sequence[tuple[int, int, bytes]]) -> None:
    """Keep the checksums of batches (epoch, seq, checksum), and let go of each epoch's oldest beyond the newest 10,000."""
    connection.executemany("INSERT INTO ledger_checksum (epoch_id, seq, checksum) VALUES (?, ?, ?)", known)
    for epoch, more in sorted(Counter(entry[0] for entry in known).items()):
        (count,) = connection.execute(
            "UPDATE epoch SET checksums = checksums + ? WHERE id = ? RETURNING checksums", (more, epoch)
        ).fetchone()
        if count >= CHECKSUMS + _SLACK:
            connection.execute(
                "DELETE FROM ledger_checksum WHERE id IN "
                "(SELECT id FROM ledger_checksum WHERE epoch_id = ? ORDER BY id LIMIT ?)",
                (epoch, count - CHECKSUMS),
            )
            connection.execute("UPDATE epoch SET checksums = ? WHERE id = ?", (CHECKSUMS, epoch))


def checksum(connection: Database, epoch: int, seq: int) -> bytes | None:
    """Return the checksum that is known of a seq."""
    row = connection.execute(
        "SELECT checksum FROM ledger_checksum WHERE epoch_id = ? AND seq = ?", (epoch, seq)
    ).fetchone()
    return None if row is None else bytes(row[0])


def holding(connection: Database, agent: str, epoch: bytes) -> Holding:
    """Return what is stored of an epoch."""
    rows = connection.execute(
        "SELECT first, last FROM ledger WHERE epoch_id = "
        "(SELECT epoch.id FROM epoch JOIN agent ON agent.id = agent_id WHERE agent.name = ? AND epoch = ?) ORDER BY first",
        (agent, epoch),
    ).fetchall()
    upto = 0
    if rows and rows[0][0] == 1:
        upto = rows.pop(0)[1]
    return Holding(epoch, upto, tuple((first, last) for first, last in rows))


def checksums(
    connection: Database, agent: str, keys: Sequence[tuple[bytes, int]]
) -> dict[tuple[bytes, int], bytes]:
    """Return the checksums that are known of these (epoch, seq)."""
    ids = dict(
        connection.execute(
            "SELECT epoch, epoch.id FROM epoch JOIN agent ON agent.id = agent_id WHERE agent.name = ?",
            (agent,),
        ).fetchall()
    )
    found: dict[tuple[bytes, int], bytes] = {}
    for epoch, seq in keys:
        known = checksum(connection, ids[epoch], seq) if epoch in ids else None
        if known is not None:
            found[epoch, seq] = known
    return found
