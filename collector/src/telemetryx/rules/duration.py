"""Durations as rule files write them: a number with a unit, also several of them (`250ms`, `20s`, `1h30m`, `7d`)."""

import re
from typing import Final

UNITS: Final = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
#: Ten years. Times plus any sum of a rule's durations stay far inside int64.
LONGEST_NS: Final = 3_650 * UNITS["d"]

_PART = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)", re.ASCII)
_WHOLE = re.compile(r"(?:\d{1,9}(?:ms|s|m|h|d|w))+", re.ASCII)


def parse_duration(text: str) -> int:
    """Read a duration as nanoseconds; `0s` is one, a bare number isn't."""
    if _WHOLE.fullmatch(text) is None:
        raise ValueError(f"{text[:60]!r} is not a duration: write a number and a unit, like 20s, 5m or 1h30m")
    total = sum(int(number) * UNITS[unit] for number, unit in _PART.findall(text))
    if total > LONGEST_NS:
        raise ValueError(f"{text[:60]!r} is too long: at most 3650d")
    return total


def format_duration(nanoseconds: int) -> str:
    """Write nanoseconds in the largest units that lose nothing: 5,400 s becomes `1h30m`."""
    rest, parts = nanoseconds, []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
