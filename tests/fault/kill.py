"""kill -9 rounds: agent (each round) and collector (each tenth) are killed at random points under load.

    just fault kill --rounds 1000 [--seed N] [--state FILE] [--fresh] [--json]

Prints what was acknowledged, lost and stored twice, of this run and of all runs together; exit code 1 unless both are 0.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fault.rounds import command
from tests.harness import Agent, Collector, Stack


class Kill:
    """The process dies; what it wrote stays in the kernel's page cache."""

    def collector(self, stack: Stack) -> Collector:
        """Add a collector."""
        return stack.collector()

    def agent(self, stack: Stack, collector: Collector) -> Agent:
        """Add an agent."""
        return stack.agent(collector)

    def strike(self, part: Agent | Collector, _draw: random.Random) -> None:
        """Kill it."""
        assert part.process is not None
        part.process.kill()


@contextmanager
def place(_folder: Path) -> Iterator[Kill]:
    """Need nothing."""
    yield Kill()


def main() -> int:
    """Run from the command line."""
    return command("kill", __doc__, place)


if __name__ == "__main__":
    raise SystemExit(main())
