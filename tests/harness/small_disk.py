"""A file system of its own with little room, and a way to take all of it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


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
