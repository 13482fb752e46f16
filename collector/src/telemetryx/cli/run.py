"""`telemetryx collector`, `telemetryx demo` and `telemetryx config check`: from a file to a running process."""

import contextlib
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from telemetryx.api.times import NS, TimeError, parse_duration
from telemetryx.cli.errors import CliError, Exit

if TYPE_CHECKING:
    # Pydantic loads in a fifth of a second: only when a configuration is read.
    from collections.abc import Iterator

    from telemetryx.cli.workers import Mine
    from telemetryx.config import Settings

#: After this long a thread that waits for the interpreter gets it.
SWITCH_S = 0.0005


def collector(path: Path | None, count: int = 1) -> None:
    """Run until SIGTERM or Ctrl-C; a second Ctrl-C doesn't wait. With more than one, keep so many workers running."""
    import asyncio

    loaded()
    from telemetryx.cli import logs, workers
    from telemetryx.standing import StartError

    gc.enable()
    mine = workers.mine()
    settings = settings_of(path, None if mine is None else mine.text)
    logs.configure(settings.collector.log_level, settings.collector.log_format)
    if mine is None:
        _warned(settings)
    if mine is None and count > 1:
        _parent(path, count)
        return
    # The writer's thread and the event loop hand the interpreter to each other at each commit: what waits
    # for it shouldn't do so for Python's 5 ms.
    sys.setswitchinterval(SWITCH_S)
    try:
        asyncio.run(_work(settings, mine, path))
    except StartError as error:
        raise CliError(str(error), error.hint) from error


def _warned(settings: "Settings") -> None:
    import structlog

    from telemetryx import config

    for warning in config.warnings(settings):
        structlog.get_logger(__name__).warning("config.warning", reason=warning)


def loaded() -> None:
    """Load the collector, without what it wouldn't use."""
    from telemetryx.lean import lean

    with lean():
        import telemetryx.app  # noqa: F401  loading is the point


async def _work(settings: "Settings", mine: "Mine | None", path: Path | None) -> None:
    """Run one process; a worker tells its parent when it is ready, and stops when that one is gone."""
    import asyncio

    import structlog

    from telemetryx import app, config
    from telemetryx.cli import workers

    if mine is None:
        await app.run(settings, ready=lambda _addresses: settled(), again=lambda: config.load(path))
        return
    place, link = mine.place, mine.link
    structlog.contextvars.bind_contextvars(worker=place.number)
    stop = asyncio.Event()

    def ready(_addresses: app.Addresses) -> None:
        settled()
        link.send(workers.READY)

    with link:
        watching = asyncio.create_task(workers.watch(link, stop))
        try:
            await app.run(settings, stop=stop, ready=ready, place=place)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def settled() -> None:
    """Say that what is there now stays: the garbage collector looks at it no more.

    A full collection otherwise goes through all that was imported, and holds up acknowledgements meanwhile: 60 ms on two
    busy cores. Called once, when everything runs.
    """
    gc.collect()
    gc.freeze()


def _parent(path: Path | None, count: int) -> None:
    """Hold the data directory and keep the workers running."""
    import asyncio

    from telemetryx.cli import reloading, workers
    from telemetryx.place import PlaceError, held

    with _problems_said():
        settings, text = reloading.read(path)
    try:
        workers.check(settings, count)
        with held(settings.collector.data_dir):
            asyncio.run(workers.run(settings, path, text, count))
    except (workers.WorkersError, PlaceError) as error:
        raise CliError(
            str(error), "`telemetryx config check` and `telemetryx config reference` help"
        ) from error


def check(path: Path, *, alone: bool, as_json: bool) -> None:
    """Read a configuration, and unless it is looked at `alone` the files that it names, and say that it can be used."""
    from telemetryx import config
    from telemetryx.cli import output

    settings = settings_of(path)
    if not alone:
        from telemetryx import named

        with _problems_said():
            if wrong := named.problems(settings):
                raise config.ConfigError([f"{path}: {one}" for one in wrong])
    http, agents, data = settings.api.listen, settings.gateway.listen, settings.collector.data_dir
    warnings = config.warnings(settings)
    if not as_json:
        for warning in warnings:
            output.nothing(f"{path}: {warning}")
    said = {
        "config": str(path),
        "http": http,
        "agents": agents,
        "data_dir": str(data),
        "warnings": warnings,
    }
    output.said(said, f"{path}: good; HTTP on {http}, agents on {agents}, data in {data}", as_json=as_json)


def demo(span: str | None, folder: Path | None, agent: Path | None, *, fresh: bool, as_json: bool) -> int:
    """Run the demo and return its exit code."""
    from telemetryx.cli import demo as show

    gc.enable()
    seconds: float | None = None
    if span is not None:
        try:
            seconds = parse_duration(span) / NS
        except TimeError as error:
            raise CliError(f"--for: {error}", code=Exit.USAGE) from error
    try:
        return show.run(
            agent=agent or show.default_agent(),
            folder=folder or show.default_folder(),
            seconds=seconds,
            fresh=fresh,
            as_json=as_json,
        )
    except show.DemoError as error:
        raise CliError(str(error)) from error


def settings_of(path: Path | None, text: str | None = None) -> "Settings":
    """Read a configuration, or print its problems and end; `text` is what stood in the file when that was handed to us."""
    from telemetryx import config

    with _problems_said():
        return config.load(path) if text is None else config.parse(text, str(path))


@contextlib.contextmanager
def _problems_said() -> "Iterator[None]":
    from telemetryx import config

    try:
        yield
    except config.ConfigError as error:
        raise CliError(
            f"the configuration has {len(error.problems)} problem{'s' if len(error.problems) > 1 else ''}",
            "`telemetryx config reference` prints every key with its meaning",
            Exit.USAGE,
            [str(problem) for problem in error.problems],
        ) from error
