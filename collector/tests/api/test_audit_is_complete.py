"""Every route that changes something, done once by an admin: what the audit log says of it, and that no secret is in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from api.test_accounts import ADMIN_TOKEN, BY, HASHED, PASSWORD, Browser, browser
from api.test_care import connected
from api.test_silences import fire
from api.test_who_may_do_what import served
from enrolment.conftest import Host
from reference_agent import SECOND, decoded, defined, samples
from running import T0, Running, S
from telemetryx.api.auth import COOKIE, CSRF
from telemetryx.store.accounts import Role, digest
from telemetryx.store.audit import AuditQuery
from telemetryx.types import BatchKey
from telemetryx.wire.payload import Payload

DAY: Final = 86_400 * SECOND
WORDS: Final = "four quiet words here"
SECRET_TOML: Final = "[input.mqtt]\npassword = 'hunter2hunter2'\n"
READS: Final = {"/api/v1/configs/check"}
"""Posts that look, and change nothing."""


@dataclass
class Story:
    """What is known while it goes on."""

    api: Running
    headers: dict[str, str]
    host: Host = field(default_factory=lambda: Host("pump"))
    seen: int = 0
    done: set[tuple[str, str]] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)

    async def ask(
        self, method: str, route: str, body: Mapping[str, Any] | None = None, **path: object
    ) -> dict[str, Any]:
        """Ask as the admin."""
        async with self.api.client.request(
            method, route.format(**path), json=body, headers=self.headers
        ) as answer:
            said: dict[str, Any] = await answer.json()
            assert answer.status == 200, said
        self.done.add((method, route))
        return said

    async def entries(self) -> list[dict[str, Any]]:
        """Return what is new in the log, oldest first."""
        async with self.api.client.get(
            "/api/v1/audit", params={"limit": "1000"}, headers=self.headers
        ) as answer:
            rows = [row for row in (await answer.json())["audit"] if row["id"] > self.seen]
        self.seen = max([self.seen, *(row["id"] for row in rows)])
        return rows[::-1]


@pytest.fixture
async def story(start: Callable[..., Any]) -> Story:
    """An API that asks for accounts, with two batches kept apart, an alert, an agent, and an admin who has a token."""
    api: Running = await start(closed=True, future_limit_ns=DAY)
    for seq in (7, 8):
        content = Payload(samples({1: [(T0 + 2 * DAY, 1.5)]}), None, None, {})
        await api.world.store.commit([decoded(BatchKey("a1", b"e" * 16, seq), content, defined("temp"))])
    await fire(api)
    await connected(api, "edge")
    accounts = api.world.store.accounts
    await accounts.add("ana", Role.ADMIN, HASHED, BY)
    await accounts.add_token("ops", digest(ADMIN_TOKEN), Role.ADMIN, T0 + 999 * DAY, BY)
    made = Story(
        api,
        {"Authorization": f"Bearer {ADMIN_TOKEN}"},
        secrets={PASSWORD, WORDS, ADMIN_TOKEN, HASHED, "hunter2hunter2"},
    )
    await made.entries()
    return made


async def test_each_change_says_who_did_what_to_which_and_what_it_was(story: Story) -> None:
    """Also of a route that doesn't exist yet: one that isn't done here fails this."""
    api = story.api
    v1 = "/api/v1"

    async def does(
        action: str, target: str, changes: str, method: str, route: str, body: Any = None, **path: object
    ) -> dict[str, Any]:
        """Do it; `changes` says of before and after which there is."""
        said = await story.ask(method, v1 + route, body, **path)
        (row,) = await story.entries()
        kept = ("b" if row["before"] is not None else "") + ("a" if row["after"] is not None else "")
        assert (row["action"], row["target"], kept) == (action, target, changes), row
        assert (row["actor"], row["via"]) == ("token ops", "api"), row
        assert row["at_ns"] == api.clock.now_ns()
        assert row["peer"] == "127.0.0.1"
        return said

    acknowledge = "/alerts/{id}/acknowledge"
    await does("alert.acknowledge", "1", "a", "POST", acknowledge, {"author": "eve"}, id=1)
    await does("alert.acknowledge", "1", "ba", "POST", acknowledge, {"author": "eve"}, id=1)
    await does("alert.withdraw", "1", "b", "DELETE", acknowledge, id=1)
    await does(
        "silence.add", "1", "a", "POST", "/silences", {"match": "hot", "duration": "1h", "author": "eve"}
    )
    await does("silence.end", "1", "ba", "DELETE", "/silences/{id}", id=1)
    release = {"shift_ns": -2 * DAY}
    await does("quarantine.release", "1", "ba", "POST", "/quarantine/{id}/release", release, id=1)
    await does("quarantine.drop", "2", "b", "DELETE", "/quarantine/{id}", id=2)

    body = {"site": "plant1", "author": "eve", "uses": 3}
    made = await does("enrolment.token_add", "1", "a", "POST", "/enroll/tokens", body)
    story.secrets |= {made["token"], made["token"].split(".")[1]}
    await does("enrolment.token_add", "2", "a", "POST", "/enroll/tokens", body)
    await does("enrolment.token_revoke", "2", "ba", "DELETE", "/enroll/tokens/{id}", id=2)
    await hosts(story, made["token"])
    for verb, name in (("approve", "spare"), ("reject", "rogue"), ("revoke", "pump")):
        route = f"/enroll/agents/{{name}}/{verb}"
        await does(f"enrolment.{verb}", name, "ba", "POST", route, name=name)

    text = {"toml": SECRET_TOML, "agent": "edge"}
    await story.ask("POST", f"{v1}/configs/check", text)
    await does("config.push", "1", "a", "POST", "/configs", text)
    await does("config.push_again", "2", "ba", "POST", "/configs/{id}/push-again", {}, id=1)
    await does("config.take_back", "2", "ba", "POST", "/configs/{id}/take-back", id=2)
    await does(
        "agent.log_level", "edge", "a", "POST", "/agents/{name}/log-level", {"level": "debug"}, name="edge"
    )
    await does("agent.diagnostics", "edge", "a", "POST", "/agents/{name}/diagnostics", {}, name="edge")

    user = {"name": "bob", "role": "viewer", "password": WORDS}
    await does("user.add", "bob", "a", "POST", "/users", user)
    await does("user.role", "bob", "ba", "PATCH", "/users/{name}", {"role": "operator"}, name="bob")
    await does("user.password", "bob", "a", "PATCH", "/users/{name}", {"password": PASSWORD}, name="bob")
    await does("user.remove", "bob", "b", "DELETE", "/users/{name}", name="bob")
    token = {"name": "grafana", "role": "viewer", "expires": "1d"}
    made = await does("token.create", "grafana", "a", "POST", "/tokens", token)
    story.secrets.add(made["token"])
    await does("token.revoke", "grafana", "b", "DELETE", "/tokens/{id}", id=made["id"])
    await people(story)

    changing = {(method, path) for method, path in served(api) if method not in {"GET", "*"}}
    changing = {(method, path) for method, path in changing if not path.startswith("/prometheus/")}
    # Its story is told where there is no account yet.
    assert changing - story.done == {("POST", "/api/v1/first")}
    await told_nowhere(story)


async def hosts(story: Story, token: str) -> None:
    """A host joins and renews, two more join and wait; each step is its own."""
    assert story.api.world.enrolment is not None
    host, door = story.host, story.api.world.enrolment
    body = {"token": token, "agent": "pump", "csr": host.csr(), "replace": False}
    await story.ask("POST", "/api/v1/enroll", body)
    challenge = door.challenge()
    proof = {"agent": "pump", "challenge": challenge, "signature": host.signs(challenge)}
    await story.ask("POST", "/api/v1/enroll/renew", proof)
    rows = await story.entries()
    said = [(row["actor"], row["via"], row["action"], row["target"]) for row in rows]
    assert said == [("pump", "agent", f"enrolment.{verb}", "pump") for verb in ("join", "renew")]
    # It was let in at once, so approving it changes nothing.
    await story.ask("POST", "/api/v1/enroll/agents/{name}/approve", name="pump")
    assert await story.entries() == []
    assert all(row["after"] is not None for row in rows)
    door.policy = replace(door.policy, approve=True)
    for name in ("spare", "rogue"):
        await story.ask("POST", "/api/v1/enroll", {**body, "agent": name, "csr": Host(name).csr()})
    assert [row["after"]["state"] for row in await story.entries()] == ["pending", "pending"]


async def people(story: Story) -> None:
    """Somebody logs in, guesses wrong, changes their password, logs out."""
    story.api.clock.advance(S)
    ana = Browser(story.api)
    await ana.log_in("ana", 401, "wrong horse battery")
    story.secrets.add("wrong horse battery")
    await ana.log_in("ana")
    story.secrets |= {ana.cookies[COOKIE], ana.csrf, *ana.cookies.values()}
    await ana.send("POST", "/password", 400, old="wrong horse battery", new=WORDS)
    await ana.send("POST", "/password", old=PASSWORD, new=WORDS)
    story.secrets |= {ana.cookies[COOKIE], ana.csrf}
    await ana.send("POST", "/logout")
    again = Browser(story.api)
    await again.log_in("ana", password=WORDS)
    await again.send("POST", "/logout", everywhere=True)
    rows = await story.entries()
    assert {(row["actor"], row["via"], row["target"]) for row in rows} == {("ana", "console", "ana")}
    assert [row["action"] for row in rows] == [
        "session.refuse",
        "session.begin",
        "user.password_refuse",
        "user.password",
        "session.begin",
        "session.end",
        "session.begin",
        "session.end_all",
    ]
    story.done |= {("POST", f"/api/v1/{path}") for path in ("login", "logout", "password")}


async def told_nowhere(story: Story) -> None:
    """No secret that was sent or made stands in the log, whoever reads it."""
    rows = await story.api.world.store.audited(AuditQuery(limit=1_000))
    assert len(rows) > 30
    written = repr(rows)
    assert [secret for secret in story.secrets if secret in written] == []


async def test_the_first_account_is_in_the_log_too(start: Callable[..., Any]) -> None:
    """Who made it, and that they are logged in; the link's code isn't there."""
    api: Running = await start(closed=True)
    code = "first_0123456789abcdef"
    await api.world.store.accounts.offer_first(digest(code), T0 + DAY)
    ana = Browser(api)
    await ana.send("POST", "/first", code=code, name="ana", password=PASSWORD)
    rows = await api.world.store.audited(AuditQuery())
    assert [(row.actor.name, row.action) for row in rows] == [("ana", "session.begin"), ("ana", "user.add")]
    assert code not in repr(rows)


async def test_nobody_writes_anothers_name_into_the_log(story: Story) -> None:
    """A token signs what it says with any name, as people do through programs; the log has the token's own."""
    for path, body in (
        ("/api/v1/enroll/tokens", {"author": "ana"}),
        ("/api/v1/silences", {"match": "hot", "duration": "1h", "author": "ana"}),
        ("/api/v1/alerts/1/acknowledge", {"author": "ana"}),
    ):
        await story.ask("POST", path, body)
    assert {row["actor"] for row in await story.entries()} == {"token ops"}


async def test_no_secret_is_in_the_collectors_own_log(story: Story) -> None:
    """Of logins, tokens, joining hosts and pushed texts, right and wrong."""
    with capture_logs() as lines:
        await test_each_change_says_who_did_what_to_which_and_what_it_was(story)
        stranger = Browser(story.api)
        await stranger.send("POST", "/login", 401, token="tx_nobody_knows_this_one")
        await stranger.send("POST", "/login", 400, user="ana", password="short", token="tx_and_this")
    story.secrets |= {"tx_nobody_knows_this_one", "tx_and_this"}
    assert lines
    assert [secret for secret in story.secrets if secret in repr(lines)] == []


async def test_a_refused_change_leaves_no_entry_of_one(story: Story) -> None:
    """What wasn't done isn't in the log as if it was."""
    ana = await browser(story.api, "ana")
    await story.entries()
    for method, path, body in (
        ("POST", "/silences", {"match": "hot", "duration": "1h"}),
        ("POST", "/configs", {"toml": "[fold]\nlateness = '3s'\n"}),
        ("POST", "/users", {"name": "eve", "role": "admin", "password": WORDS}),
    ):
        await ana.send(method, path, 403, {CSRF: "forged"}, **body)
    assert await story.entries() == []
