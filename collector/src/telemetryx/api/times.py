"""Times and durations as people write them: in query parameters, on the command line and in the config file.

A time is RFC 3339 with an offset, a date (`2026-03-01`: midnight UTC), seconds since the epoch, `now`, or relative to now like
`-15m`. A duration is a number with a unit (`250ms`, `10s`, `1h30m`, `7d`), at most a hundred years. Inside, everything is int64
nanoseconds, UTC.
"""

import re
from datetime import UTC, datetime
from typing import Final

NS: Final = 1_000_000_000
UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": NS,
    "m": 60 * NS,
    "h": 3_600 * NS,
    "d": 86_400 * NS,
    "w": 604_800 * NS,
}
#: Times beyond this don't fit int64 nanoseconds (the year 2262).
LAST_NS: Final = 2**63 - 1
#: Times beyond this are kept nowhere (wire/limits.py). Nine months before int64 ends, so that minutes, hours and weeks around any time fit.
FARTHEST_NS: Final = 9_200_000_000_000_000_000
#: A hundred years. Who writes more has mistaken the unit.
LONGEST_NS: Final = 36_525 * UNITS["d"]

_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ns|us|ms|s|m|h|d|w)", re.ASCII)
_WHOLE = re.compile(r"(?:\d{1,12}(?:\.\d{1,9})?(?:ns|us|ms|s|m|h|d|w))+", re.ASCII)
_EPOCH = re.compile(r"-?\d{1,10}(?:\.\d{1,9})?", re.ASCII)
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[ +-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_EPOCH_ORIGIN = datetime(1970, 1, 1, tzinfo=UTC)


class TimeError(ValueError):
    """A time or duration that can't be read; the message says which forms can."""


def parse_duration(text: str, longest: int = LONGEST_NS) -> int:
    """Read `10s`, `1h30m` or `7d` as nanoseconds; zero, bare numbers, signs and what is longer than any use are refused."""
    if _WHOLE.fullmatch(text) is None:
        raise TimeError(
            f"{_shown(text)} is not a duration: write a number and a unit, like 250ms, 10s, 1h30m or 7d"
        )
    total = sum(_scaled(number, UNITS[unit]) for number, unit in _PART.findall(text))
    if total <= 0:
        raise TimeError(f"{_shown(text)} is not a usable duration: it must be longer than 0")
    if total > longest:
        raise TimeError(f"{_shown(text)} is not a usable duration: the longest is {format_duration(longest)}")
    return total


def format_duration(nanoseconds: int) -> str:
    """Write nanoseconds in the largest units that lose nothing: 5_400 s becomes `1h30m`."""
    rest, parts = nanoseconds, []
    for unit in ("d", "h", "m", "s", "ms", "us", "ns"):
        count, rest = divmod(rest, UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_time(text: str, now_ns: int) -> int:
    """Read a point in time as nanoseconds since the epoch; `now_ns` is what relative forms count from."""
    stripped = text.strip()
    if stripped == "now":
        return now_ns
    if stripped.startswith("now-"):
        stripped = stripped[3:]
    if stripped.startswith("-") and _WHOLE.fullmatch(stripped[1:]):
        return _in_range(now_ns - parse_duration(stripped[1:]), text)
    if _EPOCH.fullmatch(stripped):
        return _in_range(_scaled(stripped, NS), text)
    return _rfc3339(stripped, text)


def format_time(nanoseconds: int) -> str:
    """Write a time as RFC 3339 in UTC, with as many digits as it has."""
    seconds, rest = divmod(nanoseconds, NS)
    moment = datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{moment}{fraction}Z"


def _rfc3339(stripped: str, text: str) -> int:
    match = _RFC3339.fullmatch(f"{stripped}T00:00:00Z" if _DATE.fullmatch(stripped) else stripped)
    if match is None:
        raise TimeError(
            f"{_shown(text)} is not a time: write RFC 3339 with an offset (2026-03-01T10:00:00Z), a date "
            "(2026-03-01: midnight UTC), seconds since the epoch, 'now', or a span before now like -15m"
        )
    day, clock, fraction, offset = match.groups()
    # NOTE: a `+` that nobody percent-encoded reaches us as a space; it can mean nothing else here.
    zone = "+00:00" if offset in "Zz" else offset.replace(" ", "+")
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone}")
    except ValueError as error:
        raise TimeError(f"{_shown(text)} is not a time: {error}") from error
    span = moment - _EPOCH_ORIGIN
    seconds = span.days * 86_400 + span.seconds
    return _in_range(seconds * NS + int((fraction or "0").ljust(9, "0")), text)


def _scaled(number: str, unit: int) -> int:
    """Multiply without a float in between, so that nanoseconds stay exact."""
    sign, digits = (-1, number[1:]) if number.startswith("-") else (1, number)
    whole, _, fraction = digits.partition(".")
    return sign * (int(whole) * unit + int((fraction or "0").ljust(9, "0")) * unit // NS)


def _in_range(nanoseconds: int, text: str) -> int:
    if not -FARTHEST_NS <= nanoseconds <= FARTHEST_NS:
        raise TimeError(f"{_shown(text)} is out of range: times lie between 1678-06-19 and 2261-07-15")
    return nanoseconds


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")  # noqa: PLR2004  a message fits a line


def deleted(before_ns: int) -> str:
    """Say that raw data isn't in an answer because its retention has passed."""
    return f"raw readings from before {format_time(before_ns)} are deleted, and aren't in it: rollups reach further back"
