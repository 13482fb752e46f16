"""A child process whose output is kept, that is waited for by condition and never left behind."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: Long enough for a loaded machine with two cores; a condition that holds returns at once.
PATIENCE = 120.0


#: Below what the system gives to outgoing connections, so that a port stays free while its owner is down.
PORTS = range(10_240, 32_768)
#: Each process that asks for ports has a block of them for itself as long as it lives: between the choice of a port and its
#: use nobody else chooses it, be it another of pytest's workers or another run on this machine.
BLOCK = 512
_held = socket.socket(socket.AF_UNIX)


def _ports() -> Iterator[int]:
    for block in range(len(PORTS) // BLOCK):
        with suppress(OSError):
            # A name that the kernel frees with the process.
            _held.bind(f"\0telemetryx-tests-ports-{block}")
            break
    else:
        raise AssertionError("every block of ports has its owner: too many tests run on this machine")
    yield from cycle(PORTS[block * BLOCK :][:BLOCK])


_candidates = _ports()


def free_port() -> int:
    """Return a port nobody listens on now."""
    while True:
        port = next(_candidates)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(what: str, look: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """Look until something true is seen and return it; fail with `what` after `patience` seconds."""
    end = time.monotonic() + patience
    last: BaseException | None = None
    while time.monotonic() < end:
        try:
            seen = look()
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            last = error
        else:
            if seen:
                return seen
        time.sleep(0.02)
    raise AssertionError(f"not seen within {patience:.0f} s: {what}" + (f" ({last!r})" if last else ""))


class Process:
    """One program with its log file."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, env: dict[str, str] | None = None
    ) -> None:
        """Start it."""
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [str(word) for word in command],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def peak_memory(self) -> int:
        """The most bytes that were resident so far."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    def tail(self, lines: int = 30) -> str:
        """Return the end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """Kill it as a power cut would: no handler runs."""
        self._child.send_signal(signal.SIGKILL)
        self._child.wait(PATIENCE)

    def stop(self) -> int:
        """Ask it to end, and return its exit code; kill it when it does not listen."""
        if self.running:
            self._child.send_signal(signal.SIGTERM)
        try:
            return self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end in {PATIENCE:.0f} s:\n{self.tail()}") from None

    def signal(self, number: int) -> None:
        """Send any signal."""
        self._child.send_signal(number)
