"""What a collector asks an agent for: another log level for a while, a diagnostics bundle without secrets."""

import io
import subprocess
import tarfile
import time
from collections.abc import Iterator

import pytest
import zstandard

from telemetryx.wire._pb2 import link_pb2 as pb
from tests.harness import Agent, Stack, until
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


def test_a_diagnostics_bundle_holds_what_helps_and_no_secret(stack: Stack, pusher: Pusher) -> None:
    """Status, doctor, configuration, spool, log, host; the passwords and tokens of the host are in none of its files."""
    tokens = stack.folder / "tokens"
    tokens.write_text("a-token-that-stays-here\n")
    tokens.chmod(0o600)
    agent = _agent(stack, pusher)
    hashed = subprocess.run(
        [AGENT, "hash-password"],
        input="pw-of-press\n",
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert agent.process is not None
    agent.process.stop()
    text = agent.config.read_text()
    listen = f'[input.http]\nlisten = "127.0.0.1:{agent.http}"\n'
    text = text.replace(listen, f'{listen}token_file = "{tokens}"\n')
    agent.config.write_text(f'{text}[[input.mqtt.user]]\nname = "press"\npassword_hash = "{hashed}"\n')
    agent.start()
    until("it is connected again", lambda: len(pusher.hellos) > 1)
    answer = pusher.answer(pusher.ask(diagnostics=pb.Diagnostics()))
    assert answer.error == ""
    assert len(answer.data) < 16 << 20
    unpacked = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(answer.data)).read()
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        files = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            files[member.name.removeprefix("diagnostics/")] = file.read().decode() if file else ""
    assert {"status.json", "doctor.json", "config.toml", "spool.ndjson", "log.txt", "versions.json"} <= set(
        files
    )
    assert '"agent": "edge"' in files["status.json"]
    assert '"check": "session"' in files["doctor.json"]
    assert "running" in files["log.txt"]
    assert "VmRSS" in files["proc/self/status"]
    assert 'password_hash = "[redacted]"' in files["config.toml"]
    for name, content in files.items():
        for secret in ("a-token-that-stays-here", "pw-of-press", hashed):
            assert secret not in content, f"{secret} in {name}"


def test_a_host_that_takes_no_requests_says_so(stack: Stack, pusher: Pusher) -> None:
    """In the hello, and to whoever asks all the same."""
    _agent(stack, pusher, "[remote]\nrequests = false\n")
    assert not pusher.hellos[0].requests
    assert "requests = false" in pusher.answer(pusher.ask(diagnostics=pb.Diagnostics())).error
