"""CPU time and resident memory of a process and its children, from /proc."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self


def tree(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text(encoding="utf-8").split():
                yield from tree(int(child))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of the process and its children, those that ended included, to the nanosecond of the scheduler.

    Threads that ended are missing from schedstat, so the coarser /proc/PID/stat wins where it is larger.
    """
    total = 0.0
    for member in tree(pid):
        fine = coarse = 0.0
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                fine += int((task / "schedstat").read_text(encoding="utf-8").split()[0]) / 1e9
            fields = Path(f"/proc/{member}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            coarse = sum(map(int, fields[11:15])) / 100
        total += fine if coarse - fine < 0.05 else coarse  # noqa: PLR2004 - two threads' worth of ticks
    return total


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process, in MB, and of its children what they have to themselves: so each page counts once."""
    own = sum(_kib(member, "smaps_rollup", "Private_") for member in tree(pid) if member != pid)
    return (_kib(pid, "status", "VmRSS:") + own) / 1024


def _kib(pid: int, file: str, field: str) -> int:
    """Add up the lines that begin with this."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(field))
    return 0


def others_cpu() -> float:
    """Return the CPU seconds that this machine spent on anything but us and our ended children, and what was stolen from it.

    Differences count. Interrupts that serve us are among them: a few hundredths of a core under load.
    """
    fields = [
        int(word) for word in Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:]
    ]
    user, nice, system, _idle, _wait, irq, softirq, steal = fields[:8]
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])


class Watch:
    """CPU time and highest resident memory of a process between entering and leaving."""

    def __init__(self, pid: int) -> None:
        """Name the process."""
        self._pid = pid
        self._end = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)
        self.cpu_s = 0.0
        self.seconds = 0.0
        self.peak_mb = 0.0

    def _look(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, resident_mb(self._pid))
            if self._end.wait(0.2):
                return

    def __enter__(self) -> Self:
        """Begin."""
        self._cpu, self._begin = cpu_seconds(self._pid), time.monotonic()
        self._looking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self.seconds = time.monotonic() - self._begin
        self.cpu_s = cpu_seconds(self._pid) - self._cpu
        self._end.set()
        self._looking.join(10)
