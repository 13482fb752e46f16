"""--since, --until and --match, read alike by every command that reads the store itself."""

import re
import time
from typing import TYPE_CHECKING

from telemetryx.api.times import TimeError, parse_duration, parse_time
from telemetryx.cli.errors import CliError, Exit

if TYPE_CHECKING:
    from telemetryx.types import Matcher

#: What is meant as a duration: digits first, a unit last.
_SPAN = re.compile(r"\d[\w.]*[a-y]", re.ASCII)
_SIGNED = re.compile(r"[-+]\d[\w.]*[a-y]", re.ASCII)


def point(text: str | None, option: str) -> str | None:
    """Let `--since 15m` mean a span before now, as everywhere on command lines; refuse what is no time, and a span with a sign."""
    if text is None:
        return None
    stripped = text.strip()
    if _SIGNED.fullmatch(stripped):
        raise CliError(
            f"{option} {text}: a span counts back from now and has no sign",
            f"write {option} {stripped[1:]}, or a time",
            Exit.USAGE,
        )
    try:
        if _SPAN.fullmatch(stripped):
            parse_duration(stripped)
            return f"-{stripped}"
        parse_time(stripped, time.time_ns())
    except TimeError as error:
        raise CliError(f"{option}: {str(error).replace(' -15m', ' 15m')}", code=Exit.USAGE) from error
    return stripped


def span(since: str, until: str | None) -> tuple[int, int]:
    """Return [since, until) in nanoseconds by this machine's clock."""
    now = time.time_ns()
    start = parse_time(point(since, "--since") or "now", now)
    end = parse_time(point(until, "--until") or "now", now)
    if start >= end:
        raise CliError("--since is not before --until", "give a --since that lies before", Exit.USAGE)
    return start, end


def matchers(match: str | None) -> "tuple[Matcher, ...]":
    """Read a selector of series."""
    from telemetryx.errors import SelectorError
    from telemetryx.store.selector import parse

    try:
        return tuple(parse(match)) if match else ()
    except SelectorError as error:
        raise CliError(f"--match: {error}", 'e.g. temperature{site="plant1"}', Exit.USAGE) from error
