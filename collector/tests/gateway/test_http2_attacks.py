"""Raw HTTP/2 frames against the agents' door of a real collector: others are served meanwhile, and memory stays bounded."""

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from reference_agent import SECOND, T0, ReferenceAgent, defined, samples
from telemetryx.wire.payload import Payload

DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_HEADERS = 4
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME: Final = 16_384
LITTLE: Final = 48 << 20
"""Memory that an attack may take for a while: far less than what it stands for."""
SOME: Final = 320 << 20
"""The same for one that sends 400 MB as fast as it can: gRPC reads ahead, but must not keep it all."""
LEAST: Final = 5
"""Batches that the agent sends at least while it is under way."""
PATIENCE_S: Final = 5.0
"""An attack ends by itself, by being thrown out, or when so long nothing of it was taken."""


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """Write an HTTP/2 frame."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + body


def integer(value: int, prefix: int) -> bytes:
    """Write an HPACK integer (RFC 7541, 5.1)."""
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes([value])
    out, value = bytearray([limit]), value - limit
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def header(name: bytes, value: bytes) -> bytes:
    """Write a header field without indexing."""
    return b"\x00" + integer(len(name), 7) + name + integer(len(value), 7) + value


CALL: Final = b"".join(
    header(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/telemetryx.v1.Link/Session"),
        (b":authority", b"collector"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)


def rapid_reset() -> Iterator[bytes]:
    """Open and cancel streams as fast as they can be written (CVE-2023-44487)."""
    for first in range(1, 100_001, 100):
        yield b"".join(
            frame(HEADERS, END_HEADERS, stream, CALL) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
            for stream in range(first, first + 100, 2)
        )


def continuation_flood() -> Iterator[bytes]:
    """Header blocks that never end (CVE-2024-27316)."""
    yield frame(HEADERS, 0, 1, CALL)
    block = b"".join(header(b"x%d" % number, b"v" * 100) for number in range(100))
    for _ in range(40_000):
        yield frame(CONTINUATION, 0, 1, block)


def large_headers() -> Iterator[bytes]:
    """One call with hundreds of megabytes of metadata."""
    yield frame(HEADERS, 0, 1, CALL)
    for number in range(28_000):
        yield frame(CONTINUATION, 0, 1, header(b"x%d" % number, b"v" * 15_000))
    yield frame(CONTINUATION, END_HEADERS, 1)


def open_streams() -> Iterator[bytes]:
    """Calls that are opened and left there."""
    for stream in range(1, 100_001, 2):
        yield frame(HEADERS, END_HEADERS, stream, CALL)


def ping_flood() -> Iterator[bytes]:
    """Pings whose answers nobody reads."""
    for _ in range(20_000):
        yield frame(PING, 0, 0, b"12345678") * 100


def settings_flood() -> Iterator[bytes]:
    """Settings whose acknowledgements nobody reads."""
    for _ in range(20_000):
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)) * 100


def gzip_bomb() -> Iterator[bytes]:
    """A compressed message of a few hundred kilobytes that stands for 512 MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    packed = b"".join(packer.compress(zeros) for _ in range(512)) + packer.flush()
    yield frame(HEADERS, END_HEADERS, 1, CALL + header(b"grpc-encoding", b"gzip"))
    message = b"\x01" + struct.pack(">I", len(packed)) + packed
    for start in range(0, len(message), FRAME):
        yield frame(DATA, 0, 1, message[start : start + FRAME])


def promised_message() -> Iterator[bytes]:
    """Messages that say they have four gigabytes."""
    for stream in range(1, 2_001, 2):
        yield frame(HEADERS, END_HEADERS, stream, CALL)
        yield frame(DATA, 0, stream, b"\x00\xff\xff\xff\xff" + b"x" * 1_000)


