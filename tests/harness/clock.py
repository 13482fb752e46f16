"""A wall clock of its own for one process: libfaketime (Debian's `faketime`), told by a file while the process runs.

The monotonic clock stays the real one, as on a board whose battery is empty.
"""

from pathlib import Path

from tests.harness.stack import Agent, Collector


class WallClock:
    """What an agent or a collector believes the time is."""

    def __init__(self, process: Agent | Collector) -> None:
        """Put it into the process's environment; it takes effect at the next start. It begins at 1970."""
        self._file = process.folder / "wall-clock"
        self.set("@1970-01-01 00:02:00")
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        process.env |= {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "TZ": "UTC",
        }

    def set(self, to: str) -> None:
        """Set it, as faketime(1) writes times: `@1970-01-01 00:02:00` from now on, `+1h` ahead of the real one, `+0` right."""
        beside = self._file.with_suffix(".new")
        beside.write_text(to + "\n")
        beside.rename(self._file)
