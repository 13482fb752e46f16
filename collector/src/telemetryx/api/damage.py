"""What an answer says of sketches that aren't what was stored: of which series and time, and what was read in their place."""

from collections.abc import Iterable, Iterator
from typing import Final

from telemetryx.api.times import format_time
from telemetryx.store import selector
from telemetryx.types import DamagedSketch, Series

NAMED: Final = 10
"""Sketches that are named one by one."""
_INSTEAD: Final = {
    "1m": "its minutes are read in its place",
    "raw": "its readings are read in its place",
    None: "its readings are left out",
}
_OF: Final = {"1h": "the hour", "1m": "the minute", "window": "the window"}


def told(found: Iterable[DamagedSketch], rows: Iterable[Series]) -> Iterator[str]:
    """Yield sentences; the series are among `rows`."""
    some = sorted(set(found), key=lambda one: (one.series, one.time_ns, one.of))
    if not some:
        return
    ids = {one.series for one in some[:NAMED]}
    names = {row.id: selector.text(row) for row in rows if row.id in ids}
    for one in some[:NAMED]:
        yield (
            f"the sketch of series {one.series} ({names[one.series]}) of {_OF[one.of]} "
            f"{format_time(one.time_ns)} is damaged: {_INSTEAD[one.instead]}; `telemetryx store verify` names all"
        )
    if len(some) > NAMED:
        yield f"{len(some) - NAMED} more sketches are damaged; `telemetryx store verify` names all"
