"""`telemetryx user`, `token` and `audit`: straight in the store, of both engines, beside a collector too."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from telemetryx.cli import direct, users
from telemetryx.cli.audit import _change
from telemetryx.cli.commands import app
from telemetryx.cli.errors import CliError
from telemetryx.config import load
from telemetryx.store.accounts import NewSession, Role, digest
from telemetryx.store.audit import Actor, AuditQuery
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.store import TableStore

PASSWORD = "correct horse battery"


@pytest.fixture(params=["sqlite", "postgres"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A collector's configuration whose store isn't there yet."""
    text = f'[collector]\ndata_dir = "{tmp_path}"\n'
    if request.param == "postgres":
        engine: PostgresEngine = request.getfixturevalue("database")
        text += f'[store]\nurl = "{engine.url}"\npassword_file = "{engine.password_file}"\n'
    path = tmp_path / "collector.toml"
    path.write_text(text)
    return path


async def opened(config: Path) -> TableStore:
    """The store of a configuration, as a collector has it."""
    kept = load(config).store
    if kept.url is not None:
        return await PostgresStore.open(PostgresEngine(kept.url, kept.password_file))
    return await SqliteStore.open(config.parent / "telemetry.db")


async def ran(config: Path, *arguments: str, given: str | None = None) -> Result:
    """Run a command that succeeds."""
    done = await asyncio.to_thread(
        CliRunner().invoke, app, [*arguments, "--config", str(config)], input=given
    )
    assert done.exit_code == 0, (done.output, done.exception)
    return done


async def refused(config: Path, *arguments: str, given: str | None = None) -> str:
    """Run a command that doesn't; return what it says."""
    done = await asyncio.to_thread(
        CliRunner().invoke, app, [*arguments, "--config", str(config)], input=given
    )
    assert isinstance(done.exception, CliError), done.output
    return f"{done.exception.message} {done.exception.hint}"


async def listed(config: Path, *arguments: str) -> Any:
    """What a command prints as JSON."""
    return json.loads((await ran(config, *arguments, "--json")).stdout)


async def test_accounts_are_made_and_changed_before_and_beside_a_collector(config: Path) -> None:
    """The store is made where there is none; a running collector sees the change at once."""
    await ran(config, "user", "add", "ana", "--role", "admin", "--password-file", "-", given=f"{PASSWORD}\n")
    store = await opened(config)
    try:
        (ana,) = await store.accounts.all()
        assert (ana.name, ana.role) == ("ana", Role.ADMIN)
        assert ana.password.startswith("$argon2id$")
        assert "only admin" in await refused(config, "user", "rm", "ana")
        await ran(config, "user", "add", "bob", "--password-file", "-", given=PASSWORD)
        await ran(config, "user", "role", "bob", "operator")
        found = await store.accounts.account("bob")
        assert found is not None
        assert found.role is Role.OPERATOR
        await ran(config, "user", "passwd", "bob", "--password-file", "-", given="another good one")
        again = await store.accounts.account("bob")
        assert again is not None
        assert again.password != found.password
        assert [one["name"] for one in (await listed(config, "user", "ls"))["users"]] == ["ana", "bob"]
        await ran(config, "user", "rm", "bob")
        assert await store.accounts.account("bob") is None
        assert "no account 'bob'" in await refused(config, "user", "role", "bob", "viewer")
    finally:
        await store.close()
    log = (await listed(config, "audit", "--action", "user", "--target", "bob"))["audit"]
    assert [one["action"] for one in log] == ["user.remove", "user.password", "user.role", "user.add"]
    assert {one["via"] for one in log} == {"cli"}
    assert PASSWORD not in json.dumps(log)
    shown = (await ran(config, "audit", "--action", "user.role")).stdout
    assert "user.role bob" in shown
    assert await listed(
        config, "audit", "--since", "1970-01-01T00:00:00Z", "--until", "2001-01-01T00:00:00Z"
    ) == {"audit": [], "next": None}


