"""`telemetryx export`: samples, windows, rollups or events of the store as a file, or to stdout; how far it is goes to stderr.

It reads the store itself, beside a running collector too, as `telemetryx sql` does; or asks a collector elsewhere over HTTP, which
reads and encodes there. A file gets its name once it is whole.
"""

import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, Literal

from telemetryx.api.times import NS, deleted, format_duration
from telemetryx.cli import frames, output, targets
from telemetryx.cli.client import Client
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.span import matchers, point, span
from telemetryx.cli.sql import watch
from telemetryx.cli.store import opened, store_place
from telemetryx.export.wanted import ENDINGS, FORMS, KINDS, NEED_POLARS, Form, Wanted

_TELL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked on the command line."""

    kind: str
    to: str
    form: str | None
    match: str | None
    agent: str | None
    since: str
    until: str | None
    level: str | None
    force: bool
    timeout: str = "1h"


def run(config: Path | None, question: Question, client: Client | None = None) -> None:
    """Read and write: the store of this machine, or what a collector elsewhere answers."""
    wanted, form = _wanted(question), _form(question)
    until = _Until(watch.length_ns(question.timeout))
    if client is not None:
        _from_afar(client, question, form, until)
        return
    from telemetryx.errors import QueryRefused
    from telemetryx.export.run import export
    from telemetryx.store.tables import rollup

    if form in NEED_POLARS:
        frames.polars(str(form), f"{frames.REMEDY}, or choose csv or ndjson")
    place = store_place(config)
    # What hears nothing between two rows, a long statement, the store ends by itself.
    place = replace(place, engine=place.engine.reading_for(until.length_ns / NS))
    with _target(question) as out, opened(place) as database:
        progress = _Progress(until)
        try:
            rows = export(database, wanted, form, out, progress)
        except QueryRefused as error:
            raise CliError(str(error), "narrow it with --since, --until or --match", Exit.USAGE) from error
        finally:
            progress.end()
        horizon = rollup.raw_horizon(database)
    output.nothing(f"{rows:,} {wanted.kind} written{_where(question)}")
    if wanted.misses(horizon):
        output.nothing(deleted(horizon))


def _from_afar(client: Client, question: Question, form: Form, until: "_Until") -> None:
    """Have a collector read and encode. Its clock tells what `now` is; its refusals are sentences already."""
    asked = {
        "format": form,
        "match": question.match,
        "agent": question.agent,
        "start": point(question.since, "--since"),
        "end": point(question.until, "--until"),
        "level": question.level,
    }
    size, warnings = 0, list[str]()
    with _target(question) as out:
        progress = _Progress(until)
        try:
            for piece in client.pieces(f"/export/{question.kind}", asked, warnings.append):
                out.write(piece)
                size += len(piece)
                progress.say(output.size(size))
        finally:
            progress.end()
    output.nothing(f"{output.size(size)} of {question.kind} written{_where(question)}")
    for warning in warnings:
        output.nothing(warning)


def _where(question: Question) -> str:
    return "" if question.to == targets.STDOUT else f" to {question.to}"


def _wanted(question: Question) -> Wanted:
    kind = next((one for one in KINDS if one == question.kind), None)
    if kind is None:
        raise CliError(f"there is no kind {question.kind!r}", f"one of {', '.join(KINDS)}", Exit.USAGE)
    if question.level not in {None, "1m", "1h"}:
        raise CliError(f"there is no level {question.level!r}", "1m or 1h", Exit.USAGE)
    if question.level is not None and kind != "rollups":
        raise CliError(f"{kind} have no --level", "rollups have: leave it out, or export rollups", Exit.USAGE)
    if kind == "events" and question.match:
        raise CliError("events have no --match", "--agent filters them", Exit.USAGE)
    start, end = span(question.since, question.until)
    level: Literal["1m", "1h"] = "1h" if question.level == "1h" else "1m"
    return Wanted(kind, start, end, matchers(question.match), question.agent, level=level)


def _form(question: Question) -> Form:
    """Take the format that is named, or the one of the file's ending; CSV where it has none."""
    suffix = "" if question.to == targets.STDOUT else Path(question.to).suffix
    ending = suffix.removeprefix(".").lower()
    by_ending = next((form for form, one in ENDINGS.items() if ending in {one, form}), None)
    if question.form is None:
        if suffix and by_ending is None:
            known = ", ".join(f".{one}" for one in ENDINGS.values())
            raise CliError(
                f"no format is known by the ending {suffix}",
                f"end the file's name in one of {known}, or say what to write with --format",
                Exit.USAGE,
            )
        return by_ending or "csv"
    found = next((one for one in FORMS if one == question.form), None)
    if found is None:
        raise CliError(f"there is no format {question.form!r}", f"one of {', '.join(FORMS)}", Exit.USAGE)
    if by_ending not in {None, found}:
        raise CliError(
            f"--format says {found}, and the ending {suffix} says {by_ending}",
            "leave one of them out",
            Exit.USAGE,
        )
    return found


def _target(question: Question) -> AbstractContextManager[BinaryIO]:
    """Give stdout, or a file beside the target that gets its name at the end."""
    return targets.whole(Path(question.to), force=question.force)


class _Until:
    """When its time is over."""

    def __init__(self, length_ns: int) -> None:
        self.length_ns = length_ns
        self._end = time.monotonic() + length_ns / NS

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise CliError(
                f"the export takes longer than {format_duration(self.length_ns)}",
                "ask for less: a shorter --since, --match; or give it longer with --timeout",
                Exit.USAGE,
            )


class _Progress:
    """A line on a terminal that says how far it is, nothing elsewhere; and the place where a long export ends."""

    def __init__(self, until: _Until) -> None:
        self._until = until
        self._told = time.monotonic()
        self._lines = False

    def __call__(self, rows: int, done: int, total: int) -> None:
        self.say(f"{rows:,} rows{f', {done:,} of {total:,} series' if total else ''}")

    def say(self, how_far: str) -> None:
        self._until.check()
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._told > _TELL_S:
            self._told, self._lines = now, True
            sys.stderr.write(f"\r\x1b[K{how_far}")
            sys.stderr.flush()

    def end(self) -> None:
        if self._lines:
            sys.stderr.write("\n")
