"""From where a request comes, behind proxies too: nobody chooses their own address."""

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from running import Running
from telemetryx.api.peer import Peers
from telemetryx.store.audit import AuditQuery


class Link:
    """A connection from somewhere."""

    def __init__(self, peer: str) -> None:
        self.peer = peer

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Say where it comes from."""
        return (self.peer, 1) if name == "peername" else default


@pytest.mark.parametrize(
    ("peer", "sent", "found"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        (
            "192.0.2.1",
            ["198.51.100.9"],
            "192.0.2.1",
        ),  # it isn't a proxy of ours: its header is its own invention
        ("10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["127.0.0.1, 198.51.100.9"], "198.51.100.9"),  # what stands before is the client's
        ("10.0.0.1", ["127.0.0.1", "198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["198.51.100.9, 10.0.0.7"], "198.51.100.9"),  # two proxies
        ("10.0.0.1", ["10.0.0.8, 10.0.0.7"], "10.0.0.8"),
        ("10.0.0.1", ["198.51.100.9:4711"], "198.51.100.9"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["198.51.100.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["<script>"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
    ],
)
def test_only_known_proxies_say_who_comes_over_them(peer: str, sent: list[str], found: str) -> None:
    """From the last hop backwards."""
    request = make_mocked_request(
        "GET",
        "/",
        headers=[("Host", "x"), *(("X-Forwarded-For", one) for one in sent)],  # type: ignore[arg-type]
        transport=Link(peer),
    )
    assert Peers(["10.0.0.0/24"]).of(request) == found


async def test_wrong_logins_behind_a_proxy_are_each_ones_own(start: Any) -> None:
    """One who guesses there doesn't slow the others down, and the audit log says who it was."""
    api: Running = await start(closed=True, peers=Peers(["127.0.0.0/8"]))

    async def guess(address: str) -> int:
        body = {"user": "ana", "password": "wrong password"}
        headers = {"X-Forwarded-For": address}
        async with api.client.post("/api/v1/login", json=body, headers=headers) as answer:
            return answer.status

    assert [await guess("198.51.100.1") for _ in range(7)] == [401] * 5 + [429] * 2
    assert await guess("198.51.100.2") == 401
    log = await api.world.store.audited(AuditQuery())
    assert [row.actor.peer for row in log] == ["198.51.100.2", *["198.51.100.1"] * 5]
