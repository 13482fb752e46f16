"""`telemetryx store backup|restore|copy`: the whole store into a file, back, and into another store."""

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.run import settings_of
from telemetryx.cli.store import file, opened, store_place

if TYPE_CHECKING:
    from telemetryx.store.tables.database import Database, Engine

_PAGES: Final = 4_096
_TELL_S: Final = 1.0


def backup(config: Path | None, to: Path, *, as_json: bool) -> None:
    """Write the store into a file, beside a running collector too."""
    place = store_place(config)
    with _whole(to) as part, opened(place) as source:
        _fill(source, part)
    _done(as_json, place.name, str(to), to.stat().st_size)


def restore(config: Path | None, source: Path, *, as_json: bool) -> None:
    """Make a backup the collector's store, where there is none yet."""
    if not source.is_file():
        raise CliError(f"there is no file {source}", "name what `telemetryx store backup` wrote", Exit.USAGE)
    settings = settings_of(config)
    with opened(file(source)) as rows:
        _ours(rows, source)
        if settings.store.url is not None:
            target = store_place(config)
            _done(as_json, str(source), target.name, rows=_into_postgres(rows, target.engine))
            return
        path = settings.within(settings.store.path)
        with _whole(path) as part:
            _fill(rows, part)
    _done(as_json, str(source), str(path), path.stat().st_size)


def copy(config: Path | None, to: str, password_file: Path | None, *, as_json: bool) -> None:
    """Copy the store, row by row and counted, into another one, which is empty or not there yet."""
    place = store_place(config)
    if to.startswith(("postgresql://", "postgres://")):
        from telemetryx.store.postgres.engine import CHECK_S, PostgresEngine

        engine = PostgresEngine(to, password_file, CHECK_S)
        with opened(place) as source:
            _done(as_json, place.name, engine.where, rows=_into_postgres(source, engine))
        return
    path = Path(to)
    with _whole(path) as part, opened(place) as source:
        rows = _into_file(source, part)
    _done(as_json, place.name, to, path.stat().st_size, rows)


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
            raise CliError(
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
        raise CliError(f"{path} can't be written: {error.strerror or error}", "name another place") from error
    except sqlite3.Error as error:
        raise CliError(f"{path} can't be written: {error}", "is there room on its disk?") from error
    finally:
        for name in (part.name, part.name + "-wal", part.name + "-shm", part.name + "-journal"):
            part.with_name(name).unlink(missing_ok=True)


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
        # One file, without a log beside it.
        target.execute("PRAGMA journal_mode = DELETE")


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


def _into_postgres(source: "Database", engine: "Engine") -> dict[str, int]:
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
        target = engine.open_writer()
        try:
            with _progress() as progress:
                return copy_rows(source, target, progress)
        finally:
            target.finish()
    except StoreError as error:
        raise CliError(f"{engine.where}: {error}") from error
    except sqlite3.Error:
        raise
    except Exception as error:
        ours = engine.translate(error)
        if ours is None:
            raise
        raise CliError(f"{engine.where}: {ours}") from error


def _ours(connection: "Database", path: Path) -> None:
    from telemetryx.store.migrations import refuse_newer, scripts
    from telemetryx.store.sqlite.connection import APPLICATION_ID

    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise CliError(f"{path} is no store of a collector", "name what `telemetryx store backup` wrote")
    refuse_newer([row[0] for row in connection.execute("SELECT name FROM _sqlite_migrations")], scripts())


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
