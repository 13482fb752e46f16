"""`telemetryx store verify|stats`: looks after the store's file, also while a collector runs on it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.run import settings_of
from telemetryx.cli.text import printable

if TYPE_CHECKING:
    from telemetryx.store.interface import StoreUsage
    from telemetryx.store.sqlite.store import SqliteStore

Answer = TypeVar("Answer")


def verify(config: Path | None, *, as_json: bool) -> None:
    """Check the file; exit code 1 when something is wrong."""
    path = store_path(config)
    problems = asyncio.run(_with_store(path, lambda store: store.verify()))
    if as_json:
        output.write_json({"path": str(path), "sound": not problems, "problems": problems})
    else:
        for problem in problems:
            print(printable(problem))
    if problems:
        count = len(problems)
        raise CliError(
            f"{path} has {count} problem{'s' if count > 1 else ''}",
            "restore a backup, or export what can be read",
        )
    if not as_json:
        print(f"{path} is sound")


def stats(config: Path | None, *, as_json: bool) -> None:
    """Show the store's sizes."""
    path = store_path(config)
    usage: StoreUsage = asyncio.run(_with_store(path, lambda store: store.usage()))
    if as_json:
        output.write_json({"path": str(path), **asdict(usage)})
        return
    samples = usage.batch_samples + usage.chunk_samples
    rows = [
        ("size on disk", output.size(usage.bytes)),
        ("series", f"{usage.series:,}"),
        ("samples", f"{samples:,}"),
        ("  in chunks", f"{usage.chunk_samples:,} ({_each(usage.chunk_bytes, usage.chunk_samples)})"),
        ("  in batches as shipped", f"{usage.batch_samples:,} in {usage.batches:,} batches"),
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


async def _with_store(path: Path, ask: "Callable[[SqliteStore], Awaitable[Answer]]") -> Answer:
    from telemetryx.errors import StoreError
    from telemetryx.store.sqlite.store import SqliteStore

    try:
        store = await SqliteStore.open(path)
        try:
            return await ask(store)
        finally:
            await store.close()
    except StoreError as error:
        raise CliError(f"{path}: {error}") from error


def _each(size: int, count: int) -> str:
    return f"{size / count:.2f} bytes each" if count else "none yet"
