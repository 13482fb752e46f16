"""Reads parameters as Prometheus does: from the URL and a form alike, times as float seconds or RFC 3339, unknown ones ignored."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import promql_parser
from aiohttp import web

from telemetryx.api.errors import TooLarge
from telemetryx.api.times import LAST_NS, NS, TimeError, parse_time
from telemetryx.promql.errors import BadQuery

MAX_POINTS: Final = 11_000
MS: Final = 1_000_000
_LAST_S: Final = LAST_NS // 2 // NS
_DURATION = re.compile(r"(?:\d+(?:y|w|d|h|ms|m|s))+", re.ASCII)
_ESCAPED = re.compile(r"__|_([0-9A-Fa-f]{1,6})_")


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters of one request, in order."""

    pairs: tuple[tuple[str, str], ...]

    def get(self, name: str, default: str = "") -> str:
        """Return the first value of a parameter."""
        return next((value for key, value in self.pairs if key == name), default)

    def all(self, name: str) -> list[str]:
        """Return all values of a parameter."""
        return [value for key, value in self.pairs if key == name]

    def time(self, name: str, default_ns: int) -> int:
        """Read a time; to the millisecond, as Prometheus does."""
        text = self.get(name)
        if not text:
            return default_ns
        try:
            seconds = float(text)
        except ValueError:
            try:
                found = parse_time(text, default_ns)
            except TimeError as error:
                raise _invalid(name, f"cannot parse {text!r} to a valid timestamp") from error
            if abs(found) > _LAST_S * NS:
                raise _beyond(name, text) from None
            return found // MS * MS
        if not math.isfinite(seconds) or abs(seconds) > _LAST_S:
            raise _beyond(name, text)
        return round(seconds * 1_000) * MS

    def duration(self, name: str) -> int | None:
        """Read a duration: float seconds, or like 1h30m."""
        text = self.get(name)
        if not text:
            return None
        try:
            seconds = float(text)
        except ValueError:
            if _DURATION.fullmatch(text) is None:
                raise _invalid(name, f"cannot parse {text!r} to a valid duration") from None
            try:
                seconds = promql_parser.parse_duration(text).total_seconds()
            except (ValueError, OverflowError) as error:
                raise _invalid(name, f"cannot parse {text!r} to a valid duration") from error
        if not math.isfinite(seconds) or abs(seconds) * NS > LAST_NS // 2:
            raise _invalid(name, f"cannot parse {text!r} to a valid duration")
        return round(seconds * NS)

    def number(self, name: str) -> int:
        """Read a count; 0 when it isn't given, which means without a limit."""
        text = self.get(name)
        if not text:
            return 0
        try:
            found = int(text)
        except ValueError as error:
            raise _invalid(name, f"cannot parse {text!r} to a whole number") from error
        if found < 0:
            raise _invalid(name, "limit must be non-negative")
        return found


async def read(request: web.Request, most: int) -> Params:
    """Take the URL's and a form's parameters together."""
    pairs = [*request.query.items()]
    if request.method == "POST":
        if (request.content_length or 0) > most:
            raise TooLarge(f"the body has {request.content_length} bytes", f"at most {most} are taken")
        try:
            form = await request.post()
        except (ValueError, LookupError) as error:
            raise BadQuery(f"the form can't be read: {error}") from error
        pairs += [(name, value) for name, value in form.items() if isinstance(value, str)]
    if any("\0" in value or _lonely(value) for pair in pairs for value in pair):
        raise BadQuery("a parameter isn't valid UTF-8 text, or holds a NUL character")
    return Params(tuple(pairs))


def of_url(request: web.Request) -> Params:
    """Take the URL's parameters alone."""
    return Params(tuple(request.query.items()))


def unescaped(name: str) -> str:
    """Read a label name that was escaped to be a legal one in older clients: U__a_2e_b is a.b."""
    if not name.startswith("U__"):
        return name
    body, out, at = name[3:], [], 0
    while at < len(body):
        if body[at] != "_":
            out.append(body[at])
            at += 1
            continue
        found = _ESCAPED.match(body, at)
        if found is None or (found[1] and not _rune(int(found[1], 16))):
            return name
        out.append(chr(int(found[1], 16)) if found[1] else "_")
        at = found.end()
    return "".join(out)


def _rune(code: int) -> bool:
    return 0 < code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF  # noqa: PLR2004  Unicode's own bounds


def _lonely(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text) if not text.isascii() else False


def _beyond(name: str, text: str) -> BadQuery:
    return _invalid(
        name,
        f"cannot parse {text!r} to a valid timestamp: it is seconds since the epoch, from {-_LAST_S} to {_LAST_S} (the year 2116), or RFC 3339",
    )


def _invalid(name: str, reason: str) -> BadQuery:
    return BadQuery(f'invalid parameter "{name}": {reason}')


def cut(items: Iterable[str], limit: int, warnings: list[str]) -> list[str]:
    """Sort names, and cut them at a limit, saying so."""
    found = sorted(items)
    if limit and len(found) > limit:
        warnings.append("results truncated due to limit")
        return found[:limit]
    return found
