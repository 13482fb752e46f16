"""A command that a signal ends takes away what it was writing, and ends by that signal."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def until_it_copies(process: "subprocess.Popen[str]", target: Path) -> None:
    """Wait until a command has made the folder, and something in it."""
    until = time.monotonic() + 60
    while not list(target.glob(".convert-*")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < until, "nothing was copied"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals) -> None:
    """Its source is a pipe that goes on for ever; the copy of it stands beside the target by then."""
    pipe, target = tmp_path / "pipe", tmp_path / "out"
    os.mkfifo(pipe)
    # Whoever runs the tests may ignore signals, and its children would too.
    command = [
        "env",
        "--default-signal",
        sys.executable,
        "-m",
        "telemetryx",
        "convert",
        str(pipe),
        str(target),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            with pipe.open("wb", buffering=0) as writer:
                writer.write(b'{"kind"')
                until_it_copies(process, target)
                process.send_signal(number)
                # By itself, with the pipe still open.
                _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert not target.exists(), list(target.iterdir())
    assert process.returncode == (130 if number is signal.SIGINT else -number), said
    assert "Traceback" not in said


def test_what_is_ignored_stays_so(tmp_path: Path) -> None:
    """`nohup` has SIGHUP ignored, and a command is to live on after its terminal."""
    pipe, target = tmp_path / "pipe", tmp_path / "out"
    os.mkfifo(pipe)
    command = ["nohup", sys.executable, "-m", "telemetryx", "convert", str(pipe), str(target)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            with pipe.open("wb", buffering=0) as writer:
                until_it_copies(process, target)
                process.send_signal(signal.SIGHUP)
                writer.write(b'{"kind":"sample","name":"a","labels":{},"time_ns":1,"value":1.0,"flags":0}\n')
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert (target / "samples.parquet").exists()
