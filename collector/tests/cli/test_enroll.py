"""`telemetryx enroll token --config`: straight in the store, for who has no login yet."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from enrolment.conftest import DAY, OPERATOR, Host
from telemetryx.cli.commands import app
from telemetryx.cli.errors import CliError
from telemetryx.clock import SystemClock
from telemetryx.enrolment import token
from telemetryx.enrolment.authority import Authority
from telemetryx.enrolment.service import Enrolment, Policy
from telemetryx.store.audit import AuditQuery
from telemetryx.store.sqlite.store import SqliteStore


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Path:
    """A collector's configuration, open to other machines."""
    path = tmp_path / "collector.toml"
    path.write_text(
        f'[collector]\ndata_dir = "{tmp_path}"\n[api]\nlisten = "0.0.0.0:8420"\n[gateway]\nlisten = "0.0.0.0:8421"\n'
        '[enroll]\nurl = "https://c.example:8420"\n'
    )
    return path


def run(config: Path, *more: str) -> str:
    """Make a token; return what is printed."""
    done = CliRunner().invoke(app, ["enroll", "token", "--config", str(config), *more])
    if isinstance(done.exception, CliError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


async def test_a_token_is_made_in_the_store_as_the_api_makes_it(config: Path, tmp_path: Path) -> None:
    """The line names the collector's address; the store knows the token, and the audit log who made it."""
    authority = Authority.open(tmp_path / "ca", SystemClock().now_ns())
    store = await SqliteStore.open(tmp_path / "telemetry.db")
    try:
        line = run(config, "--site", "plant1", "--agent", "pump", "--replace").strip()
        assert line.startswith("telemetryx-agent enroll https://c.example:8420 --token txe1.")
        assert line.endswith(" --name pump --replace")
        made = json.loads(run(config, "--uses", "3", "--json"))
        assert token.digest(made["token"], authority.fingerprint)
        assert made["command"].endswith(made["token"])
        entries = await store.audited(AuditQuery(action="enrolment.token_add"))
        assert len(entries) == 2
        assert {entry.actor.via for entry in entries} == {"cli"}
    finally:
        await store.close()


def test_before_the_first_start_there_is_nothing_that_a_token_could_name(config: Path) -> None:
    """The authority is made by the collector, whose key it is; a command run by root makes none."""
    with pytest.raises(CliError, match="no authority") as refused:
        run(config)
    assert "start the collector" in refused.value.hint
    assert not (config.parent / "ca").exists()


def test_what_the_api_refuses_is_refused_here_too(config: Path, tmp_path: Path) -> None:
    """A span that is none or too long, a name or site that is none, and a token that may replace any agent: in sentences."""
    Authority.open(tmp_path / "ca", SystemClock().now_ns())
    for option, value, why in (
        ("--expires", "soon", "^--expires: 'soon' is not a duration"),
        ("--expires", "9999d", "^--expires: it must be at most 366d"),
        ("--agent", "a b", "^--agent: it is no agent's name: letters, digits"),
        ("--agent", "..", "^--agent: it is no agent's name: letters, digits"),
        ("--agent", "a" * 129, "^--agent: it is longer than 128 characters"),
        ("--site", "plant\n1", "^--site: it is one line of text"),
        ("--site", " plant1", "^--site: it is one line of text"),
    ):
        with pytest.raises(CliError, match=why):
            run(config, option, value)
    with pytest.raises(CliError, match="is for that agent"):
        run(config, "--replace")


def test_an_authority_made_ahead_is_the_one_that_every_collector_with_a_copy_signs_with(
    tmp_path: Path,
) -> None:
    """It is made once, with a key for its owner alone; what is there already stays."""
    folder, copy = tmp_path / "made", tmp_path / "copy"
    said = CliRunner().invoke(app, ["enroll", "authority", str(folder), "--json"])
    assert said.exit_code == 0, said.output
    assert (folder / "ca.key").stat().st_mode & 0o777 == 0o600
    copy.mkdir()
    for name in ("ca.key", "ca.pem"):
        shutil.copy(folder / name, copy)
    made = Authority.open(copy, SystemClock().now_ns())
    assert json.loads(said.stdout)["fingerprint"] == made.fingerprint.hex()
    again = CliRunner().invoke(app, ["enroll", "authority", str(folder), "--json"])
    assert again.stdout == said.stdout


async def joined(tmp_path: Path, name: str, *, approve: bool = False) -> None:
    """Have a host join, with the collector's own code."""
    store = await SqliteStore.open(tmp_path / "telemetry.db")
    authority, clock = Authority.open(tmp_path / "ca", SystemClock().now_ns()), SystemClock()
    door = Enrolment(store, authority, clock, Policy(90 * DAY, approve=approve))
    text, _ = await door.new_token(OPERATOR, site="", agent="", replace=False, uses=1, lifetime_ns=DAY)
    await door.join(text, name, Host(name).csr(), replace=False, peer="")
    await store.close()


def command(*words: str) -> tuple[int, str]:
    """Run a command; return its exit code and what it printed or said."""
    done = CliRunner().invoke(app, list(words))
    if isinstance(done.exception, CliError):
        return int(done.exception.code), str(done.exception)
    assert done.exception is None, done.exception
    return done.exit_code, done.stdout


async def test_agents_are_listed_approved_and_revoked_straight_in_the_store(
    config: Path, tmp_path: Path
) -> None:
    """Without a login and without a collector; the audit log says who it was, and what was revoked stays so."""
    await joined(tmp_path, "pump", approve=True)
    given = ("--config", str(config))
    _, listed = command("agents", "ls", *given, "--json")
    assert [(one["agent"], one["state"]) for one in json.loads(listed)["agents"]] == [("pump", "pending")]
    await joined(tmp_path, "rogue", approve=True)
    assert command("agents", "reject", "rogue", *given) == (0, "agent rogue: revoked\n")
    _, listed = command("agents", "ls", "--filter", "UM", *given, "--json")
    assert [one["agent"] for one in json.loads(listed)["agents"]] == ["pump"]
    assert command("agents", "approve", "pump", *given) == (0, "agent pump: active\n")
    code, said = command("agents", "reject", "pump", *given)
    assert (code, "doesn't wait" in said) == (4, True)
    assert command("agents", "revoke", "pump", *given) == (0, "agent pump: revoked\n")
    code, said = command("agents", "approve", "pump", *given)
    assert (code, "stays so" in said) == (4, True)
    code, said = command("agents", "revoke", "valve\x1b[31m", *given)
    assert code == 1
    assert "\x1b" not in said
    store = await SqliteStore.open(tmp_path / "telemetry.db")
    entries = await store.audited(AuditQuery(action="enrolment"))
    await store.close()
    done = {(entry.action, entry.actor.via) for entry in entries}
    assert {(f"enrolment.{verb}", "cli") for verb in ("approve", "reject", "revoke")} <= done


async def test_enrolment_tokens_are_listed_and_revoked_straight_in_the_store(
    config: Path, tmp_path: Path
) -> None:
    """Their secret is in no list."""
    Authority.open(tmp_path / "ca", SystemClock().now_ns())
    made = json.loads(run(config, "--json"))
    code, listed = command("enroll", "ls", "--config", str(config), "--json")
    assert code == 0
    assert made["token"].split(".")[1] not in listed
    (row,) = json.loads(listed)["tokens"]
    assert (row["id"], row["state"]) == (made["id"], "open")
    assert "revoked" in command("enroll", "revoke", str(made["id"]), "--config", str(config))[1]
    assert command("enroll", "revoke", "77", "--config", str(config))[0] == 1
