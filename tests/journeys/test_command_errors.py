"""What the agent's commands say when they can't: one clear sentence, or JSON for a program, and the documented exit code."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.harness.stack import AGENT


def _ask(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AGENT, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("command", ["status", "tap"])
def test_without_an_agent_the_commands_say_so(tmp_path: Path, command: str) -> None:
    """Exit code 4, the socket that was tried, the way out; with --json the same as JSON."""
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent]\ndata_dir = "{tmp_path}"\n')
    said = _ask(command, "--config", file)
    assert (said.returncode, said.stdout) == (4, "")
    assert f"no agent is running on {tmp_path}/agent.sock" in said.stderr
    assert said.stderr.count("No such file") == 1
    said = _ask(command, "--json", "--config", file)
    assert said.returncode == 4
    assert "telemetryx-agent run" in json.loads(said.stderr)["error"]


@pytest.mark.parametrize("command", ["run", "check", "status", "tap"])
def test_a_file_that_is_not_there_is_named_once(command: str) -> None:
    """Exit code 3 and one sentence, whatever was asked."""
    said = _ask(command, "--config", "/nope/agent.toml")
    assert said.returncode == 3
    assert said.stderr.count("/nope/agent.toml") == 1
    assert said.stderr.count("No such file") == 1
