"""Ports for servers of a test's own that are told where to listen.

Below what the system gives to outgoing connections: one of those could take a port between its choice and the server's start, or while
the server is down for a moment. Each process that asks has a block for itself as long as it lives, also beside the tests that look at
the whole (tests/harness/processes.py), which choose in the same way.
"""

import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from typing import Final

PORTS: Final = range(10_240, 32_768)
BLOCK: Final = 512
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
