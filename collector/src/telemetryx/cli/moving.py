"""`telemetryx store backup|restore|copy`: the whole store into a file, back, and into another store."""

import fcntl
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.run import settings_of
from telemetryx.cli.store import brought_up, file, opened, store_place
from telemetryx.cli.targets import needs_folder, remedy, shown

if TYPE_CHECKING:
    from telemetryx.errors import StoreError
    from telemetryx.store.postgres.engine import PostgresEngine
    from telemetryx.store.tables.database import Database, Engine

_WRITES_ALONE: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC}
)
"""Errors that reading doesn't meet."""
_PAGES: Final = 4_096
_TELL_S: Final = 1.0
_SQLITE: Final = b"SQLite format 3\0"
_HEAD: Final = 100
"""Bytes of a SQLite file's head."""
_APPLICATION: Final = slice(68, 72)
"""Where it says whose the file is."""


class UnsoundError(CliError):
    """What was read makes no sound store."""


def backup(config: Path | None, to: Path, *, as_json: bool) -> None:
    """Write the store into a file, beside a running collector too."""
    needs_folder(to)
    place = store_place(config)
    # A database is copied row by row, into tables as this collector has them.
    reading = brought_up if place.key == "url" else opened
    with _whole(to) as part, reading(place) as source, _filling(to):
        _fill(source, part)
    _done(as_json, place.name, str(to), to.stat().st_size)


def restore(config: Path | None, source: Path, *, as_json: bool) -> None:
    """Make a backup the collector's store, where there is none yet."""
    if not source.is_file():
        raise CliError(f"there is no file {source}", "name what `telemetryx store backup` wrote", Exit.USAGE)
    _refuse_foreign(source)
    settings = settings_of(config)
    if settings.store.url is not None:
        target = store_place(config)
        with _sound(source), brought_up(file(source)) as rows:
            _done(as_json, str(source), target.name, rows=_into_postgres(rows, target.engine))
        return
    with _sound(source), opened(file(source)) as rows:
        path = settings.within(settings.store.path)
        with _whole(path) as part:
            _fill(rows, part)
    _done(as_json, str(source), str(path), path.stat().st_size)


def copy(config: Path | None, to: str, password_file: Path | None, *, as_json: bool) -> None:
    """Copy the store, row by row and counted, into another one, which is empty or not there yet."""
    database = to.startswith(("postgresql://", "postgres://"))
    if database:
        _refuse_address(to)
    elif "://" in to:
        raise CliError(
            f"{to} is no store", "write a file's path, or postgresql://USER@HOST/DATABASE", Exit.USAGE
        )
    else:
        needs_folder(Path(to))
    place = store_place(config)
    if database:
        from telemetryx.store.postgres.engine import CHECK_S, PostgresEngine

        engine = PostgresEngine(to, password_file, CHECK_S)
        with _stopped(config), brought_up(place) as source:
            _hold(source, place.name)
            _done(as_json, place.name, engine.where, rows=_into_postgres(source, engine, _TO))
        return
    path = Path(to)
    with _stopped(config), _whole(path) as part, brought_up(place) as source:
        _hold(source, place.name)
        with _filling(path):
            rows = _into_file(source, part)
    _done(as_json, place.name, to, path.stat().st_size, rows)


def _refuse_address(to: str) -> None:
    """Refuse a database's address as the configuration does: a password in it is in the shell's history and in every list of processes."""
    from telemetryx.config.tables import database_address

    try:
        database_address(to, "--to")
    except ValueError as error:
        said = str(error).replace("password_file", "--to-password-file")
        raise CliError(said, code=Exit.USAGE) from None


