"""What somebody sends never becomes a header of an answer, nor a second request: asked over the bare connection of a client that keeps no rule."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import pytest

from running import Running
from telemetryx.api.routes import document

#: A line's end as it is, alone, as characters whose low bytes are one, and with an end of all headers behind it.
LINE = (
    "%0d%0aInjected:%20yes%0aInjected:%20yes%E5%98%8D%E5%98%8AInjected:%20yes%0d%0a%0d%0a<p>Injected:%20yes"
)
METHODS = ("get", "post", "put", "patch", "delete")


@dataclass
class Answer:
    """One answer: its status line and headers, and how many answers came in all."""

    head: str
    answers: int

    @property
    def status(self) -> int:
        """Of the first."""
        return int(self.head.split(" ", 2)[1])

    @property
    def names(self) -> set[str]:
        """Names of its headers."""
        return {line.partition(":")[0].strip().lower() for line in self.head.split("\r\n")[1:]}


async def said(api: Running, sent: bytes) -> Answer:
    """Send bytes as they are, and read until the server ends the connection."""
    server = api.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(sent)
        await writer.drain()
        async with asyncio.timeout(30):
            whole = await reader.read()
    finally:
        writer.close()
    head = whole.partition(b"\r\n\r\n")[0].decode("latin-1")
    return Answer(head, len(re.findall(rb"^HTTP/1\.[01] \d\d\d ", whole, re.MULTILINE)))


def operations() -> list[tuple[str, str, list[str]]]:
    """List every operation: method, path, and the names that its query knows."""
    paths: Any = document()["paths"]
    return [
        (
            method,
            path,
            [one["name"] for one in paths[path][method].get("parameters", ()) if one["in"] == "query"],
        )
        for path in sorted(paths)
        for method in METHODS
        if method in paths[path]
    ]


async def test_no_parameter_of_any_operation_becomes_a_header(api: Running) -> None:
    """In the path, and in every parameter of the query: whatever is answered, its headers are ours."""
    asked = 0
    for method, path, names in operations():
        filled = re.sub(r"\{[^}]+\}", f"x{LINE}", path)
        targets = {filled, filled + LINE, *(f"{path}?{name}=x{LINE}" for name in names if "{" not in path)}
        for target in sorted(targets):
            answer = await said(
                api,
                f"{method.upper()} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}".encode(),
            )
            assert answer.answers == 1, target
            assert "injected" not in answer.names, target
            assert answer.status != 500, target
            asked += 1
    assert asked > 150


@pytest.mark.parametrize(
    "name",
    ["Accept", "Accept-Encoding", "Cookie", "Host", "If-None-Match", "Origin", "Referer", "traceparent", "X-Forwarded-For",
     "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-Id", "Authorization"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/index.html", "/api/v1/agents", "/metrics", "/readyz", "/none"])
async def test_no_header_of_a_request_comes_back(api: Running, path: str, name: str) -> None:
    """Encoded line ends stay what they are, and nothing that is sent is repeated in a header."""
    host = "" if name == "Host" else "Host: localhost\r\n"
    answer = await said(
        api,
        f"GET {path} HTTP/1.1\r\n{host}{name}: x%0d%0aInjected: reflected\r\nConnection: close\r\n\r\n".encode(),
    )
    assert answer.answers == 1
    assert "injected" not in answer.head.lower()
    assert "reflected" not in answer.head


SECOND = "GET /api/v1/second HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
CHUNKED = "0\r\n\r\n" + SECOND
AMBIGUOUS = {
    "two lengths": ("Content-Length: 0\r\nContent-Length: 5\r\n", SECOND),
    "a list of lengths": ("Content-Length: 0, 0\r\n", SECOND),
    "a length and chunks": (f"Content-Length: {len(CHUNKED)}\r\nTransfer-Encoding: chunked\r\n", CHUNKED),
    "chunks that are none": (f"Transfer-Encoding: xchunked\r\nContent-Length: {len(CHUNKED)}\r\n", CHUNKED),
    "chunked before another coding": ("Transfer-Encoding: chunked, identity\r\n", CHUNKED),
    "a negative length": ("Content-Length: -1\r\n", SECOND),
    "a length with a sign": ("Content-Length: +0\r\n", SECOND),
    "a length in hexadecimal": ("Content-Length: 0x0\r\n", SECOND),
    "a blank before the colon": ("Content-Length : 0\r\n", SECOND),
    "a NUL in a value": ("X-A: a\x00b\r\n", SECOND),
    "a bare CR in a value": ("X-A: a\rContent-Length: 0\r\n", SECOND),
    "a line without a colon": ("garbage\r\n", SECOND),
    "a name of bytes that no name has": ("X\x7fA: 1\r\n", SECOND),
    "a chunk's length with junk": ("Transfer-Encoding: chunked\r\n", "0x0\r\n\r\n" + SECOND),
    "a negative chunk": ("Transfer-Encoding: chunked\r\n", "-1\r\n\r\n" + SECOND),
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
async def test_a_request_that_two_servers_read_differently_is_refused(api: Running, kind: str) -> None:
    """A proxy before it may take the rest for a body, or for another's request: it is refused, and the connection ends."""
    more, rest = AMBIGUOUS[kind]
    answer = await said(
        api, f"POST /api/v1/silences HTTP/1.1\r\nHost: localhost\r\n{more}\r\n{rest}".encode("latin-1")
    )
    assert answer.status == 400, answer.head
    assert answer.answers == 1, "the second request is never read"
