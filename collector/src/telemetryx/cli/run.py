"""`telemetryx collector`, `telemetryx demo` and `telemetryx config check`: from a file to a running process."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from telemetryx.api.times import NS, TimeError, parse_duration
from telemetryx.cli.errors import CliError, Exit

if TYPE_CHECKING:
    # Pydantic loads in a fifth of a second: only when a configuration is read.
    from telemetryx.config import Settings

#: After this long a thread that waits for the interpreter gets it.
SWITCH_S = 0.0005


def collector(path: Path | None) -> None:
    """Run until SIGTERM or Ctrl-C; a second Ctrl-C doesn't wait."""
    from telemetryx import app
    from telemetryx.cli import logs

    settings = settings_of(path)
    logs.configure(settings.collector.log_level, settings.collector.log_format)
    # The writer's thread and the event loop hand the interpreter to each other at each commit: what waits
    # for it shouldn't do so for Python's 5 ms.
    sys.setswitchinterval(SWITCH_S)
    try:
        asyncio.run(app.run(settings))
    except app.StartError as error:
        raise CliError(
            str(error), "`telemetryx config check` and `telemetryx config reference` help"
        ) from error


def check(path: Path) -> None:
    """Read a configuration and say that it can be used."""
    settings = settings_of(path)
    print(
        f"{path}: good; HTTP on {settings.api.listen}, agents on {settings.gateway.listen}, data in {settings.collector.data_dir}"
    )


def demo(span: str | None, folder: Path | None, agent: Path | None, *, fresh: bool, as_json: bool) -> int:
    """Run the demo and return its exit code."""
    from telemetryx.cli import demo as show

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


def settings_of(path: Path | None) -> "Settings":
    """Read a configuration, or print its problems and end."""
    from telemetryx import config

    try:
        return config.load(path)
    except config.ConfigError as error:
        raise CliError(
            f"the configuration has {len(error.problems)} problem{'s' if len(error.problems) > 1 else ''}",
            "`telemetryx config reference` prints every key with its meaning",
            Exit.USAGE,
            [str(problem) for problem in error.problems],
        ) from error
