"""What a session has answered as stored, as ranges: what its acknowledgements are written from.

It begins empty: of what the store held before, only those batches are this agent's whose checksums were compared, at the
greeting or when they came. A clone of its disk may have stored another batch under a name that is on its way here, and an
acknowledgement that covered that name would let the agent forget what nobody has.
"""

from bisect import bisect_right
from collections.abc import Iterable

from telemetryx.types import Holding


class RangeSet:
    """Seqs as inclusive ranges that never touch or overlap."""

    def __init__(self, held: Holding) -> None:
        """Begin with these."""
        self._epoch = held.epoch
        ranges = ([(1, held.upto)] if held.upto else []) + list(held.ranges)
        self._first = [first for first, _ in ranges]
        self._last = [last for _, last in ranges]

    def insert(self, seq: int) -> None:
        """Add a seq."""
        at = bisect_right(self._first, seq) - 1
        if at >= 0 and seq <= self._last[at]:
            return
        joins_before = at >= 0 and self._last[at] == seq - 1
        joins_after = at + 1 < len(self._first) and self._first[at + 1] == seq + 1
        if joins_before and joins_after:
            self._last[at] = self._last[at + 1]
            del self._first[at + 1], self._last[at + 1]
        elif joins_before:
            self._last[at] = seq
        elif joins_after:
            self._first[at + 1] = seq
        else:
            self._first.insert(at + 1, seq)
            self._last.insert(at + 1, seq)

    def __contains__(self, seq: int) -> bool:
        """Tell whether a seq is stored."""
        at = bisect_right(self._first, seq) - 1
        return at >= 0 and seq <= self._last[at]

    def about(self, seqs: Iterable[int]) -> Holding:
        """Say what is held up to the first hole, and the ranges above it that these seqs lie in."""
        upto = self._last[0] if self._first and self._first[0] == 1 else 0
        found = {bisect_right(self._first, seq) - 1 for seq in seqs if seq > upto and seq in self}
        return Holding(self._epoch, upto, tuple((self._first[at], self._last[at]) for at in sorted(found)))
