"""From when to when: what endpoints with `start` and `end` have in common, and which spans can be computed at all.

Inside, times and their distances are int64 nanoseconds. What leaves them is refused here, before the store meets it.
"""

from typing import Final

from telemetryx.api.errors import BadRequest
from telemetryx.api.times import LAST_NS, UNITS, format_duration

HOUR_NS: Final = UNITS["h"]
#: The store rounds to whole minutes and hours on its own.
_ROOM_NS: Final = 2 * HOUR_NS


def ordered(start: int | None, end: int | None) -> None:
    """Refuse a start that isn't before the end; either may be left out."""
    if start is not None and end is not None and start >= end:
        raise BadRequest("start is not before end", "give a start that lies before the end")


def span(start: int | None, end: int | None, now_ns: int) -> tuple[int, int]:
    """Return [start, end): up to now, and an hour of it, where they are left out."""
    until = now_ns if end is None else end
    begun = until - HOUR_NS if start is None else start
    ordered(begun, until)
    return begun, until


def computed(start: int, end: int) -> None:
    """Refuse a span that is too long to be computed with."""
    if end - start > LAST_NS - 2 * _ROOM_NS:
        raise BadRequest("start and end are more than 292 years apart", "give a later start")


def whole(start: int, end: int, step: int) -> tuple[int, int]:
    """Return the whole steps that a span lies in."""
    wide = (start - start % step, end + -end % step)
    if max(-wide[0], wide[1]) > LAST_NS - _ROOM_NS or wide[1] - wide[0] > LAST_NS - 2 * _ROOM_NS:
        raise BadRequest(
            f"step {format_duration(step)} leaves the times that there are: whole steps of it around start and end don't fit",
            "use a narrower step",
        )
    return wide
