"""How many bytes each agent may have on the way: its part of one pool, so that all together never outgrow the memory.

With few agents each has the configured credit. When many come back at once, each gets less, never less than what keeps
batches of the usual size moving; as they catch up and leave, the others' parts grow again.
"""

from collections.abc import Callable
from typing import Final

LEAST: Final = 256 << 10
"""Bytes: the largest size at which agents cut batches. One that is larger still may overdraw the last credit."""


class Pool:
    """What all sessions share."""

    def __init__(self, size: int, most: int, sessions: Callable[[], int]) -> None:
        """Share `size` bytes among so many sessions as there are, at most `most` each."""
        self._size = size
        self.most = most
        self._sessions = sessions

    def share(self) -> int:
        """Return the bytes that one session may have unacknowledged now."""
        return min(self.most, max(LEAST, self._size // max(1, self._sessions())))
