"""What the agent's commands say when they can't: one clear sentence, or JSON for a program, and the documented exit code."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.harness.stack import AGENT

JOINS = f"txe1.{'A' * 43}.{'A' * 43}"


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("status", "--json", "--fast"), "unexpected argument '--fast' found"),
        (("enroll", "--json"), "required arguments"),
        (("spool", "ls", "--lines", "--json"), "--lines"),
    ],
)
def test_wrong_usage_is_json_too_when_that_was_asked_for(words: tuple[str, ...], said: str) -> None:
    """As the help promises of each error; and no usage behind it, which no program reads."""
    done = _ask(*words)
    assert (done.returncode, done.stdout) == (2, "")
    error = json.loads(done.stderr)["error"]
    assert said in error
    assert "Usage" not in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("collector:8420", "--token", JOINS), "write https://HOST:PORT"),
        (("https://collector:8420/console", "--token", JOINS), "write https://HOST:PORT"),
        (("http://collector:8420", "--token", JOINS), "write https://"),
        (("https://collector:8420", "--token", "tx_0123456789abcdef"), "paste it whole"),
        (("https://collector:8420", "--token", JOINS, "--name", "other"), "give one of them"),
        (("https://collector:8420", "--token-file", "/nope/token"), "isn't there"),
        (("https://collector:8420", "--token-file", "/"), "is a folder"),
        (("https://collector:8420", "--token", JOINS, "--ca-file", "/nope/ca.pem"), "--ca-file"),
        (("https://collector:8420", "--token", JOINS, "--ca-file", __file__), "it holds no certificate"),
        (("https://collector:8420/#/first", "--token", JOINS), "write https://HOST:PORT"),
    ],
)
def test_what_can_not_be_meant_is_wrong_usage_and_nothing_is_tried(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    """Exit code 2, as for an option that there isn't: another try is of no use."""
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent]\nname = "pump"\ndata_dir = "{tmp_path}"\n')
    done = _ask("enroll", *words, "--config", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_password_that_is_typed_is_asked_for_and_not_shown() -> None:
    """At a terminal; the hash is what is printed."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [AGENT, "hash-password"], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as asking:
        os.close(theirs)
        seen = b""
        # Not before it asks: what is typed ahead is dropped.
        while b"Password: " not in seen:
            seen += os.read(ours, 1_024)
        os.write(ours, b"a long password\n")
        said, _ = asking.communicate(timeout=120)
    assert said.startswith("$pbkdf2-sha256$")
    while True:
        try:
            more = os.read(ours, 1_024)
        except OSError:
            break
        if not more:
            break
        seen += more
    os.close(ours)
    assert b"a long password" not in seen
