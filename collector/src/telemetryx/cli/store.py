"""`telemetryx store check|verify|stats|clock`: looks into the store and leaves it as it is, also while a collector runs on it; `rebuild` has rollups computed anew."""

import gc
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.run import settings_of
from telemetryx.cli.text import printable

if TYPE_CHECKING:
    from telemetryx.store.tables.database import Database, Engine
    from telemetryx.store.tables.verify import Waiting

_PAGES: Final = 4_096


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collector's store is; `name` is for people."""

    engine: "Engine"
    name: str
    key: str
    """What `name` is: a path, or a url."""


def check(config: Path | None, *, as_json: bool) -> None:
    """Look whether a collector can work on the store and write to it (which is undone), without reading what is in it; exit code 1 when not."""
    from telemetryx.errors import SchemaTooNew, StoreError
    from telemetryx.store.migrations import refuse_newer
    from telemetryx.store.tables.verify import missing, regain

    place = store_place(config)
    problem = None
    without_log = _without_log(place)
    with opened(place, newer=True) as connection:
        applied, known = connection.schema_steps()
        lost, remedy = [] if set(applied) - set(known) else missing(connection), regain(connection)
        commits = connection.newest_commit() if applied and not lost else 0
        size = connection.bytes_on_disk()
        warnings = clock_warnings(connection, time.time_ns()) if applied and not lost else []
        if applied and not lost:
            warnings += _log_warnings(connection, place, without_log=without_log)
    try:
        refuse_newer(applied, known)
    except SchemaTooNew as error:
        problem = str(error)
    if lost:
        problem = f"{'; '.join(lost)}: {remedy}"
    if not applied:
        problem = "it has no tables of a collector yet: the first start makes them"
    if problem is None:
        try:
            place.engine.try_write()
        except StoreError as error:
            problem = str(error)
    schema, pending = applied[-1] if applied else None, [name for name in known if name not in applied]
    if as_json:
        said = {
            "problem": problem,
            "schema": schema,
            "pending": pending,
            "cursor": commits,
            "bytes": size,
            "warnings": warnings,
        }
        output.write_json({place.key: place.name, "usable": problem is None, **said})
    if problem is not None:
        raise CliError(f"{place.name}: {problem}")
    if not as_json:
        steps = f"; the next start applies {', '.join(pending)}" if pending else ""
        counted = f"newest commit {commits:,}, {output.size(size)}"
        print(f"{place.name} can be used: schema {schema}{steps}, {counted}")
        for warning in warnings:
            print(f"warning: {warning}")


def _without_log(place: Place) -> bool:
    """Tell whether a file has no log beside it: asked before it is opened, for that makes one."""
    from telemetryx.store.sqlite import wal

    return place.key == "path" and wal.missing(Path(place.name))


def _log_warnings(connection: "Database", place: Place, *, without_log: bool) -> list[str]:
    """Say that a file's log is missing, or was at a start."""
    from telemetryx.store.sqlite import wal

    if place.key != "path":
        return []
    now = wal.lost(connection, Path(place.name)) if without_log else ""
    return [said for said in (now, wal.missed(connection)) if said]


def clock_warnings(connection: "Database", now_ns: int) -> list[str]:
    """Say what is odd about the clock, or about what a clock once did to the store."""
    from telemetryx.store.tables import retention, rollup, today

    said = []
    seen = today.seen_ns(connection)
    if seen is not None and now_ns - seen > today.JUMP_NS:
        said.append(str(today.Doubt(now_ns, seen)))
    if ahead := retention.ahead(connection, now_ns):
        said.append(f"{ahead}, or until the collector's next round takes that back as far as it can")
    if (expiry := rollup.expiry(connection)) > now_ns:
        said.append(
            f"readings from before {today.day(expiry)} counted as expired, because a clock was ahead: the collector's next start takes "
            "that back"
        )
    return said