async def test_agents_are_configured_and_asked_in_the_store_of_either_engine(
    config: Path, tmp_path: Path
) -> None:
    """Before there is a collector, too: what waits for it waits, and the log names the local account."""
    text = tmp_path / "slower.toml"
    text.write_text("[fold]\nlateness = '3s'\n")
    made = await listed(config, "agents", "config", "push", str(text), "--all", "--yes", "--note", "why")
    assert (made["config"]["version"], made["config"]["note"], made["agents"]) == (1, "why", [])
    assert (await ran(config, "agents", "config", "show", "1")).stdout == text.read_text()
    again = await listed(config, "agents", "config", "push-again", "1")
    assert again["config"]["version"] == 2
    assert (await listed(config, "agents", "config", "take-back", "1"))["state"] == "taken_back"
    assert "no agent is called 'pump'" in await refused(config, "agents", "log-level", "pump", "debug")
    store = await opened(config)
    try:
        await store.session_opened("pump", "p", "1.0", {}, 0.0)
        late = await refused(config, "agents", "log-level", "pump", "debug", "--timeout", "1")
        assert "didn't take the request within 1 s the collector must run" in late
    finally:
        await store.close()
    log = (await listed(config, "audit"))["audit"]
    assert [(one["action"], one["via"]) for one in reversed(log)] == [
        (action, "cli")
        for action in ("config.push", "config.push_again", "config.take_back", "agent.log_level")
    ]
    assert {one["actor"] for one in log} == {direct.actor().name}


def test_a_change_is_shown_without_what_a_new_thing_does_not_have() -> None:
    """What is empty in something new or gone says nothing; where it came or went it says what changed."""
    new = {"site": "plant1", "uses": 0, "revoked_ns": None, "note": "", "first": []}
    assert _change(None, new) == "site: plant1, uses: 0"
    assert _change(new, None) == "site: plant1, uses: 0"
    assert _change(new, {**new, "site": None}) == "site: plant1 → null"


async def test_a_token_is_printed_once_and_kept_as_its_digest(config: Path) -> None:
    """It holds in a collector until it is revoked, by name or number."""
    token = (
        await ran(config, "token", "create", "ci", "--role", "operator", "--expires", "2h")
    ).stdout.strip()
    store = await opened(config)
    try:
        found = await store.accounts.token(digest(token))
        assert found is not None
        assert (found.name, found.role) == ("ci", Role.OPERATOR)
        (row,) = (await listed(config, "token", "ls"))["tokens"]
        assert token not in json.dumps(row)
        assert "already" in await refused(config, "token", "create", "ci")
        assert "ten years" in await refused(config, "token", "create", "x", "--expires", "9999d")
        assert "no token's name" in await refused(config, "token", "create", "a\nb")
        await ran(config, "token", "revoke", "ci")
        assert await store.accounts.token(digest(token)) is None
        again = await refused(config, "token", "create", "ci")
        assert "there was a token 'ci' before, which doesn't hold any more: take another name" in again
        assert "no token 'nobody'" in await refused(config, "token", "revoke", "nobody")
    finally:
        await store.close()


async def test_a_name_that_is_another_tokens_number_revokes_neither(config: Path) -> None:
    """The wrong one would be gone; each is revoked by what it alone is called."""
    numbers = [
        json.loads((await ran(config, "token", "create", name, "--json")).stdout)["id"] for name in "21"
    ]
    assert numbers == [1, 2]
    assert "1 is the name of token 2, and the number of token '2'" in await refused(
        config, "token", "revoke", "1"
    )
    held = json.loads((await ran(config, "token", "ls", "--json")).stdout)["tokens"]
    assert [one["revoked_ns"] for one in held] == [None, None]


async def test_who_removes_an_account_hears_of_its_tokens_and_may_revoke_them(config: Path) -> None:
    """Without a word they stay, and are named; a script is never asked."""
    store = await opened(config)
    bob = Actor("bob", "console")
    try:
        for name in ("ana", "bob"):
            await store.accounts.add(name, Role.ADMIN, "$argon2id$made-up", bob)
        for name in ("ci", "grafana"):
            await store.accounts.add_token(name, digest(name), Role.VIEWER, 1 << 62, bob)
        (_, row) = (await listed(config, "user", "ls"))["users"]
        assert (row["name"], row["tokens"]) == ("bob", 2)
        said = (await ran(config, "user", "rm", "bob")).stdout
        assert "2 tokens that it made still hold" in said
        assert "grafana, ci" in said
        assert await store.accounts.token(digest("ci")) is not None
        await store.accounts.add("bob", Role.VIEWER, "$argon2id$made-up", bob)
        gone = await listed(config, "user", "rm", "bob", "--revoke-tokens")
        assert {one["name"] for one in gone["tokens"]} == {"ci", "grafana"}
        assert all(one["revoked_ns"] for one in gone["tokens"])
        assert await store.accounts.token(digest("ci")) is None
        assert (await ran(config, "user", "add", "eve", "--password-file", "-", given=PASSWORD)).stdout
        assert (await ran(config, "user", "rm", "eve")).stdout == "eve is gone\n"
    finally:
        await store.close()


