"""`telemetryx store verify|stats`: looks into the store's file without writing to it, also while a collector runs on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.run import settings_of
from telemetryx.cli.text import printable

if TYPE_CHECKING:
    from telemetryx.store.sqlite.database import SqliteDatabase


def verify(config: Path | None, *, as_json: bool) -> None:
    """Check the file; exit code 1 when something is wrong."""
    from telemetryx.store.tables.numbers import Numbers
    from telemetryx.store.tables.verify import verify as check

    path = store_path(config)
    with opened(path) as connection:
        problems = check(connection, Numbers())
    if as_json:
        output.write_json({"path": str(path), "sound": not problems, "problems": problems})
    else:
        for problem in problems:
            print(printable(problem))
    if problems:
        raise CliError(
            f"{path} has {output.count(len(problems), 'problem')}",
            "restore a backup, or export what can be read",
        )
    if not as_json:
        print(f"{path} is sound")


def stats(config: Path | None, *, as_json: bool) -> None:
    """Show the store's sizes."""
    from telemetryx.store.tables.store import measure

    path = store_path(config)
    with opened(path) as connection:
        usage = measure(connection)
    if as_json:
        output.write_json({"path": str(path), **asdict(usage)})
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


def store_path(config: Path | None) -> Path:
    """Find the store's file, or say that there is none."""
    settings = settings_of(config)
    path = settings.within(settings.store.path)
    if not path.is_file():
        raise CliError(
            f"there is no store at {path}", "name the collector's configuration with --config", Exit.USAGE
        )
    return path


@contextmanager
def opened(path: Path) -> Iterator["SqliteDatabase"]:
    """Open the file for reading, on one snapshot."""
    from telemetryx.errors import StoreError
    from telemetryx.store.sqlite.connection import open_reader, translated

    try:
        connection = open_reader(path)
        try:
            with translated():
                connection.execute("BEGIN")
                yield connection
        finally:
            connection.close()
    except StoreError as error:
        raise CliError(f"{path}: {error}") from error


def _each(size: int, count: int) -> str:
    return f"{size / count:.2f} bytes each" if count else "none yet"
