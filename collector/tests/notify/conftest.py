"""A real store, a clock that stands, and a web server that notes what it is sent and answers as it is told."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from telemetryx.clock import ManualClock
from telemetryx.notify import Sender, Webhook, WebhookTarget
from telemetryx.store.alerts import Alert, AlertChange, AlertState, ChangeKind, RulesCommit
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.rules import StoredRules
from telemetryx.store.tables.store import TableStore

S = 1_000_000_000
NOW = 1_700_000_000 * S


class Desk:
    """Everything around one receiver."""

    def __init__(self, store: TableStore, clock: ManualClock) -> None:
        """Begin with answers of 200."""
        self.store = store
        self.kept = StoredRules(store)
        self.clock = clock
        self.got: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.sender: Sender
        self.hook: Webhook

    async def handle(self, request: web.Request) -> web.Response:
        """Note a message and answer."""
        self.got.append(await request.json())
        self.heads.append(dict(request.headers))
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        return web.Response(status=status, headers=headers, text="so it is")

    async def change(self, state: AlertState, group: str = "g", **more: Any) -> list[Alert]:
        """Let the rules say something about one alert."""
        values: dict[str, Any] = {
            "kind": ChangeKind.STANDS,
            "rule": "hot",
            "group": group,
            "started_ns": NOW - 20 * S,
            "at_ns": self.clock.now_ns(),
            "state": state,
            "severity": "warning",
            "labels": {"agent": "gw1", "device": group},
            "summary": "too hot",
            "value": 91.5,
            "threshold": 80.0,
            "fired_ns": None if state is AlertState.PENDING else NOW,
            "resolved_ns": NOW + 60 * S if state is AlertState.RESOLVED else None,
            **more,
        }
        return await self.kept.rules_commit(
            RulesCommit("rules", changes=[AlertChange(**values)], receivers=self.sender.names)
        )

    async def send(self, after_s: float = 2) -> bool:
        """Let time pass and send what is due."""
        self.clock.advance(int(after_s * S))
        return await self.sender.send_next(self.hook)


@pytest.fixture(params=["sqlite", "postgres"])
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    """Everything, wired, on each store."""
    clock = ManualClock(NOW)
    store: TableStore
    if request.param == "sqlite":
        store = await SqliteStore.open(tmp_path / "t.db", clock=clock)
    else:
        store = await PostgresStore.open(request.getfixturevalue("database"), clock=clock)
    made = Desk(store, clock)
    app = web.Application()
    app.router.add_post("/hook", made.handle)
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    async with TestServer(app) as server, ClientSession() as session:
        target = WebhookTarget.of(str(server.make_url("/hook?key=hidden")), token, 2 * S)
        made.hook = Webhook(target, session, "https://console.example")
        made.sender = Sender(made.kept, clock, [made.hook])
        yield made
    await store.close()
