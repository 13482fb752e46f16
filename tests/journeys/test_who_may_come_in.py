"""Agents at the doors of real collectors: revoked while another collector has the link, with a token beside certificates, and what the doctor says."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Agent, Stack, until
from tests.harness.clock import WallClock
from tests.harness.postgres import PostgresServer, section
from tests.harness.processes import free_port
from tests.harness.stack import AGENT
from tests.journeys.test_enrolment import MUTUAL, doctor, enroll, joined, link, stored, stranger, telemetryx

SHOWN = "a-token-of-the-field"


@pytest.fixture(name="server")
def _server() -> Iterator[PostgresServer]:
    """Start a PostgreSQL server."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def cut(agent: Agent) -> bool:
    """Whether the agent was told that it is shut out."""
    return "was revoked" in link(agent)["last_error"]


@pytest.mark.parametrize("way", ["the other collector", "the store"])
def test_revoking_cuts_the_link_on_whichever_collector_it_is(
    stack: Stack, server: PostgresServer, way: str
) -> None:
    """Of two on one database; asked of the one that doesn't have the link, and straight in the store."""
    database = server.database()
    shared = section(server, database) + f'[enroll]\ndir = "{stack.folder / "ca"}"\n'
    asked, having = (stack.collector(MUTUAL + shared) for _ in range(2))
    agent = joined(stack, having, "pump")
    assert agent.write("one n=1i") == 204
    until("the reading is stored", lambda: stored(asked, 1))
    assert not cut(agent)
    if way == "the store":
        told = telemetryx(asked, "agents", "revoke", "pump", "--config", str(asked.config), "--json")
        assert json.loads(told)["state"] == "revoked"
    else:
        assert "revoked" in telemetryx(asked, "agents", "revoke", "pump")
    until("the link is cut", lambda: cut(agent))
    assert agent.write("one n=2i") == 204
    until("it was tried again", lambda: doctor(agent)["session"]["level"] == "problem")
    assert not stored(asked, 2)


def test_revoking_straight_in_the_store_cuts_the_link_of_a_single_collector_too(stack: Stack) -> None:
    """As root on its machine, without a login: SQLite, one process."""
    collector = stack.collector(MUTUAL)
    agent = joined(stack, collector, "pump")
    assert agent.write("one n=1i") == 204
    until("the reading is stored", lambda: stored(collector, 1))
    assert "revoked" in telemetryx(collector, "agents", "revoke", "pump", "--config", str(collector.config))
    until("the link is cut", lambda: cut(agent))


def with_token(agent: Agent, port: int, ca: Path, name: str = "old") -> None:
    """Have an agent come with a token."""
    file = agent.folder / "token"
    file.write_text(f"{SHOWN}\n")
    file.chmod(0o600)
    text = agent.config.read_text().replace("[agent]\n", f'[agent]\nname = "{name}"\n')
    more = f'url = "https://localhost:{port}"\nca_file = "{ca}"\ntoken_file = "{file}"\n'
    agent.config.write_text(text.replace("[uplink]\n", f"[uplink]\n{more}"))


def test_agents_with_tokens_come_in_beside_enrolled_ones_and_at_their_own_address_alone(stack: Stack) -> None:
    """At `token_listen` a token is enough; at `listen` it opens nothing, and nowhere does it open an enrolled agent's name."""
    tokens, port = stack.folder / "agents.tokens", free_port()
    tokens.write_text(f"{SHOWN}\n")
    tokens.chmod(0o600)
    collector = stack.collector(f'tls = "own"\ntoken_listen = "127.0.0.1:{port}"\ntoken_file = "{tokens}"\n')
    ca = collector.folder / "data/ca/ca.pem"
    enrolled = joined(stack, collector, "pump")
    assert enrolled.write("one n=1i") == 204
    until("the enrolled agent's reading is stored", lambda: stored(collector, 1))

    old = stranger(stack, collector)
    with_token(old, port, ca)
    old.start()
    assert old.write("one n=2i") == 204
    until("the reading that came with a token is stored", lambda: stored(collector, 2))

    wrong_door = stranger(stack, collector)
    with_token(wrong_door, collector.grpc, ca, "lost")
    found = doctor(wrong_door)
    assert [check for check, one in found.items() if one["level"] == "problem"], found
    thief = stranger(stack, collector)
    with_token(thief, port, ca, "pump")
    found = doctor(thief)
    assert found["session"]["level"] == "problem", found
    assert "enroll" in found["session"]["found"] + found["session"]["remedy"]
    names = {one["name"] for one in collector.get("/api/v1/agents")["agents"]}
    assert names == {"pump", "old"}


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """Make a certificate of somebody's own for a host."""
    cert, key = folder / "c.pem", folder / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return cert, key


def test_the_doctor_names_a_certificate_of_another_host(stack: Stack, tmp_path: Path) -> None:
    """With the names that it is for, and what to write; `server_name` is a way out, as the remedy says."""
    cert, key = certificate(tmp_path, "elsewhere.example")
    tokens = tmp_path / "agents.tokens"
    tokens.write_text(f"{SHOWN}\n")
    tokens.chmod(0o600)
    files = f'tls_cert_file = "{cert}"\ntls_key_file = "{key}"\ntoken_file = "{tokens}"\n'
    collector = stack.collector(files)
    agent = stranger(stack, collector)
    with_token(agent, collector.grpc, cert)
    found = doctor(agent)
    (wrong,) = [one for one in found.values() if one["level"] == "problem"]
    assert "localhost" in wrong["found"], found
    assert "server_name" in wrong["remedy"], found
    text = agent.config.read_text()
    agent.config.write_text(text.replace("[uplink]\n", '[uplink]\nserver_name = "elsewhere.example"\n'))
    assert [one for one in doctor(agent).values() if one["level"] == "problem"] == []


def at_1970(agent: Agent) -> dict[str, Any]:
    """Return the doctor's findings on a host whose clock was never set: of each check the first, which is the worst."""
    WallClock(agent)
    done = subprocess.run(
        [AGENT, "doctor", "--json", "--config", agent.config],
        env={**os.environ, **agent.env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    agent.env.clear()
    found: dict[str, Any] = {}
    for finding in json.loads(done.stdout)["findings"]:
        found.setdefault(finding["check"], finding)
    return found


def test_the_doctor_names_a_clock_at_1970_and_the_link_works_meanwhile(stack: Stack) -> None:
    """The collector's own certificate is valid from 1970 on, and it shows the time by its greeting; the agent's isn't yet."""
    collector = stack.collector(MUTUAL)
    agent = stranger(stack, collector)
    agent.name = "pump"
    assert enroll(agent, telemetryx(collector, "enroll", "token"), "--name", "pump").returncode == 0
    found = at_1970(agent)
    assert found["clock"]["level"] == "problem", found
    assert "1970" in found["clock"]["found"], found
    assert "1970" in found["identity"]["found"], found
    assert found["identity"]["remedy"].startswith("set the clock")
    assert found["connection"]["level"] == "ok", found
    assert found["session"]["level"] == "ok", found
