"""Counts the connections of the agents' door: TLS begun, and come so far that somebody asked for a session.

gRPC itself ends a handshake that fails (a certificate of another authority, one that has ended, none, no TLS at all) and tells this
process neither of whom it was nor why: with `GRPC_VERBOSITY=INFO` it writes the reason on standard error, without an address. What it
does is ask at each handshake which certificate to show. So what began and never came in is the difference of two counts.
"""

import threading
from collections import OrderedDict
from typing import Final

MOST: Final = 20_000
"""Connections that are remembered: an agent may end its session and ask for another on the same one."""


class Handshakes:
    """Two counts that only grow."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._begun = 0
        self._known: OrderedDict[str, None] = OrderedDict()
        self.served = 0
        """Connections that somebody asked for a session over."""

    @property
    def begun(self) -> int:
        """Handshakes that began."""
        return self._begun

    def begin(self) -> None:
        """Count one; gRPC calls this in threads of its own."""
        with self._lock:
            self._begun += 1

    def serve(self, peer: str) -> None:
        """Count a connection at its first request for a session. A peer's address and port name it."""
        if peer in self._known:
            self._known.move_to_end(peer)
            return
        self._known[peer] = None
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        self.served += 1
