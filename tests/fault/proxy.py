"""A TCP proxy that does to a link what fields do: cut, half-open, black hole, slow, late, old bytes after new ones.

Runs in a thread of its own with an event loop of its own; every method may be called from a test. What it holds back is
delivered when the link is whole again, as TCP's retransmission would, unless the connection was forgotten on the way.
"""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from tests.harness import free_port

#: Read at once; small beside what a limited link passes in a second.
CHUNK = 8_192
#: Chunks that wait in one direction of a connection, and what its socket may hold: as little as a small router's queue, for
#: what is queued here nothing can overtake.
QUEUE, SOCKET_BYTES = 2, 16_384
#: A limited link takes this many seconds' worth at a time.
BURST_S = 0.05
PATIENCE_S = 120.0


@dataclass
class _Way:
    """One direction of all connections: what passes, and how fast."""

    passes: asyncio.Event = field(default_factory=asyncio.Event)
    per_second: float | None = None
    delay: float = 0.0
    #: Bytes that came, and those that were delivered.
    taken: int = 0
    passed: int = 0
    #: Set when the delay became another.
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _free_at: float = 0.0

    async def admit(self, count: int) -> None:
        """Wait for this many bytes' turn on a limited link that all connections share."""
        if self.per_second is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - BURST_S) + count / self.per_second
        await asyncio.sleep(max(0.0, self._free_at - now))

    async def late(self, came: float) -> None:
        """Wait until what came then is as late as it is to be, by the delay of now."""
        while (left := came + self.delay - time.monotonic()) > 0:
            changed = self.changed
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await changed.wait()


class _Connection:
    """One client and its connection to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        #: Set: its bytes pass where the link passes any.
        self.own = asyncio.Event()
        self.own.set()
        #: Nothing of it is ever delivered again, and nobody is told.
        self.forgotten = False

    def reset(self) -> None:
        """End it at once, with a RST to both."""
        for writer in (self.client, self.server):
            _rst(writer)


def _rst(writer: asyncio.StreamWriter) -> None:
    """Reset a connection instead of closing it; one that was closed a moment ago has no socket any more."""
    own = writer.get_extra_info("socket")
    if own.fileno() < 0:
        return
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxy:
    """Between clients, which connect to `port`, and a server on `target`."""

    def __init__(self, target: int) -> None:
        """Listen; use it as a context, or `close` it."""
        self.port = free_port()
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._up, self._down = _Way(), _Way()
        for way in (self._up, self._down):
            way.passes.set()
        self._connections: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._thread.start()
        self._call(self._listen)

    # --- what can happen to a link

    def cut(self) -> None:
        """Reset every connection and refuse new ones, until `mend`."""

        async def act() -> None:
            await self._deaf()
            self._reset()

        self._call(act)

    def black_hole(self) -> None:
        """Pass nothing and tell nobody, until `mend`; new connections are taken and hear nothing."""
        self._set(up=False, down=False)

    def half_open(self, *, up: bool) -> None:
        """Pass one direction alone, until `mend`."""
        self._set(up=up, down=not up)

    def limit(self, *, up: float | None = None, down: float | None = None) -> None:
        """Pass so many bytes a second in each direction, over all connections."""

        async def act() -> None:
            self._up.per_second, self._down.per_second = up, down

        self._call(act)

    def delay(self, seconds: float) -> None:
        """Deliver everything this much later."""

        async def act() -> None:
            for way in (self._up, self._down):
                way.delay = seconds
                way.changed.set()
                way.changed = asyncio.Event()

        self._call(act)

    def overtake(self) -> None:
        """Hold back what is on the way and reset the clients alone: on new connections they overtake it, until `mend`."""

        async def act() -> None:
            for connection in self._connections:
                connection.own.clear()
                _rst(connection.client)

        self._call(act)

    def forget(self) -> None:
        """Lose the connections of now as a NAT does: nothing more arrives on them, and nobody is told."""

        async def act() -> None:
            for connection in self._connections:
                connection.forgotten = True

        self._call(act)

    def reset(self) -> None:
        """Reset every connection; new ones are taken."""

        async def act() -> None:
            self._reset()

        self._call(act)

    def mend(self) -> None:
        """Be a good link again; limits and delays stay."""

        async def act() -> None:
            if self._server is None:
                await self._listen()
            self._up.passes.set()
            self._down.passes.set()
            for connection in self._connections:
                connection.own.set()

        self._call(act)

    @property
    def passed(self) -> tuple[int, int]:
        """Bytes delivered so far: to the server, and to clients."""
        return self._up.passed, self._down.passed

    @property
    def held(self) -> tuple[int, int]:
        """Bytes that came and were not delivered: on the way to the server, and to clients. What a reset took stays among them."""
        return self._up.taken - self._up.passed, self._down.taken - self._down.passed

    @property
    def connections(self) -> int:
        """Connections that are open on our side."""
        return len(self._connections)

    # --- how it works

    def _call(self, act: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await act()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE_S)

    def _set(self, *, up: bool, down: bool) -> None:
        async def act() -> None:
            for way, passes in ((self._up, up), (self._down, down)):
                way.passes.set() if passes else way.passes.clear()

        self._call(act)

    async def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by what is accepted; after the handshake it would be too late.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        listener.bind(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=CHUNK)

    async def _deaf(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _reset(self) -> None:
        for connection in self._connections:
            connection.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # Cancelled when the proxy is closed; asyncio would log that.
            with suppress(asyncio.CancelledError):
                await self._both(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A link that passes nothing up doesn't let a new connection reach the server either.
        await self._up.passes.wait()
        try:
            back, out = await asyncio.open_connection("127.0.0.1", self._target, limit=CHUNK)
        except OSError:
            return
        connection = _Connection(writer, out)
        self._connections.append(connection)
        ways = [
            asyncio.ensure_future(self._pass(connection, reader, out, self._up)),
            asyncio.ensure_future(self._pass(connection, back, writer, self._down)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            # One side has ended: what is still on the way is delivered first, when the link passes anything.
            await connection.own.wait()
            await self._up.passes.wait()
            await asyncio.wait(ways, timeout=1.0)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            out.transport.abort()
            self._connections.remove(connection)

    async def _pass(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: _Way
    ) -> None:
        """Carry one direction of one connection to its end."""
        # Bounded: a slow link makes the sender wait, as a full window would.
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE)

        async def take() -> None:
            data = b"begin"
            while data:
                try:
                    data = await reader.read(CHUNK)
                except OSError:
                    data = b""
                way.taken += len(data)
                await waiting.put((time.monotonic(), data))

        taker = asyncio.ensure_future(take())
        try:
            with suppress(OSError):
                while True:
                    came, data = await waiting.get()
                    await way.late(came)
                    await way.admit(len(data))
                    await way.passes.wait()
                    await connection.own.wait()
                    if connection.forgotten:
                        await asyncio.Event().wait()
                    if not data:
                        writer.write_eof()
                        return
                    writer.write(data)
                    await writer.drain()
                    way.passed += len(data)
        finally:
            taker.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await taker

    def close(self) -> None:
        """End every connection, the server and the thread."""

        async def act() -> None:
            await self._deaf()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._call(act)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.close()
