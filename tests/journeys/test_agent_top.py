"""An agent watched live in a terminal: top."""

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from tests.harness import Stack, until
from tests.harness.agent_tools import ask, offline
from tests.harness.stack import AGENT


def test_top_shows_one_frame_for_a_script_without_escapes(stack: Stack) -> None:
    """Link, fill, inputs and the last refusals."""
    collector = stack.collector()
    agent = stack.agent(collector)
    agent.linked()
    assert agent.write("m v=1") == 204
    assert agent.write("m v=\x1b[2J") == 400
    said = ask("top", "--once", "--config", agent.config)
    assert said.returncode == 0, said.stderr
    for part in (
        f"agent {agent.name}",
        "link  up",
        "journal  [",
        "spool    [",
        "http",
        "LAST REFUSED",
        "rejected_syntax",
    ):
        assert part in said.stdout
    assert "\x1b" not in said.stdout


def test_a_frame_in_a_pipe_is_not_cut_unless_a_width_is_told(stack: Stack) -> None:
    """A sentence to its end, or as wide as COLUMNS says."""
    agent = offline(stack)
    assert agent.write("m v=" + "9" * 150 + "x") == 400

    def frame(**told: str) -> list[str]:
        env = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
        said = subprocess.run(
            [AGENT, "top", "--once", "--config", agent.config],
            env={**env, **told},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return list(said.stdout.splitlines())

    (refused,) = (line for line in frame() if "rejected_syntax" in line)
    rejects = json.loads(ask("status", "--json", "--rejects", "--config", agent.config).stdout)["rejects"]
    assert refused.endswith(rejects[0]["reason"])
    assert not any("…" in line for line in frame())
    narrow = frame(COLUMNS="40")
    assert max(map(len, narrow)) == 40
    assert any(line.endswith("…") for line in narrow)


def test_top_without_an_agent_says_so(tmp_path: Path) -> None:
    """As status does: exit code 4."""
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent]\ndata_dir = "{tmp_path}"\n')
    said = ask("top", "--config", file)
    assert (said.returncode, said.stdout) == (4, "")
    assert "no agent is running" in said.stderr


@pytest.mark.parametrize("end", ["q", "\x03", signal.SIGTERM], ids=["q", "ctrl-c", "sigterm"])
def test_top_gives_the_terminal_back_however_it_ends(stack: Stack, end: str | signal.Signals) -> None:
    """It takes the other screen, turns echo off, and undoes both."""
    agent = offline(stack)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
    before = termios.tcgetattr(theirs)
    with subprocess.Popen(
        [AGENT, "top", "--config", str(agent.config)], stdin=theirs, stdout=theirs, stderr=theirs
    ) as child:
        shown = b""

        def read_until(part: bytes) -> bool:
            nonlocal shown
            if select.select([ours], [], [], 1)[0]:
                shown += os.read(ours, 65_536)
            return part in shown

        until("a frame is drawn", lambda: read_until(b"INPUT"))
        assert termios.tcgetattr(theirs)[3] & termios.ECHO == 0
        if isinstance(end, str):
            os.write(ours, end.encode())
        else:
            child.send_signal(end)
        until("the screen is given back", lambda: read_until(b"\x1b[?1049l"))
        assert child.wait(60) == 0
    assert b"\x1b[?1049h" in shown
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_keys_are_seen_while_the_agent_does_not_answer(tmp_path: Path) -> None:
    """One that was stopped in the middle: `q` ends top at once, and not when the question is given up."""
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent]\ndata_dir = "{tmp_path}"\n')
    ours, theirs = pty.openpty()
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent.sock"))
        agent.listen()
        agent.settimeout(120)
        with subprocess.Popen(
            [AGENT, "top", "--config", str(file)], stdin=theirs, stdout=theirs, stderr=theirs
        ) as child:
            for answer in (b'{"agent":"edge"}\n', b"[]\n"):
                with agent.accept()[0] as question:
                    # Who closes before it has heard the question refuses it.
                    assert question.recv(100).endswith(b"\n")
                    question.sendall(answer)
            unanswered, _ = agent.accept()
            os.write(ours, b"q")
            shown = b""
            while b"\x1b[?1049l" not in shown:
                assert select.select([ours], [], [], 30)[0], shown
                shown += os.read(ours, 65_536)
            assert child.wait(60) == 0
            unanswered.close()
    assert b"NO ANSWER" not in shown
    os.close(ours)
    os.close(theirs)
