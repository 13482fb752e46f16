"""`telemetryx report`: availability, completeness and highest scores by site and period, as HTML, CSV, JSON or a table.

It reads the store itself, beside a running collector too, as `telemetryx sql` does, and computes with Polars.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from telemetryx.api.times import NS
from telemetryx.cli import frames, output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.span import matchers, span
from telemetryx.cli.sql import watch
from telemetryx.cli.store import opened, store_place
from telemetryx.cli.targets import STDOUT, needs_folder, needs_no_file, told, whole


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked on the command line."""

    match: str | None
    since: str
    until: str | None
    html: Path | None
    csv: Path | None
    top: int
    force: bool
    timeout: str = "1h"
    memory: int = 2_048
    """MiB."""


def run(config: Path | None, question: Question, *, as_json: bool) -> None:
    """Read, compute, write; exit code 1 when there is no reading."""
    start, end = span(question.since, question.until)
    limits = replace(
        watch.limits(question.timeout, question.memory),
        what="report",
        less="ask for less: a shorter --since, --match",
    )
    wanted = matchers(question.match)
    if as_json and question.html is not None and str(question.html) == STDOUT:
        raise CliError("both --json and --html - write to standard output", "leave one out", Exit.USAGE)
    _refuse_overwriting(question)
    place = store_place(config)
    # Not less: what takes too long is told by whoever watches.
    place = replace(place, engine=place.engine.reading_for(max(output.HOUR_S, limits.time_ns / NS)))
    frames.polars("`telemetryx report`")
    from telemetryx.errors import QueryRefused
    from telemetryx.report import page, tables
    from telemetryx.report.gather import gather
    from telemetryx.report.measure import measure, period_of

    period = period_of(end - start)
    with opened(place) as database:
        try:
            report = watch.within(
                limits,
                lambda: measure(gather(database, start, end, wanted, period), end, period, question.top),
            )
        except QueryRefused as error:
            raise CliError(str(error), "narrow it with --match", Exit.USAGE) from error
    if question.html is not None:
        with whole(question.html, force=question.force) as out:
            out.write(page.write(report).encode())
        if str(question.html) != STDOUT:
            output.nothing(f"the report is in {question.html}")
    if question.csv is not None:
        with told(question.csv):
            written = tables.write(report, question.csv)
        output.nothing(f"{output.count(len(written), 'table')} in {question.csv}")
    if as_json:
        output.write_json(tables.document(report))
    elif report.sites and question.html is None and question.csv is None:
        _show(report)
    for note in report.notes:
        output.nothing(note)
    if not report.sites:
        raise CliError("there are no readings in this time", "give another --since, --until or --match")


def _refuse_overwriting(question: Question) -> None:
    files = [] if question.html is None else [question.html]
    for path in (question.html, question.csv):
        if path is not None and (path is question.csv or str(path) != STDOUT):
            needs_folder(path)
    if question.csv is not None:
        from telemetryx.report.tables import NAMES

        needs_no_file(question.csv)
        files += [question.csv / f"{name}.csv" for name in NAMES]
    there = [str(path) for path in files if path.is_file() and str(path) != STDOUT]
    if there and not question.force:
        raise CliError(
            f"{', '.join(there)} would be overwritten", "name another place, or give --force", Exit.USAGE
        )


def _show(report: Any) -> None:  # noqa: ANN401  its class loads Polars
    from telemetryx.report.charts import name_of, share

    rows = [
        {
            "site": name_of(row.site),
            "devices": row.devices,
            "series": row.series,
            "readings": row.readings,
            "completeness": share(row.completeness),
            "availability": share(row.availability),
            "anomalies": row.anomalies,
        }
        for row in report.sites
    ]
    title = f"{output.moment(report.start_ns)} to {output.moment(report.end_ns)}"
    output.table(rows, list(rows[0]), title)
    if report.anomalies:
        columns = ["site", "device", "agent", "from", "score"]
        output.table(
            [
                {
                    "site": name_of(row.site),
                    "device": row.device,
                    "agent": row.agent,
                    "from": output.moment(row.start_ns),
                    "score": row.peak,
                }
                for row in report.anomalies[:10]
            ],
            columns,
            "highest scores",
        )
