"""P5: whatever stands in the place of a file of the data folder, the agent starts, takes readings, and ends when it is told to.

A pipe has nobody at its other end: what opens it as it opens a file waits for ever, and not even SIGTERM ends that.
"""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Agent, Stack
from tests.harness.agent_tools import ask, lines, readings, send, stopped
from tests.harness.stack import AGENT

#: Small segments and batches, so that there are several.
SMALL = '[spool]\nsegment_bytes = "256KiB"\nbatch_bytes = "64KiB"\n[journal]\nsegment_bytes = "256KiB"\n'
#: Files, and folders, of a data folder; a pattern stands for the newest that fits.
FILES = (
    "lock",
    "fold.checkpoint",
    "fold.checkpoint.new",
    "timeline",
    "agent.sock",
    "journal",
    "journal/lock",
    "journal/mark",
    "journal/quarantine",
    "journal/*.seg",
    "spool/cursor",
    "spool/clocks",
    "spool/heads",
    "spool/heads/*.seg",
    "spool/reserve/00",
    "spool/log/lock",
    "spool/log/*.seg",
    "sessions",
    "sessions/*.seg",
    "http-keys/lock",
    "identity",
    "identity/joined.json",
    "identity/key.pem",
    "remote/state",
)


def a_socket(path: Path) -> None:
    """Put a socket there that nobody listens on."""
    # An address has room for a short name only.
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def a_link_to_itself(path: Path) -> None:
    """Put a link there that leads nowhere."""
    path.symlink_to(path)


KINDS: tuple[Callable[[Path], None], ...] = (os.mkfifo, a_socket, a_link_to_itself)


@pytest.fixture(scope="module", name="data")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a data folder once, with a spool of several segments."""
    stack = Stack(tmp_path_factory.mktemp("data"))
    try:
        agent = stack.agent(stack.collector(start=False), extra=SMALL)
        for seed in range(8):
            send(agent, "old", readings(8_000, seed=seed))
        stopped(agent)
        assert len(list(agent.data.glob("spool/log/*.seg"))) > 1
        yield agent.data
    finally:
        stack.close()


def waiting(agent: Agent) -> int:
    """Give the rows that wait in the spool."""
    rows: int = lines(ask("spool", "ls", "--json", "--dir", agent.data))[-1]["rows"]
    return rows


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_it_starts_with_anything_in_place_of_a_file_and_ends_when_told(
    stack: Stack, data: Path, kind: Callable[[Path], None]
) -> None:
    """Every input opens, a reading is taken and kept, SIGTERM ends it, and nothing of it is damage that nobody knows."""
    agent = stack.agent(stack.collector(start=False), extra=SMALL, start=False)
    for pattern in FILES:
        shutil.rmtree(agent.data, ignore_errors=True)
        shutil.copytree(data, agent.data, ignore=shutil.ignore_patterns("*.sock"))
        path = max(agent.data.glob(pattern), default=agent.data / pattern.replace("*", "0"))
        path.parent.mkdir(exist_ok=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        kind(path)
        agent.start()
        assert agent.write("new v=1") == 204, pattern
        assert agent.process is not None
        agent.process.stop()
        assert waiting(agent) >= (0 if "log" in pattern else 64_000), pattern
        said = ask("spool", "verify", "--journal", "--dir", agent.data)
        assert said.returncode == 0, f"{pattern}: {said.stdout}{said.stderr}"


@pytest.mark.parametrize("command", ["check", "run", "status", "doctor"])
def test_a_pipe_without_a_writer_in_place_of_the_config_file_is_refused_in_a_few_seconds(
    tmp_path: Path, command: str
) -> None:
    """It says that nobody writes it."""
    os.mkfifo(tmp_path / "agent.toml")
    said = ask(command, "--config", tmp_path / "agent.toml")
    assert said.returncode != 0
    assert "nobody has written it" in said.stdout + said.stderr


def test_a_config_file_may_come_from_a_shells_pipe(stack: Stack) -> None:
    """`check --config <(generate)`."""
    agent = stack.agent(stack.collector(start=False), start=False)
    said = subprocess.run(
        ["bash", "-c", f"exec {AGENT} check --config <(cat {agent.config})"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert said.returncode == 0, said
    assert f"fine (agent {agent.name})" in said.stdout
