"""What reaches the device: bytes written to flash for each byte and each reading that was taken in.

The agent's data is on an ext4 file system of its own on a loop device, so that the device's own counter has everything: the
log's frames, cursors and checkpoints, and the file system's inodes and journal. Each fsync costs whole blocks, so what counts
is how many readings share one.
"""

import http.client
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fault.disk import Disk, impossible
from tests.harness import Agent, Stack
from tests.load.bed import Bed

DISK_MIB = 1_024
SECTOR = 512
LEAST_S = 60
SEGMENTS = ("4MiB", "256KiB")
DAY_S = 86_400


@dataclass(frozen=True)
class Sender:
    """Posts of so many readings, so many times a second."""

    posts: int
    readings: int

    def __str__(self) -> str:
        """Say it."""
        each = "one reading" if self.readings == 1 else f"{self.readings} readings"
        return f"{self.posts} posts/s of {each}"


@dataclass
class Found:
    """What one run came to."""

    seconds: float
    readings: int
    received: int
    """Bytes of the posts' bodies."""
    written: int
    """Bytes that reached the device."""


def writes(bed: Bed) -> None:
    """Count the bytes that reach the device, for host metrics every 10 s and for readings over HTTP; needs root."""
    if why := impossible():
        bed.note(f"writes: not measured: {why}")
        return
    seconds = max(LEAST_S, bed.seconds)
    for size in SEGMENTS:
        extra = f'[journal]\nsegment_bytes = "{size}"\n[spool]\nsegment_bytes = "{size}"\n'
        found = _run(bed, extra, seconds, None)
        bed.add(
            "writes",
            f"{size} segments, host metrics every 10 s",
            found.written * DAY_S / found.seconds / 1e6,
            "MB/day",
        )
        for sender in (Sender(10, 1), Sender(10, 100), Sender(100, 100)):
            found = _run(bed, extra, seconds, sender)
            name = f"{size} segments, {sender}"
            bed.add("writes", name, found.written / found.received, "bytes/byte received")
            bed.add("writes", name, found.written / found.readings, "bytes/reading")


def _run(bed: Bed, extra: str, seconds: int, sender: Sender | None) -> Found:
    with bed.place() as folder, Disk(folder / "disk", DISK_MIB) as disk:
        stack = Stack(folder)
        try:
            collector = stack.collector()
            inputs = None if sender else '[input.host]\ninterval = "10s"\n'
            agent = stack.agent(collector, extra=extra, inputs=inputs, start=False)
            disk.holds(agent.data)
            agent.start()
            # What a start writes is no part of it.
            time.sleep(1)
            os.sync()
            begin, before = time.monotonic(), _device_bytes(disk.root)
            readings, received = _send(agent, sender, seconds) if sender else (0, 0)
            time.sleep(max(0.0, begin + seconds - time.monotonic()))
            os.sync()
            return Found(time.monotonic() - begin, readings, received, _device_bytes(disk.root) - before)
        finally:
            stack.close()


def _device_bytes(root: Path) -> int:
    """Return what was written to the device under a mount, by the kernel's own count (Documentation/block/stat.rst)."""
    device = root.stat().st_dev
    fields = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()
    return int(fields[6]) * SECTOR


def _send(agent: Agent, sender: Sender, seconds: int) -> tuple[int, int]:
    """Post until the time is over; return the readings that were acknowledged and the bytes of their bodies."""
    link = http.client.HTTPConnection("127.0.0.1", agent.http, timeout=60)
    begin, readings, received = time.monotonic(), 0, 0
    for post in range(seconds * sender.posts):
        time.sleep(max(0.0, begin + post / sender.posts - time.monotonic()))
        at = time.time_ns()
        body = "\n".join(
            f"sensors,device=d{n} temperature={20 + (post * 7 + n) % 100 / 10} {at}"
            for n in range(sender.readings)
        )
        link.request("POST", "/write", body)
        answer = link.getresponse()
        answer.read()
        assert answer.status == http.client.NO_CONTENT, answer.status
        readings += sender.readings
        received += len(body)
    link.close()
    return readings, received
