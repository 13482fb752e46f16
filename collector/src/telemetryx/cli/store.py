"""`telemetryx store check|verify|stats`: looks into the store without writing to it, also while a collector runs on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.run import settings_of
from telemetryx.cli.text import printable

if TYPE_CHECKING:
    from telemetryx.store.tables.database import Database, Engine


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collector's store is; `name` is for people."""

    engine: "Engine"
    name: str
    key: str
    """What `name` is: a path, or a url."""


def check(config: Path | None, *, as_json: bool) -> None:
    """Look whether a collector can work on the store, without reading what is in it; exit code 1 when not."""
    place = store_place(config)
    with opened(place) as connection:
        applied, known = connection.schema_steps()
        commits = connection.newest_commit() if applied else 0
        size = connection.bytes_on_disk()
    newer = [name for name in applied if name not in known]
    problem = f"a newer collector wrote it (schema step {newer[-1]})" if newer else None
    if not applied:
        problem = "it has no tables of a collector yet: the first start makes them"
    schema, pending = applied[-1] if applied else None, [name for name in known if name not in applied]
    if as_json:
        said = {"problem": problem, "schema": schema, "pending": pending, "commits": commits, "bytes": size}
        output.write_json({place.key: place.name, "usable": problem is None, **said})
    if problem is not None:
        raise CliError(
            f"{place.name}: {problem}", "upgrade the collector, or restore a backup" if newer else ""
        )
    if not as_json:
        steps = f"; the next start applies {', '.join(pending)}" if pending else ""
        counted = f"{output.count(commits, 'commit')}, {output.size(size)}"
        print(f"{place.name} can be used: schema {schema}{steps}, {counted}")


def verify(config: Path | None, *, as_json: bool) -> None:
    """Check the store; exit code 1 when something is wrong."""
    from telemetryx.store.tables.numbers import Numbers
    from telemetryx.store.tables.verify import verify as check

    place = store_place(config)
    with opened(place) as connection:
        problems = check(connection, Numbers())
    if as_json:
        output.write_json({place.key: place.name, "sound": not problems, "problems": problems})
    else:
        for problem in problems:
            print(printable(problem))
    if problems:
        raise CliError(
            f"{place.name} has {output.count(len(problems), 'problem')}",
            "restore a backup, or export what can be read",
        )
    if not as_json:
        print(f"{place.name} is sound")


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
    from telemetryx.store.sqlite.engine import SqliteEngine

    return Place(SqliteEngine(path), str(path), "path")


@contextmanager
def opened(place: Place) -> Iterator["Database"]:
    """Open a store for reading, on one snapshot."""
    from telemetryx.errors import StoreError

    try:
        connection = place.engine.open_reader()
        try:
            connection.begin_snapshot()
            yield connection
        finally:
            connection.close()
    except StoreError as error:
        raise CliError(f"{place.name}: {error}") from error
    except CliError:
        raise
    except Exception as error:
        ours = place.engine.translate(error)
        if ours is None:
            raise
        raise CliError(f"{place.name}: {ours}") from error


def _each(size: int, count: int) -> str:
    return f"{size / count:.2f} bytes each" if count else "none yet"
