"""`telemetryx sql`: raw samples as tables for SQL (Polars), read from the store on one snapshot.

samples (time, agent, name, site, device, labels, unit, value, flags, series) · windows (…, start, length, count, sum, min,
max, first, last) · series (series, agent, name, site, device, labels, unit). Only the time range is loaded, and at most
MAX_ROWS samples: the command says how to narrow it rather than use all memory.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.listing import point
from telemetryx.cli.output import Format
from telemetryx.cli.store import Place, opened, store_place
from telemetryx.cli.text import printable

MAX_ROWS: Final = 50_000_000
MAX_SERIES: Final = 100_000
#: Rows that a table on a terminal shows; CSV, JSON and NDJSON give all.
MAX_SHOWN: Final = 1_000


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked on the command line."""

    statement: str
    match: str | None
    since: str
    until: str | None


def run(config: Path | None, question: Question, how: Format) -> None:
    """Load, ask, print."""
    try:
        import polars as pl
    except ImportError as error:
        raise CliError(
            "`telemetryx sql` needs Polars, which isn't installed",
            "pip install 'telemetryx[sql]'",
            Exit.USAGE,
        ) from error
    tables = _load(store_place(config), question)
    try:
        answer = pl.SQLContext(tables, eager=True).execute(question.statement)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CliError(
            f"the statement can't be run: {printable(first)}", _hint(tables), Exit.USAGE
        ) from error
    _print(answer, how)


def _load(place: Place, question: Question) -> dict[str, Any]:
    """Read the range's samples and windows into frames."""
    import time

    from telemetryx.api.times import TimeError, parse_time
    from telemetryx.errors import QueryRefused, SelectorError
    from telemetryx.store.selector import parse
    from telemetryx.store.tables import catalog, reading
    from telemetryx.store.tables.numbers import Numbers

    now = time.time_ns()
    try:
        start = parse_time(point(question.since) or "now", now)
        end = parse_time(point(question.until) or "now", now)
        matchers = parse(question.match) if question.match else []
    except (TimeError, SelectorError) as error:
        raise CliError(str(error), code=Exit.USAGE) from error
    with opened(place) as connection:
        rows = catalog.series(connection, matchers, None, MAX_SERIES + 1, 0)
        if len(rows) > MAX_SERIES:
            raise CliError(f"more than {MAX_SERIES:,} series", "narrow them with --match", Exit.USAGE)
        ids = [row.id for row in rows]
        try:
            samples = reading.samples(connection, Numbers(), ids, start, end, MAX_ROWS)
        except QueryRefused as error:
            raise CliError(str(error), "narrow it with --since, --until or --match", Exit.USAGE) from error
        windows = reading.windows(connection, ids, start, end)
    return _frames(rows, samples, windows)


def _frames(rows: Any, samples: Any, windows: Any) -> dict[str, Any]:  # noqa: ANN401  Polars is untyped here
    """Make the tables. Names and labels are joined by number, as categories would be: each text exists once."""
    import numpy as np
    import polars as pl

    series = pl.DataFrame(
        {
            "series": [row.id for row in rows],
            "agent": [row.agent for row in rows],
            "name": [row.name for row in rows],
            "site": [row.labels.get("site") for row in rows],
            "device": [row.labels.get("device") for row in rows],
            "labels": [json.dumps(dict(row.labels), ensure_ascii=False, sort_keys=True) for row in rows],
            "unit": [row.unit for row in rows],
        },
        schema={
            "series": pl.Int64,
            **dict.fromkeys(("agent", "name", "site", "device", "labels", "unit"), pl.String),
        },
    )
    sampled = pl.DataFrame(
        {
            "series": np.repeat(samples.series, np.diff(samples.offsets)),
            "time": samples.times,
            "value": samples.values,
            "flags": np.zeros(len(samples), np.uint8) if samples.flags is None else samples.flags,
        }
    )
    windowed = pl.DataFrame(
        {
            "series": windows.series,
            "start": windows.start,
            "length": windows.length,
            **{name: getattr(windows, name) for name in ("count", "sum", "min", "max", "first", "last")},
        }
    )
    return {
        "series": series,
        "samples": sampled.with_columns(pl.col("time").cast(pl.Datetime("ns", "UTC"))).join(
            series, on="series", how="left", maintain_order="left"
        ),
        "windows": windowed.with_columns(
            pl.col("start").cast(pl.Datetime("ns", "UTC")), pl.col("length").cast(pl.Duration("ns"))
        ).join(series, on="series", how="left", maintain_order="left"),
    }


def _hint(tables: dict[str, Any]) -> str:
    return "; ".join(f"{name} has {', '.join(table.columns)}" for name, table in sorted(tables.items()))


def _print(answer: Any, how: Format) -> None:  # noqa: ANN401
    if how is Format.CSV:
        output.write_csv(answer.iter_rows(), answer.columns)
        return
    rows = answer.to_dicts() if how is not Format.TABLE else answer.head(MAX_SHOWN).to_dicts()
    if how is Format.JSON:
        output.write_json(rows)
    elif how is Format.NDJSON:
        output.write_ndjson(rows)
    elif rows:
        output.table(rows, answer.columns)
        if answer.height > MAX_SHOWN:
            sys.stderr.write(f"telemetryx: {answer.height - MAX_SHOWN:,} more rows; --format csv gives all\n")
    else:
        output.nothing("no rows")
