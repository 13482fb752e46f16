"""`telemetryx collector --workers N`: one parent, N collector processes on the same ports and one PostgreSQL database.

The parent holds the data directory, starts the workers, starts again what dies, and stops all when it is told to. It does
nothing else: the kernel spreads connections over those who listen (SO_REUSEPORT), leases spread the background work.

A worker has one end of a socket pair. It says there when it is ready, and stops in order when the other end is gone: a
parent that was killed leaves nobody behind. Workers are sessions of their own, so that Ctrl-C is told to the parent alone.

The parent hands each worker the text of the configuration that is in force, in a file that has no name: one that dies between
somebody's edit and the reload comes back as it was. At SIGHUP (reloading.py) they are started anew one by one.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import structlog

from telemetryx.place import Place

if TYPE_CHECKING:
    from telemetryx.cli.reloading import Reloading
    from telemetryx.config import Listen, Settings
    from telemetryx.service import Service

log = structlog.get_logger(__name__)

MAX_WORKERS: Final = 64
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
SOUND_S: Final = 30.0
"""One that lived longer than this is started again at once."""
FIRST_TRIES: Final = 3
"""So often a worker may be killed (kill -9, out of memory) before any is ready for the first time; one that ends itself may not."""
PATIENCE_S: Final = 3.0
"""How long ports are waited for: workers whose parent was killed are stopping."""
KILL_S: Final = 5.0
"""So long after its own time to stop a worker is killed."""
WORKER: Final = "TELEMETRYX_WORKER"
"""What a parent tells a worker: its number, of how many, its end of the link, and its configuration's file."""
READY: Final = b"ready"


class WorkersError(Exception):
    """The workers can't be started; the message says why and what to do."""


def check(settings: "Settings", count: int, before: "Settings | None" = None) -> None:
    """Refuse what several processes can't share. Ports of the settings `before` are our own workers'."""
    if count == 1:
        return
    if settings.store.url is None:
        raise WorkersError(
            f"--workers {count} needs a store that several processes may write to, and SQLite's file is one process's: "
            "name a PostgreSQL database in [store] url, or leave --workers out"
        )
    for name, listen in (("api", settings.api), ("gateway", settings.gateway)):
        if listen.port == 0:
            raise WorkersError(
                f"--workers {count} needs fixed ports: set one in [{name}] listen = {listen.listen!r}"
            )
        if before is None or listen.port not in {before.api.port, before.gateway.port}:
            _free(name, listen)


