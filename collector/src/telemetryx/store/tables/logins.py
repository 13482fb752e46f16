"""Tables `login_session`, `known_device` and `login_attempt`: who is logged in, from where, and who guessed wrong lately."""

from collections.abc import Sequence
from typing import Any, Final

from telemetryx.store.accounts import MAX_DEVICES, MAX_SESSIONS, Guess, NewSession
from telemetryx.store.audit import Actor, Entry
from telemetryx.store.tables import audit
from telemetryx.store.tables.database import Database

_EXPIRED_AT_ONCE: Final = 100
"""Sessions past their end that one login deletes."""


def begin(db: Database, new: NewSession, by: Actor, now_ns: int) -> None:
    """Log a browser in, under an id that nobody has seen before; the one it had ends."""
    if new.replaces is not None:
        db.execute("DELETE FROM login_session WHERE digest = ?", (new.replaces,))
    db.execute(
        "DELETE FROM login_session WHERE digest IN "
        f"(SELECT digest FROM login_session WHERE expires_ns <= ? LIMIT {_EXPIRED_AT_ONCE})",
        (now_ns,),
    )
    db.execute(
        "INSERT INTO login_session (digest, account_id, token_id, mark, created_ns, seen_ns, expires_ns) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (new.digest, new.account, new.token, new.mark, now_ns, now_ns, new.expires_ns),
    )
    if new.account is not None:
        db.execute("UPDATE account SET login_ns = ? WHERE id = ?", (now_ns, new.account))
        _trim(db, "login_session", "created_ns", new.account, MAX_SESSIONS)
        if new.device is not None:
            db.execute(
                "INSERT INTO known_device VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE "
                "SET account_id = excluded.account_id, seen_ns = excluded.seen_ns",
                (new.device, new.account, now_ns),
            )
            _trim(db, "known_device", "seen_ns", new.account, MAX_DEVICES)
    audit.note(db, now_ns, Entry(by, "session.begin", by.name))


def _trim(db: Database, table: str, age: str, account: int, most: int) -> None:
    db.execute(
        f"DELETE FROM {table} WHERE account_id = ?1 AND digest NOT IN "
        f"(SELECT digest FROM {table} WHERE account_id = ?1 ORDER BY {age} DESC, digest LIMIT {most})",
        (account,),
    )


def find(db: Database, digest: bytes, now_ns: int) -> Any:  # noqa: ANN401 - a row
    """Return until when a session holds and as whom: account, token, mark; None when it doesn't."""
    return db.execute(
        "SELECT expires_ns, account_id, token_id, mark FROM login_session WHERE digest = ? AND expires_ns > ?",
        (digest, now_ns),
    ).fetchone()


def end(db: Database, digest: bytes, by: Actor, now_ns: int) -> bool:
    """Log a browser out."""
    ended = db.execute("DELETE FROM login_session WHERE digest = ?", (digest,)).rowcount > 0
    if ended:
        audit.note(db, now_ns, Entry(by, "session.end", by.name))
    return ended


def end_all(db: Database, account: int) -> int:
    """Log an account out everywhere, and know none of its browsers any more."""
    db.execute("DELETE FROM known_device WHERE account_id = ?", (account,))
    return db.execute("DELETE FROM login_session WHERE account_id = ?", (account,)).rowcount


def knows(db: Database, device: bytes, name: str) -> bool:
    """Tell whether a browser with this mark has logged in to this account before."""
    row = db.execute(
        "SELECT 1 FROM known_device JOIN account ON account.id = account_id WHERE digest = ? AND name = ?",
        (device, name),
    ).fetchone()
    return row is not None


def wait_ns(db: Database, guesses: Sequence[Guess], now_ns: int) -> int:
    """Say how long an attempt under these keys must wait."""
    counts: list[tuple[int, int]] = []
    for guess in guesses:
        row = db.execute("SELECT count, last_ns FROM login_attempt WHERE name = ?", (guess.key,)).fetchone()
        counts.append((0, now_ns) if row is None else (row[0], row[1]))
    return _wait(guesses, counts, now_ns)


def attempt(db: Database, guesses: Sequence[Guess], now_ns: int) -> int:
    """Count an attempt before its outcome is known, so that many at once aren't free; or say how long to wait."""
    db.execute("DELETE FROM login_attempt WHERE forget_ns <= ?", (now_ns,))
    counts: dict[str, tuple[int, int]] = {}
    # In one order for all, so that two attempts don't wait for each other's rows.
    for guess in sorted(guesses, key=lambda one: one.key):
        row = db.execute(
            "INSERT INTO login_attempt VALUES (?, 0, ?, ?) ON CONFLICT (name) DO UPDATE "
            "SET count = login_attempt.count RETURNING count, last_ns",
            (guess.key, now_ns, now_ns + guess.forget_ns),
        ).fetchone()
        counts[guess.key] = (row[0], row[1])
    wait = _wait(guesses, [counts[guess.key] for guess in guesses], now_ns)
    if wait:
        return wait
    source = counts[guesses[0].key][0]
    for guess in guesses:
        if guess.share is None or source < guess.share:
            db.execute(
                "UPDATE login_attempt SET count = count + 1, last_ns = ?, forget_ns = ? WHERE name = ?",
                (now_ns, now_ns + guess.forget_ns, guess.key),
            )
    return 0


def _wait(guesses: Sequence[Guess], counts: Sequence[tuple[int, int]], now_ns: int) -> int:
    """Return the longest wait. Who hasn't guessed wrong yet doesn't wait for what others did (keys with a share).

    Who has waits since their own guess, not since that of others: these may never end.
    """
    fresh, own_ns = counts[0][0] == 0, max(0, now_ns - counts[0][1])

    def wait(guess: Guess, count: int, last_ns: int) -> int:
        since_ns = max(0, now_ns - last_ns)
        if guess.share is None:
            return guess.wait_ns(count, since_ns)
        return 0 if fresh else guess.wait_ns(count, max(since_ns, own_ns))

    return max(wait(guess, *counted) for guess, counted in zip(guesses, counts, strict=True))


def succeeded(db: Database, guesses: Sequence[Guess]) -> None:
    """Take an attempt back. The first key starts anew; under the others wrong ones of before still count."""
    db.execute("DELETE FROM login_attempt WHERE name = ?", (guesses[0].key,))
    take_back(db, guesses[1:])


def take_back(db: Database, guesses: Sequence[Guess]) -> None:
    """Count an attempt no longer."""
    for guess in sorted(guesses, key=lambda one: one.key):
        db.execute("UPDATE login_attempt SET count = count - 1 WHERE name = ? AND count > 0", (guess.key,))
