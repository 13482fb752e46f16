"""`telemetryx sql`: the store's data as tables for SQL (Polars), on one snapshot.

samples (series, time, value, flags, agent, name, site, device, labels, unit) · windows (series, start, length, count, sum, min, max,
first, last, agent, …) · rollups (series, step, start, length, count, …) · events (time, agent, source, severity, body,
attributes) · series (series, agent, name, site, device, labels, unit). What a statement doesn't ask for isn't read (tables.py);
what is no query is refused (statement.py), and what takes too much is ended with a sentence (watch.py).
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from telemetryx.api.times import NS
from telemetryx.cli import frames, output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.output import Format
from telemetryx.cli.store import opened, store_place
from telemetryx.cli.text import printable

if TYPE_CHECKING:
    from telemetryx.cli.sql.tables import Tables
    from telemetryx.cli.sql.watch import Limits
    from telemetryx.export.wanted import Wanted

#: Rows that a table on a terminal shows; CSV, JSON and NDJSON give all.
MAX_SHOWN: Final = 1_000
_END_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked on the command line."""

    statement: str
    match: str | None = None
    since: str = "1h"
    until: str | None = None
    timeout: str = "1m"
    memory: int = 2_048
    """MiB."""
    rows: int = 1_000_000


def run(config: Path | None, question: Question, how: Format) -> None:
    """Check, ask, print."""
    from telemetryx.cli.sql import statement, watch

    statement.check(question.statement)
    wanted, limits = _wanted(question), watch.limits(question.timeout, question.memory, question.rows)
    place = store_place(config)
    # Not less: what takes too long is told by whoever watches.
    place = replace(place, engine=place.engine.reading_for(max(output.HOUR_S, limits.time_ns / NS)))
    frames.polars("`telemetryx sql`")
    from telemetryx.cli.sql.tables import Tables

    with opened(place) as database:
        tables = Tables(database, wanted)
        try:
            answer = watch.within(limits, lambda: _asked(tables, question.statement, limits))
        except watch.OverLimitError:
            tables.end(_END_S)
            raise
    if answer.height > limits.rows:
        raise CliError(
            f"the answer has more than {limits.rows:,} rows",
            "aggregate, add a LIMIT or allow more with --rows; `telemetryx export` writes any number of them",
            Exit.USAGE,
        )
    _print(answer, how)
    if tables.deleted_before is not None:
        from telemetryx.api.times import deleted

        output.nothing(deleted(tables.deleted_before))


def _wanted(question: Question) -> "Wanted":
    from telemetryx.cli.span import matchers, span
    from telemetryx.export.wanted import Wanted

    start, end = span(question.since, question.until)
    return Wanted("samples", start, end, matchers(question.match))


def _asked(tables: "Tables", text: str, limits: "Limits") -> Any:  # noqa: ANN401  Polars is untyped here
    """Ask; whatever is wrong with the statement is a sentence, and what is wrong with the store stays that."""
    import polars as pl

    from telemetryx.errors import QueryRefused

    context = pl.SQLContext(tables.frames(), eager=False)
    try:
        return context.execute(text).lazy().head(limits.rows + 1).collect(engine="streaming")
    except Exception as error:
        if isinstance(tables.failure, QueryRefused):
            raise CliError(
                str(tables.failure), "narrow it with --since, --until or --match", Exit.USAGE
            ) from error
        if tables.failure is not None:
            raise tables.failure from error
        if not isinstance(error, pl.exceptions.PolarsError | TypeError | ValueError):
            raise
        raise CliError(f"the statement can't be run: {_first(error)}", _hint(error), Exit.USAGE) from error


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return printable(lines[0]) if lines else type(error).__name__


def _hint(error: BaseException) -> str:
    from telemetryx.cli.sql.tables import SCHEMAS

    if "Datetime" in str(error):
        return "compare times with texts in UTC: time > '2026-03-01T10:00:00Z'; --since 2h counts from now"
    return "; ".join(f"{name} has {', '.join(columns)}" for name, columns in sorted(SCHEMAS.items()))


def _print(answer: Any, how: Format) -> None:  # noqa: ANN401
    from telemetryx.cli.sql.written import written, written_csv

    if how is Format.CSV:
        output.write_csv(written_csv(answer).iter_rows(), answer.columns)
    elif how is Format.NDJSON:
        output.write_ndjson(written(answer).iter_rows(named=True))
    elif how is Format.JSON:
        output.write_json(written(answer).to_dicts())
    elif answer.height:
        output.table(answer.head(MAX_SHOWN).to_dicts(), answer.columns)
        if answer.height > MAX_SHOWN:
            sys.stderr.write(f"telemetryx: {answer.height - MAX_SHOWN:,} more rows; --format csv gives all\n")
    else:
        output.nothing("no rows")
