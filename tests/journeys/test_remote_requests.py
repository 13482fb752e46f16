"""What a collector asks an agent for: another log level for a while, a diagnostics bundle without secrets."""

import io
import re
import ssl
import subprocess
import tarfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from telemetryx.wire._pb2 import link_pb2 as pb
from tests.harness import Agent, Stack, until
from tests.harness.certificates import authority, signed
from tests.harness.processes import free_port
from tests.harness.pusher import Pusher
from tests.harness.stack import AGENT


@pytest.fixture
def pusher() -> Iterator[Pusher]:
    """Give a scripted collector."""
    with Pusher() as pusher:
        yield pusher


def _agent(stack: Stack, pusher: Pusher, extra: str = "") -> Agent:
    agent = Agent(stack.folder / "agent", pusher.port, extra=extra)
    stack.agents.append(agent)
    agent.start()
    pusher.connected()
    return agent


def test_the_log_level_changes_for_its_time_and_comes_back(stack: Stack, pusher: Pusher) -> None:
    """In force at once and said in the status; after its time the configuration's own is back; nonsense is refused."""
    agent = _agent(stack, pusher)
    assert pusher.hellos[0].requests
    name = pusher.ask(log_level=pb.LogLevel(filter="debug", for_s=3600))
    assert pusher.answer(name).error == ""
    log = agent.status()["log"]
    assert log["filter"] == "debug"
    assert log["until_ns"] > time.time_ns()
    assert agent.process is not None
    until("it says more", lambda: " DEBUG " in agent.process.tail(1000))
    assert "debgu" in pusher.answer(pusher.ask(log_level=pb.LogLevel(filter="debgu", for_s=60))).error
    assert agent.status()["log"]["filter"] == "debug"
    pusher.answer(pusher.ask(log_level=pb.LogLevel(filter="trace", for_s=1)))
    until(
        "the configuration's own is back",
        lambda: agent.status()["log"] == {"filter": "info", "until_ns": None},
    )


def secret_keys() -> set[str]:
    """Every key of the reference that is a secret, or names a file with some."""
    text = subprocess.run([AGENT, "config", "--reference"], check=True, capture_output=True, text=True).stdout
    found, section = set(), ""
    for line in text.splitlines():
        if heading := re.match(r"## `\[+([a-z_.]+)\]+`", line):
            section = heading[1]
        elif (row := re.match(r"\| `([a-z_]+)` \|", line)) and re.search(
            r"(token|password|key|headers|secret|credentials?)_file$|hash$|^(token|password|secret)$", row[1]
        ):
            found.add(f"{section}.{row[1]}")
    return found


def keys_of(table: dict[str, Any], path: str = "") -> set[str]:
    """Every key of a configuration with its path; lists of tables count as tables."""
    found = set()
    for key, value in table.items():
        full = f"{path}.{key}".lstrip(".")
        inner = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
        found |= keys_of(inner, full) if isinstance(inner, dict) else {full}
    return found


