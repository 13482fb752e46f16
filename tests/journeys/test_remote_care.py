"""Remote care from end to end: what a person pushes and asks at the collector, and what a real agent makes of it."""

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest
import zstandard

from tests.harness import Agent, Collector, Stack, until
from tests.harness.mosquitto import Mosquitto
from tests.harness.stack import ROOT

# A gate that a loaded machine can keep, and one that is waited for where a configuration doesn't prove itself.
PATIENT: Final = '[remote]\ngate = "2m"\n'
IMPATIENT: Final = '[remote]\ngate = "30s"\n'
SLOWER: Final = '[fold]\nlateness = "3s"\n[spool]\nlinger = "70ms"\n'
TOKEN: Final = "the-token-of-this-site"  # noqa: S105 - made up
SETTLED_S: Final = 180.0


def agents(collector: Collector, *words: str, code: int = 0) -> str:
    """Run `telemetryx agents …` and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "telemetryx", "agents", *words],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "collector/src"),
            "TELEMETRYX_URL": f"http://127.0.0.1:{collector.http}",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout


def push(collector: Collector, folder: Path, toml: str, *words: str) -> int:
    """Push a configuration and return its version."""
    file = folder / "pushed.toml"
    file.write_text(toml)
    said = agents(collector, "config", "push", str(file), "--yes", "--json", *(words or ("--all",)))
    return int(json.loads(said)["config"]["version"])


def state(collector: Collector, name: str = "edge") -> dict[str, Any]:
    """Return what the collector shows of an agent's configuration."""
    return dict(collector.get(f"/api/v1/agents/{name}")["config"])


def settled(collector: Collector, phase: str, wanted: int, name: str = "edge") -> dict[str, Any]:
    """Wait until an agent is in a phase with what it should have."""

    def there() -> bool:
        shown = state(collector, name)
        return shown["phase"] == phase and shown["wanted"] == wanted

    until(f"{name} is {phase} with {wanted}", there, SETTLED_S)
    return state(collector, name)


def known(collector: Collector, name: str = "edge") -> None:
    """Wait until an agent has said that it takes configurations."""
    until(
        "the agent is known",
        lambda: any(
            row["agent"] == name and row["phase"] == "none" and row["requests"]
            for row in collector.get("/api/v1/configs/states")["agents"]
        ),
    )


def bundle(collector: Collector, folder: Path, name: str = "edge") -> dict[str, bytes]:
    """Fetch a diagnostics bundle and return what is in it, by the last part of its names."""
    file = folder / "bundle.tar.zst"
    agents(collector, "diagnostics", name, "-o", str(file), "--force", "--timeout", "180")
    with zstandard.open(file, "rb") as packed:
        content = io.BytesIO(packed.read())
    found = {}
    with tarfile.open(fileobj=content) as archive:
        for member in archive.getmembers():
            if (inner := archive.extractfile(member)) is not None:
                found[Path(member.name).name] = inner.read()
    return found


@pytest.mark.waits(seconds=60)
def test_a_push_is_applied_a_bad_one_returned_from_and_all_of_it_outlives_restarts(
    stack: Stack, tmp_path: Path
) -> None:
    """Good, refused by its check, refused by its gate, taken back, pushed while the agent is away; the collector dies meanwhile."""
    collector = stack.collector()
    agent = stack.agent(collector, extra=IMPATIENT)
    known(collector)
    good = push(collector, tmp_path, SLOWER)
    shown = settled(collector, "applied", good)
    assert (shown["version"], shown["in_force"], shown["reason"]) == (good, good, "")
    assert agent.write("m v=1") == 204

    unknown = push(collector, tmp_path, "[fold]\nlatenes = '3s'\n", "--agent", "edge")
    shown = settled(collector, "failed", unknown)
    assert "latenes" in shown["reason"]
    assert shown["in_force"] == good

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        clash = push(collector, tmp_path, f'[input.tcp]\nlisten = "127.0.0.1:{port}"\n', "--agent", "edge")
        shown = settled(collector, "failed", clash)
    assert shown["in_force"] == good
    assert shown["reason"]
    # It begins anew with all of them.
    agent.listening()
    assert agent.write("m v=2") == 204

    assert collector.process is not None
    collector.process.kill()
    collector.start()
    assert state(collector)["wanted"] == clash
    until("the agent is back", lambda: state(collector)["connected"])
    for version in (clash, unknown):
        agents(collector, "config", "take-back", str(version))
    settled(collector, "applied", good)

    assert agent.process is not None
    agent.process.kill()
    later = push(collector, tmp_path, "[fold]\nlateness = '4s'\n")
    until("it waits", lambda: state(collector)["phase"] == "waiting")
    agent.start()
    assert settled(collector, "applied", later)["in_force"] == later
    agents(collector, "config", "take-back", str(later))
    agents(collector, "config", "take-back", str(good))
    assert settled(collector, "none", 0)["in_force"] == 0
    agent.wait_drained()
    assert collector.values("m.v") == [[1.0, 2.0]]


