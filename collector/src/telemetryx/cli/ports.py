"""Ports for the demo's two processes, which bind them later: free ones, and no other demo's."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

#: How many of the kernel's free ports are tried when each is another demo's.
ATTEMPTS = 64


@contextmanager
def reserved(wanted: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Give each name the port on 127.0.0.1 that it wants, or a free one; no other demo gets them until the block ends.

    The processes bind their ports seconds after they were chosen, and two demos that start together would find the same
    ones free. So each port has a name among the kernel's abstract sockets, which lives exactly as long as its owner.

    Raises OSError when no port is free.
    """
    with ExitStack() as held:
        yield {name: _reserve(port, held) for name, port in wanted.items()}


def _reserve(wanted: int, held: ExitStack) -> int:
    port = _free(wanted)
    for _ in range(ATTEMPTS):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0telemetryx-demo-{port}")
        except OSError:
            name.close()
            port = _free(0)
        else:
            held.enter_context(name)
            return port
    raise OSError("each free port on 127.0.0.1 belongs to another demo: stop one of them")


def _free(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
