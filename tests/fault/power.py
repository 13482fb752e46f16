"""Power cuts under load: agent (each round) and collector (each tenth) lose all that was not synced, at random points.

    just fault power --rounds 1000 [--seed N] [--state FILE] [--fresh] [--json]

Each has its data on an ext4 file system of its own, on a loop device (needs root). The file system is shut down without a
flush of its log, the process killed a moment later or before, the file system mounted again. Where that is not possible
the process is killed alone, and the output says so. Exit code 1 unless nothing acknowledged is lost, nothing is stored twice and
every start succeeds.
"""

import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.fault.disk import Disk, impossible
from tests.fault.kill import Kill
from tests.fault.rounds import Fault, command
from tests.harness import Agent, Collector, Process, Stack, until

#: Small segments, so that a cut often falls between the creation of one, the unlink of another and their fsyncs.
SMALL = '[spool]\nsegment_bytes = "256KiB"\nmin_free = "1MiB"\n[journal]\nsegment_bytes = "256KiB"\n'
AGENT_MIB, COLLECTOR_MIB = 256, 512


class Power:
    """The power goes; what was not synced is gone."""

    def __init__(self, folder: Path, disks: ExitStack) -> None:
        """Make the disks in a folder; `disks` unmounts them."""
        self._agent = disks.enter_context(Disk(folder / "agent-disk", AGENT_MIB))
        self._collector = disks.enter_context(Disk(folder / "collector-disk", COLLECTOR_MIB))

    def collector(self, stack: Stack) -> Collector:
        """Add a collector with its data on a disk of its own."""
        collector = stack.collector(start=False)
        self._collector.holds(collector.folder / "data")
        collector.start()
        return collector

    def agent(self, stack: Stack, collector: Collector) -> Agent:
        """Add an agent with its data on a disk of its own."""
        agent = stack.agent(collector, extra=SMALL, start=False)
        self._agent.holds(agent.data)
        agent.start()
        return agent

    def strike(self, part: Agent | Collector, draw: random.Random) -> None:
        """Cut the power, let the process see what becomes of its writes for a moment or not at all, and mount again."""
        disk = self._agent if isinstance(part, Agent) else self._collector
        assert part.process is not None
        if draw.random() < 0.5:
            # NOTE: an fdatasync that is under way while ext4 shuts down may return success for what is lost then (measured on
            # Linux 6.18 with a program of ten lines: 5 of 150 cuts). So nothing is under way: every thread is stopped first.
            _stopped(part.process)
            disk.cut()
            part.process.signal(signal.SIGCONT)
            # Whoever acknowledges now, acknowledges what no disk has.
            time.sleep(draw.uniform(0.0, 0.1))
            part.process.kill()
        else:
            part.process.kill()
            disk.cut()
        disk.unmount()
        disk.mount()


def _stopped(process: Process) -> None:
    """Stop a process; a thread within a system call stops at its end."""
    process.signal(signal.SIGSTOP)

    def states() -> set[str]:
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        return {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks}

    until("every thread is stopped", lambda: states() == {"T"})


@contextmanager
def place(folder: Path) -> Iterator[Fault]:
    """Make the disks; or say why not, and what is done instead."""
    if why := impossible():
        print(f"no power cut is possible here: {why}. The processes are killed instead", file=sys.stderr)
        yield Kill()
        return
    with ExitStack() as disks:
        yield Power(folder, disks)


def main() -> int:
    """Run from the command line."""
    return command("power", __doc__, place)


if __name__ == "__main__":
    raise SystemExit(main())
