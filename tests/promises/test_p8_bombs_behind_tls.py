"""P8 behind TLS: a body that unpacks to far more than it is gets a refusal at every door that speaks TLS, and the memory that the limits say.

Who has got through the handshake (anybody at the people's door, a host with a good certificate at the agents') is believed no more
than before it.
"""

import asyncio
import gzip
import http.client
import re
import ssl
import time
import zlib
from pathlib import Path

import grpc
import pytest
import zstandard

from telemetryx.wire.frame import checksum
from telemetryx.wire.payload import Payload
from tests.harness import Agent, Collector, Stack, until
from tests.harness.certificates import authority, signed
from tests.harness.processes import PATIENCE
from tests.harness.reference import ReferenceAgent, defined, samples
from tests.journeys.test_enrolment import enroll, secure, stored, stranger, telemetryx

UNPACKED = 256 << 20
#: The collector's `max_body` is a megabyte, a batch may unpack to 64 MiB; what each costs beside that.
ALLOWED = 128 << 20


def packed(wbits: int) -> bytes:
    """Return a few hundred kilobytes that stand for UNPACKED bytes of a JSON string: a gzip file (31), or zlib's (15)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    pieces = [b'{"token":"', *[b"a" * (1 << 20)] * (UNPACKED >> 20)]
    return b"".join([*map(packer.compress, pieces), packer.flush()])


def peak(pid: int) -> int:
    """Return a process's largest resident memory so far, in bytes."""
    found = re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def posted(port: int, trusted: Path, path: str, body: bytes, **headers: str) -> int:
    """Post over TLS; return the status."""
    context = ssl.create_default_context(cafile=trusted)
    link = http.client.HTTPSConnection("localhost", port, timeout=PATIENCE, context=context)
    try:
        link.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return link.getresponse().status
    finally:
        link.close()


@pytest.fixture(name="door")
def _door(stack: Stack) -> Collector:
    """Start a collector whose two doors speak TLS."""
    return secure(stack)


def joins(collector: Collector, agent: Agent, name: str) -> None:
    """Have a host join over HTTPS."""
    agent.name = name
    done = enroll(agent, telemetryx(collector, "enroll", "token", https=True), "--name", name)
    assert done.returncode == 0, done.stderr


def test_the_peoples_door_unpacks_no_more_of_a_body_than_it_takes(door: Collector) -> None:
    """Routes that need no login, and a form of the Prometheus API: 413 each time, and the next one is served."""
    assert door.process is not None
    assert door.authority is not None
    before = peak(door.process.pid)
    json_type, form = "application/json", "application/x-www-form-urlencoded"
    routes = {"enroll": json_type, "enroll/renew": json_type, "login": json_type}
    paths = {f"/api/v1/{name}": kind for name, kind in routes.items()} | {"/prometheus/api/v1/query": form}
    for encoding, body in (("gzip", packed(31)), ("deflate", packed(15))):
        for path, kind in paths.items():
            status = posted(
                door.http, door.authority, path, body, Content_Type=kind, Content_Encoding=encoding
            )
            assert status == 413, (path, encoding)
    assert peak(door.process.pid) - before < ALLOWED
    assert "--token" in telemetryx(door, "enroll", "token", https=True)


def test_the_agents_door_unpacks_no_more_of_a_host_with_a_good_certificate(
    stack: Stack, door: Collector
) -> None:
    """A batch that unpacks to more than one may hold is refused by name, alone: the session goes on, and so does another host's."""
    assert door.process is not None
    honest, thief = stranger(stack, door), stranger(stack, door)
    joins(door, honest, "honest")
    joins(door, thief, "bomber")
    honest.start()
    identity = thief.data / "identity"
    shown = (identity / name for name in ("ca.pem", "key.pem", "cert.pem"))
    credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in shown))
    bombs = (
        zstandard.compress(bytes(UNPACKED), 19),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(UNPACKED)),
    )
    before, now = peak(door.process.pid), time.time_ns()

    async def attack() -> list[str]:
        agent = ReferenceAgent("bomber")
        async with agent.session(door.grpc, credentials=credentials) as link:
            for bomb in bombs:
                batch = agent.cut(Payload(samples({1: [(now, 1.0)]})), defined("bomb.n"))
                batch.payload, batch.checksum = bomb, checksum(bomb)
                await link.send(batch)
            refused = await link.all_of("refusal", len(bombs))
            agent.unacked.clear()
            await link.send(agent.cut(Payload(samples({1: [(now, 2.0)]})), defined("bomb.n")))
            await link.answer("ack")
        return [one.message for one in refused]

    states, says_nothing = asyncio.run(attack())
    assert "would unpack to" in states, states
    assert "content size" in says_nothing, says_nothing
    assert peak(door.process.pid) - before < ALLOWED
    assert honest.write("one n=1i") == 204
    until("the honest host's reading is stored", lambda: stored(door, 1))
    assert door.values("bomb.n", start="-1h") == [[2.0]]


def test_an_agents_own_tls_port_unpacks_no_more_of_a_body_than_it_takes(
    stack: Stack, door: Collector
) -> None:
    """The HTTP input with a certificate: 413 for gzip and zstd, and the next line is taken."""
    ours = authority(stack.folder, "ours")
    cert, key = signed(stack.folder, ours)
    agent = stranger(stack, door)
    with_tls = f'[input.http]\ncert_file = "{cert}"\nkey_file = "{key}"\n'
    agent.config.write_text(agent.config.read_text().replace("[input.http]\n", with_tls))
    joins(door, agent, "edge")
    agent.start()
    assert agent.process is not None
    line = b"one n=1i\n"
    sent = lambda body, encoding: posted(  # noqa: E731 - a short name for one call
        agent.http, ours[0], "/write", body, Content_Encoding=encoding
    )
    until("its port takes a line", lambda: sent(zstandard.compress(line), "zstd") == 204)
    before = peak(agent.process.pid)
    assert sent(packed(31), "gzip") == 413
    assert sent(zstandard.compress(b"\n" * UNPACKED), "zstd") == 413
    # input.http.max_decoded is 64 MiB, and a vector that grows holds its old half too.
    assert peak(agent.process.pid) - before < 192 << 20
    assert sent(gzip.compress(b"one n=2i\n"), "gzip") == 204
    until("the line after them is stored", lambda: stored(door, 2))