@dataclass(frozen=True)
class Collector:
    """A collector process."""

    pid: int
    http: int
    grpc: int

    def memory(self, kind: str) -> int:
        """Bytes of VmRSS (now) or VmHWM (at most, since `mark`)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(kind))

    def mark(self) -> int:
        """Begin to watch the peak of memory; return what is used now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self.memory("VmRSS")

    def healthy(self) -> bool:
        """Ask /healthz."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/healthz", timeout=60) as answer:
            return bool(answer.status == 200)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """One collector for all attacks: what one leaves behind, the next meets."""
    folder = tmp_path_factory.mktemp("collector")
    config = folder / "collector.toml"
    config.write_text(
        f'[collector]\ndata_dir = "{folder}/data"\nlog_format = "json"\n'
        '[api]\nlisten = "127.0.0.1:0"\n[gateway]\nlisten = "127.0.0.1:0"\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "telemetryx", "collector", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    log = process.stdout
    ready = next(json.loads(line) for line in log if "collector_ready" in line)
    drain = threading.Thread(target=lambda: [None for _ in log])
    drain.start()
    ports = (int(ready[door].rpartition(":")[2]) for door in ("http", "agents"))
    yield Collector(process.pid, *ports)
    process.terminate()
    assert process.wait(60) == 0, "it still ends in order"
    drain.join(60)
    log.close()


async def attack(port: int, frames: Iterator[bytes]) -> None:
    """Write frames, reading nothing, until they end, the peer throws us out, or it takes no more."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=FRAME)
    try:
        writer.write(PREFACE + frame(SETTINGS, 0, 0))
        for piece in frames:
            writer.write(piece)
            async with asyncio.timeout(PATIENCE_S):
                await writer.drain()
            await asyncio.sleep(0)
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("frames", "growth"),
    [
        (rapid_reset, LITTLE),
        (continuation_flood, SOME),
        (large_headers, SOME),
        (open_streams, LITTLE),
        (ping_flood, LITTLE),
        (settings_flood, LITTLE),
        (gzip_bomb, LITTLE),
        (promised_message, LITTLE),
    ],
)
async def test_an_attacker_hurts_nobody_else(
    collector: Collector, frames: Callable[[], Iterator[bytes]], growth: int
) -> None:
    """An agent's session goes on during it and after it, /healthz answers, and memory stays within a bound."""
    agent = ReferenceAgent(f"honest-{frames.__name__}")

    def batch(seq: int) -> Payload:
        return Payload(samples({1: [(T0 + seq * SECOND, float(seq))]}))

    async with agent.session(collector.grpc) as link:
        await link.send(agent.cut(batch(0), defined("x")))
        await link.acked()
        before = collector.mark()
        attacking = asyncio.create_task(attack(collector.grpc, frames()))
        for seq in range(1, 1_000):
            await link.send(agent.cut(batch(seq)))
            await link.acked()
            if attacking.done() and seq >= LEAST:
                break
        assert await asyncio.to_thread(collector.healthy)
        async with asyncio.timeout(240):
            await attacking
        await link.send(agent.cut(batch(1_000)))
        await link.acked()
    # A connection that is made after it is served like the one that was there before.
    async with agent.session(collector.grpc):
        assert agent.greeting is not None
        assert agent.greeting.holdings[0].upto == agent.next_seq - 1
    assert collector.memory("VmHWM") - before < growth


def goodbye(collector: Collector, sent: bytes) -> bytes:
    """Send frames and return what came until the door closed the connection."""
    came = b""
    # Of a connection that is reset a stream of asyncio gives nothing more, not even what had come before.
    with socket.create_connection(("127.0.0.1", collector.grpc), timeout=60) as link:
        with contextlib.suppress(ConnectionError):
            link.sendall(PREFACE + frame(SETTINGS, 0, 0) + sent)
        with contextlib.suppress(ConnectionError):
            while piece := link.recv(65_536):
                came += piece
    return came


async def test_who_floods_with_pings_is_told_to_calm_down(collector: Collector) -> None:
    """The connection ends with GOAWAY and the code ENHANCE_YOUR_CALM."""
    answer = await asyncio.to_thread(goodbye, collector, frame(PING, 0, 0, b"12345678") * 100)
    assert struct.pack(">I", 11) + b"too_many_pings" in answer


async def test_a_compressed_message_is_refused_unread(collector: Collector) -> None:
    """The call ends with UNIMPLEMENTED, which names the compression; the connection stays for others."""
    reader, writer = await asyncio.open_connection("127.0.0.1", collector.grpc)
    writer.write(PREFACE + frame(SETTINGS, 0, 0) + next(gzip_bomb()))
    try:
        async with asyncio.timeout(60):
            await reader.readuntil(b"grpc-status\x0212")
    finally:
        writer.transport.abort()
