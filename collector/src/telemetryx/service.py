"""What a service manager is told (systemd's Type=notify): one datagram a message, to the socket that NOTIFY_SOCKET names.

Without that variable nobody is told, and nothing differs. The watchdog is fed by an answer: the event loop asks the store's
writer for an empty transaction, again and again, and the manager hears that the process is alive each time an answer came, be it
that the store is away. So a loop that is blocked, a writer's thread that hangs and a queue that doesn't move any more each
stop the feeding; an idle collector and one whose database is down don't. The limit is the manager's alone (WatchdogSec).
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from telemetryx.errors import StoreError

log = structlog.get_logger(__name__)

EVERY_S: Final = 5.0
"""How often the status is said, and the store asked, unless the manager is more impatient."""
EXTEND_S: Final = 60
"""So much more a start asks for, each time."""
EXTEND_EVERY_S: Final = 10.0
LONGEST_START_S: Final = 3600.0
"""After that it isn't a migration any more."""
LONGEST_STATUS: Final = 400


class Service:
    """The way to the service manager."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Read who listens, and how impatient it is."""
        path = environ.get("NOTIFY_SOCKET", "")
        self._path = "\0" + path[1:] if path.startswith("@") else path
        pid, usec = environ.get("WATCHDOG_PID", ""), environ.get("WATCHDOG_USEC", "")
        ours = pid in ("", str(os.getpid())) and usec.isdigit() and int(usec) > 0
        self.watchdog_s: float | None = int(usec) / 1e6 if self.listens and ours else None
        self._said = ""

    @property
    def listens(self) -> bool:
        """Whether anybody does."""
        return bool(self._path)

    def ready(self, status: str) -> None:
        """Say that the start, or a reload, is done."""
        self._say("READY=1", status)

    def status(self, status: str) -> None:
        """Say how it is, in one line; what was said last isn't said again."""
        if _line(status) != self._said:
            self._say("", status)

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` ends that."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the end begins."""
        self._say("STOPPING=1", "stopping: what is here is committed")

    def feed(self) -> None:
        """Say that all is well."""
        self._send("WATCHDOG=1")

    async def starting(self) -> None:
        """Ask for patience until this is cancelled: a store is opened, perhaps migrated."""
        begun = time.monotonic()
        while self.listens and (took := time.monotonic() - begun) < LONGEST_START_S:
            self._say(
                f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1_000_000}", f"opening the store, {took:.0f} s so far"
            )
            await asyncio.sleep(EXTEND_EVERY_S)

    async def care(
        self, ask: Callable[[], Awaitable[object]], line: Callable[[], str], stop: asyncio.Event
    ) -> None:
        """Say how it is, and that it is alive each time `ask` was answered, until `stop`."""
        every = min(EVERY_S, (self.watchdog_s or EVERY_S * 8) / 8)
        suspicious = (self.watchdog_s or EVERY_S * 8) / 2
        question: asyncio.Future[object] | None = None
        asked = 0.0
        try:
            while not stop.is_set():
                if question is None:
                    question, asked = asyncio.ensure_future(ask()), time.monotonic()
                await asyncio.wait([question], timeout=every)
                silent = time.monotonic() - asked
                if question.done():
                    error, question = question.exception(), None
                    if error is not None and not isinstance(error, StoreError):
                        raise error
                    if self.watchdog_s is not None:
                        self.feed()
                    self.status(line())
                elif silent > suspicious:
                    self.status(f"STUCK: the store's writer hasn't answered for {silent:.0f} s")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(every):
                        await stop.wait()
        finally:
            if question is not None:
                question.cancel()

    def _say(self, what: str, status: str) -> None:
        self._said = _line(status)
        self._send(f"{what}\nSTATUS={self._said}".strip())

    def _send(self, message: str) -> None:
        if not self._path:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.settimeout(1.0)
                link.sendto(message.encode(), self._path)
        except OSError as error:
            log.warning("service_manager_deaf", error=str(error))


def _line(text: str) -> str:
    """Make it one line that isn't long."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= LONGEST_STATUS else f"{line[:LONGEST_STATUS]}…"
