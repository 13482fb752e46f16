"""A small ext4 file system of our own, on a loop device: it can lose its power, and it can be full.

`cut` is the file system's shutdown ioctl without a flush of its log: from then on every write and fsync fails, and what was
not synced is gone once it is mounted again, which replays its journal as after a power cut. What the image has received
stays, as in a disk that keeps what it was given; the write cache of a real disk is the kernel's matter (it flushes it in fsync).
"""

import fcntl
import os
import struct
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Self

#: EXT4_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH.
SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = struct.pack("I", 2)
#: An unmount waits for loop and kernel.
PATIENCE_S = 120.0


class Disk:
    """Mounted at `folder/mnt`; remove it with `close` (or as a context)."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        """Make and mount it."""
        folder.mkdir(parents=True)
        self.image, self.root = folder / "image", folder / "mnt"
        self.root.mkdir()
        with self.image.open("wb") as file:
            file.truncate(mebibytes << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image)
        self._mounted = False
        self.mount()

    def holds(self, data: Path) -> None:
        """Let a data folder that isn't there yet be on this disk."""
        (self.root / "data").mkdir()
        # Who installs an agent makes its folder long before; it is not what is tried.
        os.sync()
        data.symlink_to(self.root / "data")

    def mount(self) -> None:
        """Mount it, which replays its journal."""
        _run("mount", "-o", "loop", self.image, self.root)
        self._mounted = True

    def unmount(self) -> None:
        """Unmount it; what uses it must have ended."""
        end = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run(
                ["umount", self.root], capture_output=True, text=True, check=False, timeout=PATIENCE_S
            )
            if done.returncode == 0:
                self._mounted = False
                break
            if time.monotonic() > end:
                raise OSError(f"umount {self.root}: {done.stderr.strip()}")
            time.sleep(0.01)
        # Somebody who has just made a namespace of its own has it mounted too, for a moment: mounted anew then, it would be
        # the same file system still, with what was not synced, or broken by a cut.
        while self._attached():
            if time.monotonic() > end:
                raise OSError(f"{self.image} is still the file of a loop device: who has it mounted?")
            time.sleep(0.01)

    def _attached(self) -> bool:
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            with suppress(OSError):  # it was just let go
                if backing.read_text().strip() == str(self.image):
                    return True
        return False

    def cut(self) -> None:
        """Lose the power: what was not synced is gone from here on."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def fill(self) -> Path:
        """Take all the room there is; returns the file that holds it."""
        ballast = self.root / "ballast"
        with ballast.open("wb", buffering=0) as file:
            free = os.statvfs(self.root)
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize * 9 // 10)
            file.seek(0, os.SEEK_END)
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass
        return ballast

    def close(self) -> None:
        """Unmount and remove it, whatever still uses it."""
        if self._mounted:
            subprocess.run(["umount", "-l", self.root], capture_output=True, check=False, timeout=PATIENCE_S)
            self._mounted = False
        self.image.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.close()


@cache
def impossible() -> str:
    """Say why this machine can't do it, or nothing when it can: tried once, with a small image."""
    if os.geteuid() != 0:
        return "only root may mount file systems"
    if not Path("/dev/loop-control").exists():
        return "there is no loop device"
    try:
        with tempfile.TemporaryDirectory(prefix="telemetryx-disk-") as folder:
            disk = Disk(Path(folder) / "disk", 8)
            try:
                _is_cut(disk)
            finally:
                disk.close()
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return ""


def _is_cut(disk: Disk) -> None:
    """Raise unless a cut keeps what was synced and loses what was not."""
    for name, synced in (("kept", True), ("lost", False)):
        with (disk.root / name).open("wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            if synced:
                os.fsync(file.fileno())
    folder = os.open(disk.root, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
    disk.cut()
    disk.unmount()
    disk.mount()
    kept, lost = (disk.root / "kept"), (disk.root / "lost")
    if kept.read_bytes() != b"x" * 4096:
        raise OSError("a cut loses what was synced: this kernel's ext4 can't be used for it")
    if lost.exists() and lost.stat().st_size:
        raise OSError("a cut loses nothing: this kernel's ext4 can't be used for it")


def _run(*words: str | Path) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode:
        raise OSError(f"{words[0]}: {done.stderr.strip() or done.returncode}")
