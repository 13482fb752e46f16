"""The faulty link does what it says, or what is tried with it proves nothing."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.fault.proxy import Proxy
from tests.harness import until


class Echo:
    """Answers what it gets, and keeps it in the order in which it came, over all connections."""

    def __init__(self) -> None:
        """Listen."""
        self.heard: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link: socket.socket) -> None:
        with link:
            try:
                while data := link.recv(65_536):
                    self.heard.append(data)
                    link.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


@pytest.fixture(name="echo")
def _echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture(name="proxy")
def _proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as proxy:
        yield proxy


def connected(proxy: Proxy) -> socket.socket:
    """Connect, and exchange a byte."""
    link = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    link.sendall(b"-")
    assert link.recv(1) == b"-"
    return link


def test_a_good_link_passes_everything_and_counts_it(proxy: Proxy) -> None:
    """A megabyte there and back."""
    content = bytes(range(256)) * 4096
    with connected(proxy) as link:
        sender = threading.Thread(target=link.sendall, args=(content,))
        sender.start()
        came = b""
        while len(came) < len(content):
            came += link.recv(65_536)
        sender.join()
    assert came == content
    until("all is counted", lambda: proxy.passed == (len(content) + 1, len(content) + 1))


def test_a_cut_resets_what_is_open_and_refuses_what_comes_until_it_is_mended(proxy: Proxy) -> None:
    """As when a cable is pulled and the host knows."""
    with connected(proxy) as link:
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            link.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    proxy.mend()
    connected(proxy).close()


def test_a_black_hole_passes_nothing_and_tells_nobody_until_it_is_mended(proxy: Proxy, echo: Echo) -> None:
    """What was sent into it arrives afterwards."""
    with connected(proxy) as link:
        proxy.black_hole()
        link.sendall(b"dark")
        link.settimeout(0.3)
        with pytest.raises(TimeoutError):
            link.recv(1)
        assert b"dark" not in echo.heard
        proxy.mend()
        link.settimeout(30)
        assert link.recv(4) == b"dark"


def test_a_forgotten_connection_stays_silent_after_the_link_is_mended(proxy: Proxy, echo: Echo) -> None:
    """New ones work beside it."""
    with connected(proxy) as link:
        proxy.black_hole()
        proxy.forget()
        link.sendall(b"dark")
        proxy.mend()
        connected(proxy).close()
        link.settimeout(0.3)
        with pytest.raises(TimeoutError):
            link.recv(1)
        assert b"dark" not in echo.heard


@pytest.mark.parametrize("up", [True, False])
def test_a_half_open_link_passes_one_direction(proxy: Proxy, echo: Echo, *, up: bool) -> None:
    """The server hears, and its answer is lost; or the server hears nothing."""
    with connected(proxy) as link:
        proxy.half_open(up=up)
        link.sendall(b"half")
        if up:
            until("it is heard", lambda: b"half" in echo.heard)
        link.settimeout(0.3)
        with pytest.raises(TimeoutError):
            link.recv(1)
        assert (b"half" in echo.heard) is up
        proxy.mend()
        link.settimeout(30)
        assert link.recv(4) == b"half"


def test_what_was_overtaken_arrives_after_what_came_on_the_next_connection(proxy: Proxy, echo: Echo) -> None:
    """The old connection's bytes reach the server late, though its client was reset long before."""
    with connected(proxy) as link:
        until("nothing is on the way", lambda: proxy.held == (0, 0))
        proxy.delay(3_600)
        link.sendall(b"old")
        until("it is on the way, within the delay", lambda: proxy.held == (len(b"old"), 0))
        proxy.overtake()
        proxy.delay(0)
        with pytest.raises(ConnectionResetError):
            link.recv(1)
    with connected(proxy) as link:
        link.sendall(b"new")
        assert link.recv(3) == b"new"
    assert b"old" not in echo.heard
    proxy.mend()
    until("the old bytes arrive", lambda: b"old" in echo.heard)
    assert echo.heard.index(b"old") > echo.heard.index(b"new")


def test_a_limited_link_takes_at_least_the_time_its_limit_says(proxy: Proxy) -> None:
    """100 kB at 200 kB/s are not there within 0.4 s, which no busy machine makes shorter."""
    with connected(proxy) as link:
        proxy.limit(up=200_000)
        begin = time.monotonic()
        link.sendall(bytes(100_000))
        came = 0
        while came < 100_000:
            came += len(link.recv(65_536))
        assert time.monotonic() - begin > 0.4