async def test_at_a_terminal_one_is_asked_what_becomes_of_the_tokens(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enter revokes them; there is no question where there is nothing to ask."""
    monkeypatch.setattr(users, "_at_terminal", lambda: True)
    store = await opened(config)
    bob = Actor("bob", "console")
    try:
        for name in ("ana", "bob", "cem"):
            await store.accounts.add(name, Role.ADMIN, "$argon2id$made-up", bob)
        await store.accounts.add_token("ci", digest("ci"), Role.VIEWER, 1 << 62, bob)
        done = await ran(config, "user", "rm", "bob", given="\n")
        assert "bob made a token that holds. Revoke it too?" in done.stderr
        assert done.stdout.endswith("bob is gone, and a token that it made is revoked: ci\n")
        assert await store.accounts.token(digest("ci")) is None
        assert (await ran(config, "user", "rm", "cem")).output == "cem is gone\n"
    finally:
        await store.close()


async def test_a_password_never_stands_on_the_command_line(tmp_path: Path) -> None:
    """Others can read it there: it is asked for, or comes from a file; a weak one is refused."""
    config = tmp_path / "c.toml"
    config.write_text(f'[collector]\ndata_dir = "{tmp_path}"\n')
    done = await asyncio.to_thread(
        CliRunner().invoke, app, ["user", "add", "ana", "--password", PASSWORD, "--config", str(config)]
    )
    assert done.exit_code == 2
    assert "nobody to ask" in await refused(config, "user", "add", "ana")
    assert "characters" in await refused(config, "user", "add", "ana", "--password-file", "-", given="short")
    assert "can't be read" in await refused(
        config, "user", "add", "ana", "--password-file", str(tmp_path / "none")
    )


async def test_a_store_that_is_made_here_is_its_owners_alone(tmp_path: Path) -> None:
    """Password hashes are in it."""
    config = tmp_path / "c.toml"
    config.write_text(f'[collector]\ndata_dir = "{tmp_path / "data"}"\n')
    await ran(config, "user", "add", "ana", "--password-file", "-", given=PASSWORD)
    assert (tmp_path / "data/telemetry.db").stat().st_mode & 0o077 == 0
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


async def test_a_copy_of_the_store_has_the_people_and_nobody_logged_in(config: Path, tmp_path: Path) -> None:
    """A session that ended since would come back to life with it."""
    await ran(config, "user", "add", "ana", "--role", "admin", "--password-file", "-", given=PASSWORD)
    token = (await ran(config, "token", "create", "ci")).stdout.strip()
    store = await opened(config)
    (ana,) = await store.accounts.all()
    session = NewSession(digest("cookie"), 1 << 62, ana.id, device=digest("device"))
    await store.accounts.open_session(session, Actor("ana", "console"))
    assert await store.accounts.session(digest("cookie")) is not None
    await ran(config, "store", "backup", str(tmp_path / "copy.db"))
    await store.close()
    copy = await SqliteStore.open(tmp_path / "copy.db")
    try:
        assert await copy.accounts.account("ana") is not None
        assert await copy.accounts.token(digest(token)) is not None
        assert await copy.accounts.session(digest("cookie")) is None
        assert not await copy.accounts.knows_device(digest("device"), "ana")
        assert [row.action for row in await copy.audited(AuditQuery())] == [
            "session.begin",
            "token.create",
            "user.add",
        ]
    finally:
        await copy.close()


def test_the_person_behind_sudo_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root."""
    monkeypatch.setitem(os.environ, "SUDO_USER", "ana")
    assert (direct.actor().name, direct.actor().via) == ("ana", "cli")
