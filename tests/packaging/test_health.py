"""What the health check of a container asks: does it answer, does each part work, are readings taken and kept."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import Stack, certificates
from tests.harness.postgres import PostgresServer, section
from tests.harness.processes import PATIENCE, Process, free_port, until
from tests.harness.stack import AGENT, ROOT


def health(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `telemetryx health`."""
    return subprocess.run(
        [sys.executable, "-m", "telemetryx", "health", "--config", config, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env={"PYTHONPATH": str(ROOT / "collector/src"), "PATH": "/usr/bin:/bin"},
    )


def status(config: Path) -> subprocess.CompletedProcess[str]:
    """Run `telemetryx-agent status --healthy`."""
    return subprocess.run(
        [AGENT, "status", "--healthy", "--config", config],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("certificate", ["of another name", "its own"])
def test_a_collector_behind_tls_and_tokens_is_healthy_and_ready_without_showing_one(
    certificate: str, tmp_path: Path
) -> None:
    """On every address of the machine, whatever its certificate: its own configuration is all that is needed."""
    cert, key = certificates.authority(tmp_path, "collector.example")
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text("0123456789abcdef" * 2)
    guard = f'token_file = "{tokens}"\n'
    if certificate != "its own":
        guard += f'tls_cert_file = "{cert}"\ntls_key_file = "{key}"\n'
    config = tmp_path / "collector.toml"
    config.write_text(
        f'[collector]\ndata_dir = "{tmp_path / "data"}"\n'
        f'[api]\nlisten = "0.0.0.0:{free_port()}"\n{guard}[gateway]\nlisten = "0.0.0.0:{free_port()}"\n{guard}'
    )
    assert health(config).returncode == 3, "nobody runs yet"
    collector = Process(
        "collector",
        [sys.executable, "-m", "telemetryx", "collector", "--config", config],
        tmp_path / "collector.log",
        {"PYTHONPATH": str(ROOT / "collector/src")},
    )
    try:
        until("it is ready", lambda: health(config, "--ready").returncode == 0)
        answer = health(config)
        assert (answer.returncode, answer.stdout) == (0, "healthy\n"), answer.stderr
    finally:
        collector.kill()
    gone = health(config)
    assert gone.returncode == 3
    assert "no collector answers" in gone.stderr


def test_a_collector_whose_database_is_away_is_healthy_but_not_ready(stack: Stack) -> None:
    """A restart would bring no database back; the reason is said."""
    server = PostgresServer()
    try:
        server.start()
        collector = stack.collector(section(server, server.database()))
        stack.agent(collector, inputs='[input.host]\ninterval = "500ms"\n')
        assert health(collector.config, "--ready").returncode == 0
        server.kill()

        def unready() -> bool:
            said = health(collector.config, "--ready")
            return said.returncode == 1 and "can't be used now" in said.stderr

        until("it isn't ready, and says why", unready)
        assert health(collector.config).returncode == 0
    finally:
        server.remove()


def test_an_agent_without_its_collector_is_healthy_and_one_whose_input_is_taken_is_not(stack: Stack) -> None:
    """A link that is down is what it is for; a port that another program holds keeps readings out, and is named."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector)
    found = status(agent.config)
    assert found.returncode == 0, found.stderr
    second = stack.agent(collector, "second", start=False)
    second.config.write_text(second.config.read_text().replace(f":{second.http}", f":{agent.http}"))
    second.http = agent.http
    second.start()

    def unwell() -> str | None:
        said = status(second.config)
        return said.stderr if said.returncode == 1 else None

    assert "the input http doesn't run" in until("it says that its input doesn't run", unwell)
    assert agent.process is not None
    agent.process.kill()
    assert status(agent.config).returncode == 4
