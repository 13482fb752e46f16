"""What a service manager is told: alive for as long as answers come, and how it is in one line."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetryx.errors import StoreUnavailable
from telemetryx.service import Service

#: Soon enough for a test: asked each tenth of a second, suspected after four.
WATCHDOG_S = 0.8


class Ear:
    """The manager's socket."""

    def __init__(self, address: str) -> None:
        """Listen."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    async def next(self, part: str) -> str:
        """Wait for a message that holds this."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            while part not in (said := (await loop.sock_recv(self._socket, 65536)).decode()):
                pass
        return said

    def rest(self) -> list[str]:
        """Take all that is there."""
        found = []
        try:
            while True:
                found.append(self._socket.recv(65536).decode())
        except BlockingIOError:
            return found

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    """Give a manager's ear."""
    ear = Ear(f"{tmp_path}/notify")
    yield ear
    ear.close()


def _service(tmp_path: Path) -> Service:
    return Service({"NOTIFY_SOCKET": f"{tmp_path}/notify", "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))})


async def test_without_an_answer_the_manager_is_not_told_that_all_is_well(ear: Ear, tmp_path: Path) -> None:
    """An answer feeds the watchdog; while one is missing nothing does, the status says so; then it goes on."""
    answering, stop = asyncio.Event(), asyncio.Event()
    answering.set()
    care = asyncio.create_task(_service(tmp_path).care(answering.wait, lambda: "well", stop))
    await ear.next("STATUS=well")
    await ear.next("WATCHDOG=1")
    answering.clear()
    await ear.next("STUCK: the store's writer hasn't answered for")
    ear.rest()
    await asyncio.sleep(0)
    assert not [said for said in ear.rest() if "WATCHDOG" in said]
    answering.set()
    await ear.next("WATCHDOG=1")
    stop.set()
    await care


async def test_a_store_that_is_away_is_an_answer(ear: Ear, tmp_path: Path) -> None:
    """A restart brings no database back: the collector is alive."""
    stop = asyncio.Event()

    async def away() -> None:
        raise StoreUnavailable("the server is away", "io")

    care = asyncio.create_task(_service(tmp_path).care(away, lambda: "STORE NOT READY", stop))
    await ear.next("WATCHDOG=1")
    await ear.next("STORE NOT READY")
    stop.set()
    await care


async def test_an_abstract_socket_is_reached_and_a_status_is_one_line() -> None:
    """`@name` is an abstract socket; a line's end in a status would begin another word."""
    name = f"telemetryx-test-service-{os.getpid()}"
    ear = Ear(f"\0{name}")
    service = Service({"NOTIFY_SOCKET": f"@{name}"})
    service.ready("one\nWATCHDOG=1")
    assert await ear.next("READY=1") == "READY=1\nSTATUS=one WATCHDOG=1"
    service.status("one\nWATCHDOG=1")
    service.status("two")
    assert ear.rest() == ["STATUS=two"]
    ear.close()


def test_another_process_watchdog_is_not_ours() -> None:
    """WATCHDOG_PID names who is meant."""
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1000000"}
    assert Service(environ).watchdog_s == 1.0
    assert Service({**environ, "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Service({}).watchdog_s is None
    Service({}).ready("nobody listens")
