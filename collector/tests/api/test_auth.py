"""Tokens of the file, and the checks that keep other web sites out."""

from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from telemetryx.api.auth import Gate, TokenFileError, read_tokens
from telemetryx.api.errors import Forbidden

TOKEN = "tx_0123456789abcdef"


def gate(tmp_path: Path, text: str = TOKEN, lifetime_s: int = 3_600) -> Gate:
    """Make a gate from a token file."""
    path = tmp_path / "tokens"
    path.touch(mode=0o600)
    path.write_text(text)
    return Gate(
        read_tokens(path), frozenset({"localhost", "127.0.0.1", "::1"}), lifetime_s * 10**9, secure=False
    )


def test_a_token_of_the_file_is_known_and_no_other(tmp_path: Path) -> None:
    """Comments and blank lines are no tokens."""
    door = gate(tmp_path, f"# ours\n\n{TOKEN}  # for Anna\nanother_token_of_16\n")
    assert door.knows(TOKEN)
    assert door.knows("another_token_of_16")
    for wrong in ("", f"{TOKEN}x", TOKEN[:-1], "# ours", "é", TOKEN.upper()):
        assert not door.knows(wrong)


@pytest.mark.parametrize("text", ["", "# only this\n", "short\n"])
def test_a_file_without_a_good_token_is_refused(tmp_path: Path, text: str) -> None:
    """An empty file must not mean an open door."""
    with pytest.raises(TokenFileError, match="token new"):
        gate(tmp_path, text)


def test_a_missing_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """The message says how to make one."""
    with pytest.raises(TokenFileError, match="token new"):
        read_tokens(tmp_path / "none")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8420", "127.0.0.1.evil.example:8420", "[::2]:8420"]
)
def test_another_host_name_is_refused(tmp_path: Path, host: str) -> None:
    """A page that lets its own name point at us (DNS rebinding) gets nothing."""
    with pytest.raises(Forbidden):
        gate(tmp_path).check_origin(make_mocked_request("GET", "/", headers={"Host": host}))


@pytest.mark.parametrize("host", ["localhost:8420", "127.0.0.1:8420", "[::1]:8420", "LOCALHOST"])
def test_our_own_names_are_taken(tmp_path: Path, host: str) -> None:
    """With and without a port, in any case."""
    gate(tmp_path).check_origin(make_mocked_request("GET", "/", headers={"Host": host}))


def test_a_page_of_another_site_can_neither_post_nor_open_the_stream(tmp_path: Path) -> None:
    """Browsers send such requests with cookies; the Origin tells them apart."""
    door = gate(tmp_path)
    evil = {"Host": "localhost:8420", "Origin": "http://evil.example"}
    own = {"Host": "localhost:8420", "Origin": "http://localhost:8420"}
    with pytest.raises(Forbidden):
        door.check_origin(make_mocked_request("POST", "/api/v1/login", headers=evil))
    with pytest.raises(Forbidden):
        door.check_origin(
            make_mocked_request("GET", "/api/v1/live", headers={**evil, "Connection": "Upgrade"})
        )
    door.check_origin(make_mocked_request("GET", "/api/v1/live", headers={**own, "Connection": "Upgrade"}))
