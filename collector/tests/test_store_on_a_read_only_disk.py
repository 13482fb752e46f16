"""A file system that becomes read-only under the SQLite file: batches wait at the agent, the collector says why, and what was stored is read.

The kernel refuses `mount -o remount,ro` while a file is open for writing, as the store's is. What makes a disk read-only under a collector that runs
is an error (ext4's errors=remount-ro), which only an unmount ends: so the first test ends as such a day does. That a collector goes on by itself
where writing is refused and allowed again, without anything being opened anew by hand, is tried with the kernel's other way to refuse writes.
"""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from store_faults import Faulty, collecting

pytestmark = pytest.mark.slow


def run(*command: object, check: bool = True) -> str:
    """Run a command that must succeed; return what it says."""
    words = [str(word) for word in command]
    return subprocess.run(words, check=check, capture_output=True, text=True, timeout=60).stdout


@contextlib.contextmanager
def ext4() -> Iterator[tuple[Path, str]]:
    """Mount an ext4 file system of its own; give its place and its device."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount the disk of this test")
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        image, root = Path(folder) / "image", Path(folder) / "mnt"
        root.mkdir()
        with image.open("wb") as file:
            file.truncate(64 << 20)
        try:
            run("mkfs.ext4", "-q", "-F", "-m", "0", image)
            device = run("losetup", "-f", "--show", image).strip()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this machine makes no disk in a file: {error}")
        try:
            try:
                run("mount", "-o", "errors=remount-ro", device, root)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"this machine lets nobody mount: {error.stderr}")
            yield root, device
        finally:
            run("umount", "-l", root, check=False)
            run("losetup", "-d", device)


async def refused(faulty: Faulty) -> str:
    """Ask for a change, which is refused; return why."""
    wanted = {"match": '{agent="edge"}', "duration": "1h", "author": "ana", "comment": "a test"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{faulty.http}/api/v1/silences", json=wanted) as answer,
    ):
        body = await answer.json()
        assert answer.status == 503, body
        return str(body["error"]["message"])


async def test_a_disk_that_an_error_made_read_only_holds_batches_until_it_is_mounted_anew() -> None:
    """Nothing is acknowledged, the reason is said, reading goes on; the collector stops in order, and after a mount takes what waited, once."""
    with ext4() as (root, device):
        settings = f'[collector]\ndata_dir = "{root}/data"\n'
        now = time.time_ns()
        async with collecting(settings) as faulty:
            faulty.cut(now)
            await faulty.delivers()
            run("mount", "-o", "remount,abort", root)
            faulty.cut(now + 1_000_000)
            await faulty.stays_out("can't be written", "disk refused")
            await faulty.has_stored([now])
            assert "store" in await refused(faulty)
            waiting, sent = faulty.agent, faulty.sent
        run("umount", root)
        run("mount", device, root)
        async with collecting(settings) as faulty:
            faulty.agent, faulty.sent = waiting, sent
            await faulty.recovers()


async def test_a_collector_goes_on_by_itself_when_writing_is_allowed_again() -> None:
    """Files and folder are made immutable, which every write is refused for, also of who has them open; and are given back."""
    with ext4() as (root, _):
        data = root / "data"
        async with collecting(f'[collector]\ndata_dir = "{data}"\n') as faulty:
            now = time.time_ns()
            faulty.cut(now)
            await faulty.delivers()
            # The log's index is mapped: the kernel ends who writes to an immutable file in memory, which a read-only disk doesn't.
            files = [data, *data.glob("*.db"), *data.glob("*.db-wal")]
            assert len(files) > 2, "the file and its log"
            run("chattr", "+i", *files)
            try:
                faulty.cut(now + 1_000_000)
                await faulty.stays_out("can't be written", "disk refused")
                await faulty.has_stored([now])
            finally:
                run("chattr", "-i", *files)
            await faulty.recovers()