def with_every_secret(agent: Agent, folder: Path) -> set[str]:
    """Give an agent a configuration that has every secret there can be, and return what no bundle may hold."""
    folder.mkdir()
    authority_cert, authority_key = authority(folder, "plant")
    cert, key = signed(folder, (authority_cert, authority_key))
    key.chmod(0o600)
    secrets = {line for line in key.read_text().splitlines() if not line.startswith("-----")}

    def file(name: str, content: str, *marks: str) -> Path:
        path = folder / name
        path.write_text(content.format(*marks))
        path.chmod(0o600)
        secrets.update(marks)
        return path

    door = file("door", "{}\nsensor:{}\n", "the-door's-token-0123456789", "the-sensor's-password")
    tcp = file("tcp", "{}\n", "the-tcp-token-0123456789")
    uplink = file("uplink", "{}\n", "the-uplink's-token-0123456789")
    broker = file("broker", "{}\n", "the-broker's-password")
    site = file("site", "{}\n", "the-site-broker's-password")
    spans = file("spans", "{}\n", "the-spans-token-0123456789")
    headers = file(
        "headers", "X-Scope: {}\nX-Auth: Basic {}\n", "the-scope-of-spans", "dGhlLXNwYW5zOnBhc3N3b3Jk"
    )
    hashed = subprocess.run(
        [AGENT, "hash-password"], input="pw-of-press\n", check=True, capture_output=True, text=True
    ).stdout.strip()
    secrets |= {hashed, "pw-of-press"}
    tls = f'cert_file = "{cert}"\nkey_file = "{key}"\n'
    agent.config.write_text(
        f'[agent]\nname = "edge"\ndata_dir = "{agent.data}"\nlog = "debug"\n'
        f'[input.http]\nlisten = "127.0.0.1:{agent.http}"\ntoken_file = "{door}"\n{tls}'
        f'[input.tcp]\nlisten = "127.0.0.1:{agent.tcp}"\ntoken_file = "{tcp}"\n{tls}'
        f'[input.mqtt]\nlisten = ""\ntls_listen = "127.0.0.1:{agent.mqtt}"\n{tls}'
        f'[[input.mqtt.user]]\nname = "press"\npassword_hash = "{hashed}"\n'
        f'[[input.mqtt_client]]\nurl = "mqtts://localhost:{free_port()}"\nclient_id = "edge"\ntopics = ["#"]\n'
        f'username = "edge"\npassword_file = "{broker}"\nca_file = "{authority_cert}"\n{tls}'
        f'[uplink]\nurl = "{uplink_url(agent)}"\nmax_backoff = 1\ntoken_file = "{uplink}"\n'
        f'fallback_url = "mqtts://localhost:{free_port()}"\nmqtt_user = "edge"\nmqtt_password_file = "{site}"\n'
        f'client_cert_file = "{cert}"\nclient_key_file = "{key}"\nca_file = "{authority_cert}"\n'
        f'[tracing]\nendpoint = "http://127.0.0.1:{free_port()}"\nsample = 1.0\n'
        f'token_file = "{spans}"\nheaders_file = "{headers}"\ntimeout = "1s"\n'
    )
    assert keys_of(tomllib.loads(agent.config.read_text())) >= secret_keys()
    return secrets


def uplink_url(agent: Agent) -> str:
    """Return where an agent's configuration says that its collector is."""
    return str(tomllib.loads(agent.config.read_text())["uplink"]["url"])


def wrote(agent: Agent, authority_cert: Path, token: str) -> int:
    """Send a reading over TLS with a token; return the status."""
    request = urllib.request.Request(
        f"https://localhost:{agent.http}/write",
        data=b"one n=1i",
        headers={"Authorization": f"Bearer {token}"},
        method="POST",
    )
    trusted = ssl.create_default_context(cafile=authority_cert)
    try:
        with urllib.request.urlopen(request, timeout=60, context=trusted) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def unpacked(bundle: bytes) -> dict[str, str]:
    """Return the files of a bundle."""
    data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(bundle)).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            files[member.name.removeprefix("diagnostics/")] = file.read().decode() if file else ""
    return files


def test_a_diagnostics_bundle_holds_what_helps_and_no_secret(stack: Stack, pusher: Pusher) -> None:
    """Status, doctor, configuration, spool, log, host; of an agent with every secret that its reference knows none is in any file."""
    agent = Agent(stack.folder / "agent", pusher.port)
    stack.agents.append(agent)
    secrets = with_every_secret(agent, stack.folder / "secrets")
    agent.start()
    pusher.connected()
    assert agent.process is not None
    # What it logs of whom it can't reach, and of who isn't let in, is in the bundle too.
    for token in ("the-door's-token-0123456789", "nobody's-token"):
        wrote(agent, stack.folder / "secrets/plant.pem", token)
    until("spans can't be sent", lambda: "spans don't arrive" in agent.process.log.read_text())
    answer = pusher.answer(pusher.ask(diagnostics=pb.Diagnostics()))
    assert answer.error == ""
    assert len(answer.data) < 16 << 20
    files = unpacked(answer.data)
    assert {"status.json", "doctor.json", "config.toml", "spool.ndjson", "log.txt", "versions.json"} <= set(
        files
    )
    assert '"agent": "edge"' in files["status.json"]
    assert '"check": "session"' in files["doctor.json"]
    assert "running" in files["log.txt"]
    assert "VmRSS" in files["proc/self/status"]
    assert 'password_hash = "[redacted]"' in files["config.toml"]
    assert "headers_file" in files["config.toml"]
    for name, content in files.items():
        for secret in secrets:
            assert secret not in content, f"{secret} in {name}"


def test_a_host_that_takes_no_requests_says_so(stack: Stack, pusher: Pusher) -> None:
    """In the hello, and to whoever asks all the same."""
    _agent(stack, pusher, "[remote]\nrequests = false\n")
    assert not pusher.hellos[0].requests
    assert "requests = false" in pusher.answer(pusher.ask(diagnostics=pb.Diagnostics())).error
