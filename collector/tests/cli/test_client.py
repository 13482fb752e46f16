"""How a command comes to its collector: the address, the token, the authority; and what it says when something else is there."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from telemetryx.cli.client import Client, Place, read_token
from telemetryx.cli.errors import CliError, Exit

LONG = "x" * 300


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Something at a port that says this to whoever asks, and closes."""

    def serve(door: socket.socket) -> None:
        link, _ = door.accept()
        with link:
            # What was asked is read first: else the end is a reset.
            link.recv(1 << 16)
            link.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=serve, args=(door,), daemon=True)
        thread.start()
        yield int(door.getsockname()[1])
        thread.join(60)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "ftp://c:8420",
        "http://",
        "http://a b:8420",
        "http://[::1",
        "http://c:port",
        "http://c:99999",
        f"http://{LONG}",
        "http://..:8420",
        "http://c:8420/a b",
        "http://c:8420/\x01",
        "http://c:8420?x=1",
    ],
)
def test_what_is_no_address_is_wrong_use_in_a_sentence(url: str) -> None:
    """It isn't tried, and what is long isn't repeated whole."""
    with pytest.raises(CliError, match="is not a collector's address") as refused:
        Client(url).get("/agents")
    assert refused.value.code is Exit.USAGE
    assert LONG not in refused.value.message


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    """Others see command lines; a collector takes none so."""
    with pytest.raises(CliError, match="a user or a password") as refused:
        Place.of("https://ana:hunter2@c:8420")
    assert "hunter2" not in refused.value.message + refused.value.hint


def test_an_address_keeps_its_path_behind_which_a_proxy_has_the_collector() -> None:
    """With and without a slash at its end, and with a host's address in brackets."""
    assert Place.of("https://c.example/tx/") == Place("https", "c.example", None, "/tx")
    assert Place.of("HTTP://[::1]:8420") == Place("http", "::1", 8420, "")


def test_a_port_that_closes_or_speaks_otherwise_is_told_with_what_to_look_at() -> None:
    """A console with TLS that is asked without, the agents' port, a port without TLS that is asked with."""
    for answer, scheme, hint in (
        (b"", "http", "https://"),
        (b"\0\0\x12\x04\0\0\0\0\0", "http", "agents"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "https", "speaks no TLS"),
    ):
        with answering(answer) as port, pytest.raises(CliError, match="no collector answers") as refused:
            Client(f"{scheme}://127.0.0.1:{port}").get("/agents")
        assert refused.value.code is Exit.UNREACHABLE
        assert hint in refused.value.hint


def test_an_authority_that_cannot_be_used_says_which_file_it_should_be(tmp_path: Path) -> None:
    """It isn't there, or holds something else."""
    other = tmp_path / "agent.toml"
    other.write_text("[agent]\n")
    for path, why in ((tmp_path / "none", "No such file or directory$"), (other, "holds no certificate")):
        with pytest.raises(CliError, match=why) as refused:
            Client("https://127.0.0.1:1", ca_file=path).get("/agents")
        assert "ca.pem" in refused.value.hint
        assert refused.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("content", "token"),
    [
        (b"tx_0123456789abcdef\n", "tx_0123456789abcdef"),
        (b"# ours\n\n  tx_0123456789abcdef  # for Anna\nother\n", "tx_0123456789abcdef"),
        (b"anna tx_0123456789abcdef\n", "tx_0123456789abcdef"),
    ],
)
def test_the_first_token_of_a_file_is_shown(tmp_path: Path, content: bytes, token: str) -> None:
    """Past comments, and past the name that the collector's own file may have before it."""
    (tmp_path / "token").write_bytes(content)
    assert read_token(tmp_path / "token") == token


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("tök…en\n".encode(), "no token"),
        (b"\xff\xfe\0", "no UTF-8 text"),
        (b"tx_\x01\n", "no token"),
        (b"# nothing\n", "holds no token"),
        (None, "No such file or directory$"),
    ],
)
def test_a_file_without_a_token_is_wrong_use_in_a_sentence(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    """What can't stand in a header is never sent, and not repeated."""
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(CliError, match=why) as refused:
        read_token(tmp_path / "token")
    assert refused.value.code is Exit.USAGE
    assert refused.value.hint
    assert "tök" not in refused.value.message


def test_a_token_in_the_environment_is_judged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that pasted two lines into it."""
    monkeypatch.setenv("TELEMETRYX_TOKEN", " tx_0123456789abcdef\n")
    assert read_token(None) == "tx_0123456789abcdef"
    monkeypatch.setenv("TELEMETRYX_TOKEN", "one\ntwo")
    with pytest.raises(CliError, match="TELEMETRYX_TOKEN"):
        read_token(None)
