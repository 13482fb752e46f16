"""A file system of its own with little room, a way to take all of it, and an agent that lives on it."""

import base64
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.processes import until
from tests.harness.stack import Agent, Stack


@contextmanager
def mounted(folder: Path, mebibytes: int = 96) -> Iterator[Path]:
    """Mount one with so much room; skip the test where that isn't allowed."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "telemetryx-test", str(folder)],
        capture_output=True,
        check=False,
        timeout=30,
    )
    if done.returncode:
        pytest.skip("this test may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=30)


def disk_of(mebibytes: int) -> Callable[[Path], Iterator[Path]]:
    """Make the fixture `disk` of a test file: one with so much room."""

    @pytest.fixture(name="disk")
    def disk(tmp_path: Path) -> Iterator[Path]:
        with mounted(tmp_path / "disk", mebibytes) as folder:
            yield folder

    return disk


def free(folder: Path) -> int:
    """Tell how many bytes are free."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def leave(folder: Path, bytes_: int) -> Path:
    """Take room until so much is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while (more := free(folder) - bytes_) > 0:
            file.write(bytes(min(more, 1 << 20)))
    return ballast


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    return ballast


def agent_on(stack: Stack, disk: Path, extra: str) -> Agent:
    """Give an agent whose data lie on the disk, and whose collector is away; its reserve is whole."""
    agent = stack.agent(stack.collector(start=False), extra=extra, start=False)
    (disk / "data").mkdir()
    agent.data.symlink_to(disk / "data")
    agent.start()
    until("the reserve is whole", lambda: has_reserve(agent))
    return agent


def has_reserve(agent: Agent) -> bool:
    """Tell whether all blocks are there that the agent keeps for a full disk."""
    reserve = agent.status()["spool"]["reserve"]
    return bool(reserve) and reserve["left"] == reserve["whole"] > 0


class Events:
    """Large events that don't compress, numbered."""

    def __init__(self, agent: Agent) -> None:
        """Begin at 0."""
        self._agent, self._noise = agent, random.Random(1)
        self.taken = 0

    def post(self) -> int:
        """Send one, again if it was refused before; its answer."""
        text = base64.b64encode(self._noise.randbytes(24_000)).decode()
        answer = self._agent.write(f'{{"source":"bulk","message":"{self.taken} {text}"}}', "/v1/events")
        assert answer in {204, 503}
        self.taken += answer == 204
        return answer

    def until_refused(self) -> None:
        """Send until one is refused for good: nothing goes on from the journal."""
        refused = 0

        def for_good() -> bool:
            nonlocal refused
            stands = self.post() == 503 and self._agent.status()["fold"]["blocked"]
            refused = refused + 1 if stands else 0
            return refused == 20

        until("readings are refused for good", for_good)