def clock(config: Path | None, *, confirm: bool, as_json: bool) -> None:
    """Say what time deletion goes by; with `confirm` have it go by this machine's clock from now on."""
    from telemetryx.store.tables import today

    place = store_place(config)
    now = time.time_ns()
    if confirm:
        with opened(place):  # ours, and of a schema that is known
            pass
        with failures_said(place):
            writer = place.engine.open_writer()
            try:
                writer.begin()
                today.remember(writer, now)
                writer.commit()
            finally:
                writer.close()
    with opened(place) as connection:
        seen, warnings = today.seen_ns(connection), clock_warnings(connection, now)
    if as_json:
        output.write_json({place.key: place.name, "now_ns": now, "seen_ns": seen, "warnings": warnings})
        return
    last = "isn't known yet" if seen is None else f"is {today.day(seen)}"
    print(f"this machine's clock says {today.day(now)}; when {place.name} was in use last {last}")
    for warning in warnings:
        print(f"warning: {warning}")
    if confirm:
        print("the clock is confirmed: a collector that runs goes by it from its next round on")


def verify(config: Path | None, *, as_json: bool) -> None:
    """Check the store; exit code 1 when something is wrong."""
    from telemetryx.store.sqlite import wal
    from telemetryx.store.tables import plain
    from telemetryx.store.tables.numbers import Numbers
    from telemetryx.store.tables.verify import missing, waiting
    from telemetryx.store.tables.verify import verify as check

    place = store_place(config)
    without_log = _without_log(place)
    with brought_up(place) as connection:
        numbers = Numbers()
        problems = check(connection, numbers)
        if without_log and not problems and (lost := wal.lost(connection, Path(place.name))):
            problems = [lost]
        whole = not missing(connection)
        rows, samples = plain.coverage(connection, numbers) if whole else (0, 0)
        left = waiting(connection) if whole else None
    if as_json:
        said = {
            "problems": problems,
            "samples": samples,
            "plain_rows": rows,
            "waiting": left and asdict(left),
        }
        output.write_json({place.key: place.name, "sound": not problems, **said})
    else:
        for problem in problems:
            print(printable(problem))
        if left:
            print(_left(left))
    if problems:
        raise CliError(
            f"{place.name} has {output.count(len(problems), 'problem')}",
            _remedy(problems),
        )
    if not as_json:
        covered = f"; {rows:,} of {samples:,} raw samples are plain rows too" if rows else ""
        print(f"{place.name} is sound{covered}")


def _left(left: "Waiting") -> str:
    """Say what a collector has yet to do."""
    said = []
    if left.batches:
        said.append(
            f"{output.count(left.batches, 'batch', 'batches')} as shipped ({left.samples:,} samples) to be compacted"
        )
    if left.rollups:
        said.append(
            f"{output.count(left.rollups, 'stretch', 'stretches')} of series whose rollups are to be computed"
        )
    if left.sketches:
        said.append("rollups of an older collector that are to get sketches")
    return f"a collector that runs on it has yet to do: {'; '.join(said)}. Queries read what was shipped meanwhile"


def _remedy(problems: Sequence[str]) -> str:
    rolled = all("rollup" in problem for problem in problems) and any(
        "store rebuild" in problem for problem in problems
    )
    anew = "`telemetryx store rebuild` has rollups computed anew from what is left of their readings"
    return f"{anew}; else restore a backup" if rolled else "restore a backup, or export what can be read"


def rebuild(config: Path | None, *, as_json: bool) -> None:
    """Have rollups computed anew that don't show what they should, also while a collector runs."""
    from telemetryx.store.tables import rebuild as anew

    place = store_place(config)
    with opened(place) as connection:
        applied, known = connection.schema_steps()
        if not set(known) <= set(applied):
            raise CliError(
                f"{place.name} has the tables of an older collector",
                "start this collector on it once, then try again: the start brings it up to date",
            )
        faults = anew.plan(connection)
    done = anew.Done(0, 0)
    if faults:
        with failures_said(place):
            writer = place.engine.open_writer()
            try:
                for piece in anew.pieces(faults):
                    begun = time.monotonic()
                    writer.begin()
                    done += anew.rebuild(writer, piece)
                    writer.commit()
                    # Agents of a collector that runs wait for whoever writes: every other moment is theirs.
                    time.sleep(time.monotonic() - begun)
            finally:
                writer.close()
    if as_json:
        output.write_json({place.key: place.name, **asdict(done)})
        return
    if not faults:
        print(f"{place.name} has no rollups to compute anew")
        return
    print(
        f"{output.count(done.marked, 'stretch', 'stretches')} of rollups will be computed anew from raw data by a collector that runs on it, and "
        f"{output.count(done.hours, 'hour')} were from their minutes; `telemetryx store verify` shows what is left"
    )


