"""What an answer says of what its values were read from: where rollups or windows stand for readings, and what that changes.

An info says what may differ by a reading or within the sketch's error; a warning, that a function which needs every reading hasn't all of them.
"""

from collections.abc import Iterator
from typing import Final

from telemetryx.api.times import format_time
from telemetryx.promql.data import Selection
from telemetryx.types import PointBlock

_UNITS: Final = {"1h": ("hour", 3_600_000_000_000), "1m": ("minute", 60_000_000_000)}
_NEED_ALL: Final = {
    "readings": "stddev_over_time and stdvar_over_time are of",
    "samples": "ranges, and functions of differences (rate, increase, delta, changes, resets, deriv and their like), see",
}


def infos(wanted: Selection, found: PointBlock) -> Iterator[str]:
    """Say what rollups were read, and what is known less well for it."""
    if wanted.use in {"over_time", "spread"} and (level := _level(found)):
        what = (
            f"ranges are aggregated from rollups of {level}"
            if wanted.use == "over_time"
            else f"quantiles are of sketches of rollups of {level} where raw readings are deleted, within 1 %"
        )
        yield f"{what}: {_edges(wanted, found, level)}"
    elif wanted.use == "last" and found.rolled_until_ns is not None and wanted.unit_ns % _UNITS["1m"][1]:
        yield (
            f"{_before(found)} of each minute only the first and last reading are known: at a time within a minute the value is that of the first"
        )
    if found.missing:
        yield f"{found.missing} readings stand in windows or rollups without a sketch: quantiles know nothing of them"


def warnings(wanted: Selection, found: PointBlock) -> Iterator[str]:
    """Say where a function that needs every reading doesn't have them."""
    what = _NEED_ALL.get(wanted.use)
    if what is None:
        return
    if "rollups" in found.lean:
        yield (
            f"{_before(found)} {what} the first and last reading of each minute alone: an approximation; avg, min, max, sum, count and "
            "quantile_over_time know them all"
        )
    if "windows" in found.lean:
        yield (
            f"{what} the last reading alone of each window that agents shipped: an approximation; avg, min, max, sum, count and "
            "quantile_over_time know them all"
        )


def _level(found: PointBlock) -> str:
    if found.level != "raw":
        return found.level
    return "" if found.rolled_until_ns is None else "1m"


def _edges(wanted: Selection, found: PointBlock, level: str) -> str:
    """Say what a rollup does at a window's edge."""
    name, unit = _UNITS[level]
    if wanted.unit_ns % unit == 0 and wanted.span_ns % unit == 0:
        return "a sample exactly at an edge may count"
    where = "" if found.level != "raw" else f"{_before(found)} "
    return (
        f"{where}of a{'n' if level == '1h' else ''} {name} that a window's edge lies in all readings count, or none: those of the {name} in which it begins, "
        f"not those of the one in which it ends; with edges on whole {name}s it is exact"
    )


def _before(found: PointBlock) -> str:
    """Say of which time raw readings are gone."""
    return f"before {format_time(found.rolled_until_ns or 0)}, where raw readings are deleted,"
