"""A Redis server for each test that needs one, and processes that share it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from redis_processes import PATIENT_S, TIMEOUT_S, Together, sharing
from redis_server import RedisServer
from telemetryx.hot.address import Address


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test's own."""
    one = RedisServer()
    try:
        one.start()
        yield one
    finally:
        one.remove()


@pytest.fixture
async def together(server: RedisServer) -> AsyncIterator[Together]:
    """Processes that share the server."""
    async with sharing(Address(server.url, timeout_s=PATIENT_S)) as found:
        yield found


@pytest.fixture
async def impatient(server: RedisServer) -> AsyncIterator[Together]:
    """Processes that give the server up soon."""
    async with sharing(Address(server.url, timeout_s=TIMEOUT_S)) as found:
        yield found


@pytest.fixture
def password(tmp_path: Path) -> Path:
    """A file with a password."""
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    return path
