"""Live streams end with what opened them: a session, an account, a token; at once, and whichever process ends it."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse

from api.test_accounts import HASHED, browser
from running import Running, S
from telemetryx.api import server
from telemetryx.api.auth import COOKIE
from telemetryx.api.live import changes
from telemetryx.store.accounts import Role
from telemetryx.store.audit import Actor

ROOT = Actor("root", "cli", "host")


@pytest.fixture
async def closed(start: Any, monkeypatch: pytest.MonkeyPatch) -> Running:
    """An API that asks for accounts, with one of each role. Only what changed makes it look at its streams again."""
    monkeypatch.setattr(server, "RECHECK_S", 3_600.0)
    monkeypatch.setattr(changes, "LOOK_S", 0.01)
    api: Running = await start(closed=True)
    for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER):
        await api.world.store.accounts.add(role.word, role, HASHED, ROOT)
    return api


@pytest.mark.parametrize("end", ["log out", "another password", "removed"])
async def test_a_live_stream_ends_with_its_session(closed: Running, end: str) -> None:
    """Also when it is the command line or another collector that ends it: straight in the store."""
    ana, accounts = await browser(closed, "viewer"), closed.world.store.accounts
    headers = {"Cookie": f"{COOKIE}={ana.cookies[COOKIE]}"}
    async with closed.client.ws_connect("/api/v1/live", headers=headers) as socket:
        match end:
            case "log out":
                await ana.send("POST", "/logout")
            case "another password":
                await accounts.change_password("viewer", HASHED, ROOT)
            case _:
                await accounts.remove("viewer", ROOT)
        await ended(socket)


async def test_a_live_stream_goes_on_while_its_session_holds_and_ends_when_that_has_run_out(
    closed: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another's removal and a lower role, which still may look, end nobody's; time does, without an entry in the audit log."""
    monkeypatch.setattr(server, "RECHECK_S", 0.01)
    ana = await browser(closed, "operator")
    headers = {"Cookie": f"{COOKIE}={ana.cookies[COOKIE]}"}
    async with closed.client.ws_connect("/api/v1/live", headers=headers) as socket:
        await closed.world.store.accounts.remove("viewer", ROOT)
        await closed.world.store.accounts.change_role("operator", Role.VIEWER, ROOT)
        await socket.send_json({"subscribe": {"agents": True}})
        async with asyncio.timeout(60):
            assert (await socket.receive_json())["type"] == "agents"
        closed.clock.advance(3_601 * S)
        await ended(socket)


async def test_a_live_stream_of_a_program_ends_with_its_token(closed: Running) -> None:
    """As a person's does with the session."""
    admin = await browser(closed, "admin")
    made = await admin.send("POST", "/tokens", name="ci", role="viewer", expires="1h")
    headers = {"Authorization": f"Bearer {made['token']}"}
    async with closed.client.ws_connect("/api/v1/live", headers=headers) as socket:
        await admin.send("DELETE", f"/tokens/{made['id']}")
        await ended(socket)


async def ended(socket: ClientWebSocketResponse) -> None:
    """Wait until the collector ends the stream."""
    async with asyncio.timeout(60):
        while (await socket.receive()).type.name not in {"CLOSE", "CLOSED"}:
            pass
    assert socket.close_code == 1008