def stats(config: Path | None, *, as_json: bool) -> None:
    """Show the store's sizes."""
    from telemetryx.store.tables.store import measure

    place = store_place(config)
    with opened(place) as connection:
        usage = measure(connection)
    if as_json:
        output.write_json({place.key: place.name, **asdict(usage)})
        return
    rows = [
        ("size on disk", output.size(usage.bytes)),
        ("series", f"{usage.series:,}"),
        ("samples", f"{usage.batch_samples + usage.chunk_samples:,}"),
        ("  in chunks", f"{usage.chunk_samples:,} ({_each(usage.chunk_bytes, usage.chunk_samples)})"),
        (
            "  in batches as shipped",
            f"{usage.batch_samples:,} in {output.count(usage.batches, 'batch', 'batches')}",
        ),
        ("windows", f"{usage.windows:,}"),
        ("events", f"{usage.events:,}"),
        ("newest commit", f"{usage.cursor:,}"),
    ]
    for name, value in rows:
        print(f"{name:<26}{value}")


def store_place(config: Path | None) -> Place:
    """Find the store, or say that there is none."""
    settings = settings_of(config)
    if settings.store.url is not None:
        from telemetryx.store.postgres.engine import CHECK_S, PostgresEngine

        engine = PostgresEngine(settings.store.url, settings.store.password_file, CHECK_S)
        return Place(engine, engine.where, "url")
    path = settings.within(settings.store.path)
    if not path.is_file():
        raise CliError(
            f"there is no store at {path}", "name the collector's configuration with --config", Exit.USAGE
        )
    return file(path)


def file(path: Path) -> Place:
    """Name a store in a file."""
    from telemetryx.store.sqlite.engine import CHECK_S, SqliteEngine

    return Place(SqliteEngine(path, read_s=CHECK_S), str(path), "path")


@contextmanager
def opened(place: Place, *, newer: bool = False) -> Iterator["Database"]:
    """Open a store for reading, on one snapshot; one of a newer schema only for who asks for it, as nobody here knows what it says."""
    from telemetryx.store.migrations import refuse_newer

    with failures_said(place):
        connection = place.engine.open_reader()
        gc.enable()
        try:
            connection.begin_snapshot()
            if not newer:
                refuse_newer(*connection.schema_steps())
            yield connection
        finally:
            connection.close()


@contextmanager
def brought_up(place: Place) -> Iterator["Database"]:
    """Open a store for reading as this collector's schema has it: of a file of an older one a copy is made and brought up to date, never the file."""
    from telemetryx.store.migrations import migrate
    from telemetryx.store.sqlite import connection as files

    with opened(place) as connection:
        applied, known = connection.schema_steps()
        if not applied or set(known) <= set(applied):
            yield connection
            return
        if not isinstance(connection, sqlite3.Connection):
            raise CliError(
                f"{place.name} has the tables of an older collector (schema step {applied[-1]})",
                "start this collector on it once, then try again: the start brings it up to date",
            )
        with _beside(connection) as path:
            connection.rollback()
            with files.translated():
                with closing(sqlite3.connect(path)) as target:
                    connection.backup(target, pages=_PAGES)
                writer = files.open_writer(path)
                try:
                    migrate(writer)
                finally:
                    writer.close()
            with opened(Place(file(path).engine, place.name, place.key)) as newer:
                yield newer


@contextmanager
def _beside(connection: sqlite3.Connection) -> Iterator[Path]:
    """Give a file that is gone afterwards, where the store's own lies: there is room for one like it. Nobody else may read it."""
    (path,) = (Path(row[2]) for row in connection.execute("PRAGMA database_list") if row[1] == "main")
    folder = path.parent if os.access(path.parent, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="telemetryx-older-", dir=folder) as made:
        yield Path(made) / "store.db"


@contextmanager
def failures_said(place: Place) -> Iterator[None]:
    """Say what a store refuses, and what its library complains of, with the store's name."""
    from telemetryx.errors import StoreError

    try:
        yield
    except StoreError as error:
        raise CliError(f"{place.name}: {error}") from error
    except CliError:
        raise
    except Exception as error:
        ours = place.engine.translate(error)
        if ours is None:
            raise
        raise CliError(f"{place.name}: {ours}") from ours


def _each(size: int, count: int) -> str:
    return f"{size / count:.2f} bytes each" if count else "none yet"