def test_a_canary_stops_at_an_agent_that_cannot_use_it(stack: Stack, tmp_path: Path) -> None:
    """The first agent returns from it, so that the second never gets it; a good one goes on to both."""
    collector = stack.collector()
    for name in ("a", "b"):
        stack.agent(collector, name, extra=PATIENT)
        known(collector, name)
    bad = push(collector, tmp_path, "[fold]\nlatenes = '3s'\n", "--all", "--canary", "1")
    settled(collector, "failed", bad, "a")

    def config(version: int) -> dict[str, Any]:
        return next(row for row in collector.get("/api/v1/configs")["configs"] if row["version"] == version)

    until("it is stopped", lambda: config(bad)["state"] == "stopped")
    assert "at agent a" in config(bad)["reason"]
    assert (state(collector, "b")["wanted"], state(collector, "b")["phase"]) == (0, "none")
    agents(collector, "config", "take-back", str(bad))
    settled(collector, "none", 0, "a")
    good = push(collector, tmp_path, SLOWER, "--all", "--canary", "50%")
    for name in ("a", "b"):
        settled(collector, "applied", good, name)
    assert config(good)["state"] == "everywhere"


def test_diagnostics_and_the_log_level_are_asked_for_from_afar(stack: Stack, tmp_path: Path) -> None:
    """The bundle names the agent and the configuration in force, and the level is the one that was asked for."""
    collector = stack.collector()
    agent = stack.agent(collector, extra=PATIENT)
    known(collector)
    version = push(collector, tmp_path, SLOWER)
    settled(collector, "applied", version)
    assert "agent edge logs at debug" in agents(
        collector, "log-level", "edge", "debug", "--for", "10m", "--timeout", "120"
    )
    found = bundle(collector, tmp_path)
    status = json.loads(found["status.json"])
    assert status["agent"] == "edge"
    assert status["remote"]["version"] == version
    assert len(found) > 3
    refused = subprocess.run(
        [
            sys.executable,
            "-m",
            "telemetryx",
            "agents",
            "log-level",
            "edge",
            "no=such=level",
            "--timeout",
            "120",
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "collector/src"),
            "TELEMETRYX_URL": f"http://127.0.0.1:{collector.http}",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert refused.returncode == 1, refused.stdout
    assert "couldn't do it" in refused.stderr
    assert agent.process is not None
    agent.process.kill()
    until("it is gone", lambda: not state(collector)["connected"], SETTLED_S)
    agents(collector, "diagnostics", "edge", "-o", str(tmp_path / "no.zst"), "--timeout", "1", code=1)


def test_the_same_over_a_sites_broker(stack: Stack, tmp_path: Path) -> None:
    """Configuration, state, request and bundle in envelopes that the agent's token signs."""
    broker = Mosquitto(tmp_path / "broker")
    broker.start()
    try:
        token = tmp_path / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        collector = stack.collector(f'token_file = "{token}"\n[gateway.mqtt]\nurl = "{broker.url}"\n')
        agent = Agent(tmp_path / "agent", collector.grpc, extra=PATIENT)
        text = agent.config.read_text()
        agent.config.write_text(
            text.replace(
                f'url = "http://127.0.0.1:{collector.grpc}"', f'url = "{broker.url}"\ntoken_file = "{token}"'
            )
        )
        stack.agents.append(agent)
        agent.start()
        known(collector)
        version = push(collector, tmp_path, SLOWER)
        assert settled(collector, "applied", version)["in_force"] == version
        bad = push(collector, tmp_path, "[fold]\nlatenes = '3s'\n")
        assert "latenes" in settled(collector, "failed", bad)["reason"]
        assert json.loads(bundle(collector, tmp_path)["status.json"])["remote"]["in_force"] == version
    finally:
        broker.kill()
