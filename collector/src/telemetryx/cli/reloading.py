"""A changed configuration for workers: the parent reads and checks it, then starts them anew with it, one by one.

    SIGHUP ─▶ read, check ─▶ worker 1 ends in order, starts ─▶ ready? ─▶ worker 2 …
                 │ no                                          │ no: it and those before it go back
                 ▼                                             ▼
             nothing changes: the one before stays in force, and the status says why

Meanwhile the others serve: with two workers or more somebody always listens. What can't be done worker by worker (another data
directory, which the parent holds) is refused.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from telemetryx.cli import logs
from telemetryx.errors import unread

if TYPE_CHECKING:
    from telemetryx.cli.workers import Worker
    from telemetryx.config import Settings
    from telemetryx.service import Service

log = structlog.get_logger(__name__)

START_S: Final = 300.0
"""One that isn't ready by then doesn't start with it."""


class ReloadRefused(Exception):  # noqa: N818 - a refusal is named after its cause
    """The configuration isn't taken; the message says why."""


class Reloading:
    """Which configuration the workers have, and what came of the last one that they should have."""

    def __init__(
        self, settings: "Settings", config: Path | None, workers: "Sequence[Worker]", service: "Service"
    ) -> None:
        """Begin with these settings; `config` is where others are read."""
        self.workers = workers
        self._settings = settings
        self._config = config
        self._service = service
        self._asked = asyncio.Event()
        self._refused = ""

    @property
    def grace_s(self) -> float:
        """How long a worker may take to end."""
        from telemetryx.cli.workers import KILL_S

        return self._settings.collector.shutdown_timeout / 1e9 + KILL_S

    def ask(self) -> None:
        """Read it anew; once more when that is under way."""
        self._asked.set()

    def line(self) -> str:
        """Say in one line how the workers are, what is wrong first."""
        alive = sum(worker.alive for worker in self.workers)
        trouble = (
            f"CONFIG NOT TAKEN, the one before stays in force: {self._refused}, " if self._refused else ""
        )
        return f"{trouble}{alive} of {len(self.workers)} workers run"

    async def serve(self) -> None:
        """Do what is asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._service.reloading()
            try:
                await self._reload()
            except ReloadRefused as error:
                self._refused = str(error)
                log.error("config_refused", reason=self._refused, hint="the one before stays in force")  # noqa: TRY400 - a sentence is enough
            else:
                self._refused = ""
                log.info("config_taken", workers=len(self.workers))
            self._service.ready(self.line())

    async def _reload(self) -> None:
        settings, text = self._read()
        before = self.workers[0].text
        for at, worker in enumerate(self.workers):
            if await worker.again(text, self.grace_s, START_S):
                continue
            for other in self.workers[:at]:
                await other.again(before, self.grace_s, START_S)
            raise ReloadRefused(f"worker {worker.number} didn't start with it; its own words are in the log")
        self._settings = settings
        logs.configure(settings.collector.log_level, settings.collector.log_format)

    def _read(self) -> "tuple[Settings, bytes | None]":
        from telemetryx import config, standing
        from telemetryx.cli import workers

        try:
            settings, text = read(self._config)
            workers.check(settings, len(self.workers), self._settings)
            standing.usable(settings)
        except (config.ConfigError, standing.StartError, workers.WorkersError) as error:
            raise ReloadRefused(str(error)) from error
        if settings.collector.data_dir != self._settings.collector.data_dir:
            raise ReloadRefused(
                "data_dir is another one, which workers can't move to while others are in the one before: restart the service"
            )
        return settings, text


def read(path: Path | None) -> "tuple[Settings, bytes | None]":
    """Read a configuration and its text, which workers are handed. Raises ConfigError."""
    from telemetryx import config

    if path is None:
        return config.load(None), None
    try:
        text = path.read_bytes()
        return config.parse(text.decode(), str(path)), text
    except (OSError, UnicodeDecodeError) as error:
        raise config.ConfigError([f"{path}: can't be read: {unread(error)}"]) from error