def _free(name: str, listen: "Listen") -> None:
    """See to it that nobody else listens there: with SO_REUSEPORT another's workers would silently share the port with ours."""
    for family, kind, protocol, _, where in socket.getaddrinfo(
        listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        end = time.monotonic() + PATIENCE_S
        while error := _taken(family, kind, protocol, where):
            if time.monotonic() > end:
                raise WorkersError(
                    f"[{name}] can't listen on {listen.listen}: {error.strerror or error}; is another collector running? "
                    "Stop it, or set `listen` to a free port"
                ) from error
            time.sleep(0.1)


def _taken(family: int, kind: int, protocol: int, where: Any) -> OSError | None:  # noqa: ANN401 - an address of any family
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            return error
    return None


@dataclass(slots=True)
class Worker:
    """One worker, through all its lives."""

    number: int
    of: int
    command: list[str]
    text: bytes | None
    """The configuration of its next life; None where there is no file."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it is; once it was, a death isn't the end of the service."""
    was_ready: bool = False
    leaving: bool = False
    """It was told to make room for its next life."""
    outcome: "asyncio.Future[bool] | None" = None
    """Whether its next life became ready, for who waits for that."""
    process: asyncio.subprocess.Process | None = None
    _before: bytes | None = None
    _on_trial: bool = False

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.returncode is None

    async def live(self) -> int:
        """Start it, hear when it is ready, and wait until it ends; return its exit code."""
        ours, its = socket.socketpair()
        ours.setblocking(False)
        self.ready.clear()
        config = None if self.text is None else _unnamed(self.text)
        given = its.fileno(), -1 if config is None else config.fileno()
        try:
            with its, config or contextlib.nullcontext():
                self.process = await asyncio.create_subprocess_exec(
                    *self.command,
                    env={**_environment(), WORKER: f"{self.number}/{self.of}/{given[0]}/{given[1]}"},
                    pass_fds=[fd for fd in given if fd >= 0],
                    start_new_session=True,
                )
            hearing = asyncio.create_task(self._hear(ours))
            try:
                return await self.process.wait()
            finally:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)
        finally:
            self.ready.clear()
            ours.close()

    async def again(self, text: bytes | None, grace_s: float, start_s: float) -> bool:
        """End it in order and start it with another configuration; False when it didn't start, and goes on with the one before."""
        self._before, self.text, self._on_trial = self.text, text, True
        self.outcome = asyncio.get_running_loop().create_future()
        self.leaving = self.alive
        try:
            for number, seconds in (
                (signal.SIGTERM, grace_s),
                (signal.SIGKILL, start_s),
                (signal.SIGKILL, KILL_S),
            ):
                # The second time it is the new one that doesn't get ready.
                if number is signal.SIGTERM or not self.ready.is_set():
                    self.tell(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        return await asyncio.shield(self.outcome)
            return False
        finally:
            self.outcome = None

    def ended(self) -> bool:
        """Note that a life ended; True when the next one begins at once: it was asked to make room, or failed its trial."""
        leaving, self.leaving = self.leaving, False
        if leaving:
            return True
        if self._on_trial:
            self.text, self._on_trial = self._before, False
            self._settle(came_up=False)
            return True
        return False

    def _settle(self, *, came_up: bool) -> None:
        if self.outcome is not None and not self.outcome.done():
            self.outcome.set_result(came_up)

    async def _hear(self, link: socket.socket) -> None:
        if await asyncio.get_running_loop().sock_recv(link, 16) == READY:
            self.was_ready, self._on_trial = True, False
            self.ready.set()
            self._settle(came_up=True)

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        if self.process is not None and self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


def _unnamed(text: bytes) -> IO[bytes]:
    """Write a file that has no name, for a child to read."""
    file = os.fdopen(os.memfd_create("telemetryx-config"), "wb+")
    file.write(text)
    file.seek(0)
    return file


async def run(settings: "Settings", config: Path | None, text: bytes | None, count: int) -> None:
    """Keep `count` workers running until SIGTERM or SIGINT; raises WorkersError when one can't start at first."""
    from telemetryx import app
    from telemetryx.cli.reloading import Reloading
    from telemetryx.service import Service

    service = Service()
    workers = [Worker(number, count, _command(config), text) for number in range(1, count + 1)]
    reloading = Reloading(settings, config, workers, service)
    stop = asyncio.Event()
    app.stop_on_signals(stop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloading.ask)
    keeping = [asyncio.create_task(_keep(worker, workers, stop)) for worker in workers]
    readying = asyncio.gather(*(worker.ready.wait() for worker in workers))
    stopping = asyncio.create_task(stop.wait())
    caring = asyncio.create_task(_care(service, reloading, stop))
    try:
        first: list[asyncio.Future[Any]] = [readying, stopping, *keeping]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if readying.done() and not stop.is_set():
            log.info("collector_ready", workers=count, data_dir=str(settings.collector.data_dir))
            service.ready(f"{count} workers are ready")
            first.append(asyncio.create_task(reloading.serve()))
        await asyncio.wait(first[1:], return_when=asyncio.FIRST_COMPLETED)
    finally:
        service.stopping()
        stop.set()
        for waiting in [*first[len(keeping) + 2 :], readying, stopping, caring]:
            waiting.cancel()
        await _end(workers, keeping, reloading.grace_s)
        await asyncio.gather(*first[len(keeping) + 2 :], readying, stopping, caring, return_exceptions=True)
    for kept in keeping:
        kept.result()
    log.info("collector_stopped")


async def _care(service: "Service", reloading: "Reloading", stop: asyncio.Event) -> None:
    """Tell the service manager how many live, and that we do: from when all are ready."""
    for worker in reloading.workers:
        await worker.ready.wait()
    await service.care(lambda: asyncio.sleep(0), reloading.line, stop)


async def _keep(worker: Worker, workers: list[Worker], stop: asyncio.Event) -> None:
    """Start a worker again and again until `stop`; raise when it ends by itself before it was ever ready.

    Also when it is killed too often before that, unless others of the `workers` serve: they aren't ended for its sake.
    """
    pause = FIRST_PAUSE_S
    tries = FIRST_TRIES
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        begun = loop.time()
        code = await worker.live()
        if stop.is_set():
            return
        if worker.ended():
            pause = FIRST_PAUSE_S
            continue
        tries -= 1
        served = any(one.was_ready for one in workers)
        if not worker.was_ready and (code != -signal.SIGKILL or (tries <= 0 and not served)):
            raise WorkersError(
                f"worker {worker.number} didn't start (exit code {code}); its own words are above"
            )
        if loop.time() - begun > SOUND_S:
            pause = FIRST_PAUSE_S
        log.error("worker_died", worker=worker.number, exit_code=code, again_in_s=pause)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()
        pause = min(LONGEST_PAUSE_S, 2 * pause)


async def _end(workers: list[Worker], keeping: list["asyncio.Task[None]"], grace_s: float) -> None:
    for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_S)):
        for worker in workers:
            worker.tell(number)
        _, still = await asyncio.wait(keeping, timeout=seconds)
        if not still:
            return
        log.warning("workers_cut_short", after_s=grace_s)


def _command(config: Path | None) -> list[str]:
    named = [] if config is None else ["--config", str(config)]
    return [sys.executable, "-m", "telemetryx", "collector", *named]


def _environment() -> dict[str, str]:
    """Leave out what only the parent says: that the service is ready."""
    return {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}


# --- the worker's side


@dataclass(frozen=True, slots=True)
class Mine:
    """What a worker was told by its parent: its place, its end of the link, and the text of its configuration."""

    place: Place
    link: socket.socket
    text: str | None


def mine() -> Mine | None:
    """Return what the parent told us; None for a process that nobody started as a worker."""
    told = os.environ.pop(WORKER, "")
    if not told:
        return None
    number, of, link, config = (int(part) for part in told.split("/"))
    text = None
    if config >= 0:
        with os.fdopen(config, "rb") as file:
            file.seek(0)
            text = file.read().decode()
    return Mine(Place(number, of), socket.socket(fileno=link), text)


async def watch(link: socket.socket, stop: asyncio.Event) -> None:
    """Stop when the parent is gone."""
    link.setblocking(False)
    with contextlib.suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(link, 16):
            pass
    stop.set()