@contextmanager
def _stopped(config: Path | None) -> Iterator[None]:
    """Hold the collector's place in its data directory, so that none runs or starts; what it stored meanwhile wouldn't be in the copy."""
    data_dir = settings_of(config).collector.data_dir
    try:
        lock = (data_dir / "lock").open("rb")
    except FileNotFoundError:  # none ever ran here
        yield
        return
    except OSError as error:
        raise CliError(
            f"{data_dir / 'lock'} can't be read: {error.strerror or error}",
            "run this as the collector's user",
            Exit.USAGE,
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _running(f"a collector runs in {data_dir}") from error
        yield


def _hold(source: "Database", name: str) -> None:
    """Keep collectors of other machines away from a database until its connection is closed."""
    if not source.shared:
        return
    from telemetryx.store.postgres.engine import WRITER_LOCK

    (alone,) = source.execute("SELECT pg_try_advisory_lock(?)", (WRITER_LOCK,)).fetchone()
    if not alone:
        raise _running(f"a collector writes to {name}")


def _running(who: str) -> CliError:
    return CliError(
        f"{who}: what it stores meanwhile would be missing in the copy, and agents don't send it again",
        "stop it first; `telemetryx store backup` writes a file beside a running one",
        Exit.NO,
    )


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a file to fill: it gets this name once it is whole, sound and durable, and is gone otherwise."""
    if path.exists():
        raise CliError(f"{path} is there already", "move it away, or name another file", Exit.USAGE)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.unlink(missing_ok=True)
        # Made before SQLite does: nobody else may read it.
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield part
        with closing(sqlite3.connect(f"{part.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            faults = [str(row[0]) for row in connection.execute("PRAGMA quick_check") if row[0] != "ok"]
        if faults:
            raise UnsoundError(
                f"what was written isn't sound: {faults[0]}", "run `telemetryx store verify` on the source"
            )
        for durable in (part, path.parent):
            handle = os.open(durable, os.O_RDONLY)
            try:
                os.fsync(handle)
                if durable == part:
                    part.rename(path)
            finally:
                os.close(handle)
    except OSError as error:
        said = f"{shown(path)} can't be written: {error.strerror or error}"
        raise CliError(said, remedy(error, path)) from error
    except sqlite3.Error as error:
        if error.sqlite_errorcode in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise UnsoundError(
                f"what is copied is damaged: {error}", "run `telemetryx store verify` on the source"
            ) from error
        raise CliError(f"{path} can't be written: {error}", "is there room on its disk?") from error
    finally:
        for name in (part.name, part.name + "-wal", part.name + "-shm", part.name + "-journal"):
            part.with_name(name).unlink(missing_ok=True)


@contextmanager
def _filling(path: Path) -> Iterator[None]:
    """Say of what the new file can't take that it was this one: beside it another is read, which isn't at fault."""
    from telemetryx.errors import StoreUnavailable

    try:
        yield
    except (sqlite3.Error, StoreUnavailable) as error:
        full = isinstance(error, StoreUnavailable) and error.reason in {"full", "read_only"}
        if not full and getattr(error, "sqlite_errorcode", None) not in _WRITES_ALONE:
            raise
        raise CliError(f"{shown(path)} can't be written: {error}", "is there room on its disk?") from error


def _fill(source: "Database", part: Path) -> None:
    """Fill a file with all of a store."""
    if not isinstance(source, sqlite3.Connection):
        _into_file(source, part)
        return
    # Page by page, and one state, whatever is committed meanwhile: the backup API has a snapshot of its own.
    source.rollback()
    with closing(sqlite3.connect(part)) as target, _progress() as progress:
        source.backup(
            target, pages=_PAGES, progress=lambda _, left, total: progress("page", total - left, total)
        )
        _let_go(target)
        # One file, without a log beside it.
        target.execute("PRAGMA journal_mode = DELETE")


def _let_go(target: sqlite3.Connection) -> None:
    """Leave out who is logged in, for a session that ended since would come back to life with the copy; and what is of the original alone (identity.py)."""
    known = {row[0] for row in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    with target:
        for table in sorted({"login_session", "known_device", "login_attempt", "first_link"} & known):
            target.execute(f"DELETE FROM {table}")  # noqa: S608 - one of the names above
        if "meta" in known:
            target.execute(
                "DELETE FROM meta WHERE key IN ('store_id', 'log_begun', 'log_seen', 'log_missed_ns')"
            )


def _into_file(source: "Database", part: Path) -> dict[str, int]:
    from telemetryx.store.migrations import migrate
    from telemetryx.store.sqlite import connection
    from telemetryx.store.tables.copying import copy as copy_rows

    with connection.translated():
        target = connection.open_writer(part)
        try:
            migrate(target)
            with _progress() as progress:
                rows = copy_rows(source, target, progress)
            target.execute("PRAGMA journal_mode = DELETE")
        finally:
            target.close()
    return rows


_TO: Final = {"[store] url": "--to", "password_file": "--to-password-file"}
"""What a person named it by that the store's words name by the configuration's keys."""


def _into_postgres(
    source: "Database", engine: "Engine", named: Mapping[str, str] | None = None
) -> dict[str, int]:
    from telemetryx.errors import StoreError
    from telemetryx.store.postgres.engine import PostgresEngine
    from telemetryx.store.postgres.migrations import migrate
    from telemetryx.store.tables.copying import copy as copy_rows

    if not isinstance(engine, PostgresEngine):
        raise TypeError(f"{engine} is no PostgreSQL")
    try:
        first = engine.open({}, 600.0)
        try:
            migrate(first)
        finally:
            first.finish()
        target = engine.open_alone()
        try:
            with _progress() as progress:
                return copy_rows(source, target, progress)
        finally:
            target.finish()
    except StoreError as error:
        raise _refused(engine, error, named) from error
    except sqlite3.Error:
        raise
    except Exception as error:
        ours = engine.translate(error)
        if ours is None:
            raise
        raise _refused(engine, ours, named) from error


def _refused(engine: "PostgresEngine", error: "StoreError", named: Mapping[str, str] | None) -> CliError:
    """Name the database once, and what it was named by."""
    said = str(error) if engine.where in str(error) else f"{engine.where}: {error}"
    for key, option in (named or {}).items():
        said = said.replace(key, option)
    return CliError(said)


def _refuse_foreign(path: Path) -> None:
    """Refuse what isn't a store's file by its head: SQLite's name, and our number where SQLite keeps it."""
    from telemetryx.store.sqlite.connection import APPLICATION_ID

    try:
        with path.open("rb") as opened_file:
            head = opened_file.read(_HEAD)
    except OSError as error:
        raise CliError(
            f"{path} can't be read: {error.strerror or error}", "check who owns it", Exit.USAGE
        ) from error
    if not head.startswith(_SQLITE) or int.from_bytes(head[_APPLICATION]) != APPLICATION_ID:
        raise CliError(
            f"{path} is no TelemetryX backup", "name what `telemetryx store backup` wrote", Exit.USAGE
        )


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Say that the backup is damaged: what the store's own errors advise is about the collector's store."""
    from telemetryx.errors import StoreDamaged

    try:
        yield
    except CliError as error:
        if isinstance(error, UnsoundError) or isinstance(error.__cause__, StoreDamaged):
            raise CliError(f"the backup {path} is damaged", "restore another one", Exit.NO) from error
        raise


class _Progress:
    """A line on a terminal that says how far it is."""

    def __init__(self) -> None:
        self._told = 0.0
        self._lines = False

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and (done == total or now - self._told > _TELL_S):
            self._told, self._lines = now, True
            print(f"\r\x1b[K{what} {done:,} of {total:,}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._lines:
            print(file=sys.stderr)


@contextmanager
def _progress() -> Iterator[_Progress]:
    progress = _Progress()
    try:
        yield progress
    finally:
        progress.end()


def _done(as_json: bool, source: str, target: str, size: int = 0, rows: dict[str, int] | None = None) -> None:
    if as_json:
        said: dict[str, object] = {"from": source, "to": target}
        output.write_json(said | ({"bytes": size} if size else {}) | ({"rows": rows} if rows else {}))
        return
    how = output.size(size) if size else ""
    if rows:
        how = f"{sum(rows.values()):,} rows, counted on both sides" + (f", {how}" if how else "")
    print(f"{source} is in {target}" + (f" ({how})" if how else ""))
