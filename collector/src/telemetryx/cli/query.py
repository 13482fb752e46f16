"""`telemetryx query`: samples over time, as a line with a small chart a series, or every point for programs; percentiles by groups of series."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from telemetryx.api.times import format_duration, format_time
from telemetryx.cli import output
from telemetryx.cli.client import Client
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.output import Format
from telemetryx.cli.span import point

QUANTILE = "quantile"
AGGS = ("avg", "min", "max", "sum", "count", "last", "raw")
"""What else a point can be; a test compares it with `types.Aggregate`, whose module loads NumPy."""
WHOLE = "whole"
"""The step that is all of the time."""
OF_GROUPS = ("time", "time_ns", "labels", "value", "level")
COLUMNS = ("time", "time_ns", "agent", "name", "labels", "value", "min", "max", "unit", "level")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked on the command line."""

    selector: str
    since: str
    until: str | None
    step: str
    agg: str
    points: int
    q: float | None = None
    by: tuple[str, ...] = ()


def run(client: Client, question: Question, how: Format) -> None:
    """Ask and print; exit code 1 when no series matches."""
    if question.agg == QUANTILE:
        _percentiles(client, question, how)
        return
    if question.agg not in AGGS:
        raise CliError(
            f"--agg {question.agg} isn't known", f"it is {', '.join(AGGS)} or {QUANTILE}", Exit.USAGE
        )
    if question.q is not None or question.by:
        raise CliError(
            f"--agg {question.agg} has no --q and no --by", "they are of --agg quantile", Exit.USAGE
        )
    if question.step == WHOLE:
        raise CliError(
            f"--agg {question.agg} has no --step {WHOLE}",
            "that is of --agg quantile; GET /api/v1/aggregate without `step` gives others of the whole time",
            Exit.USAGE,
        )
    answer = _asked(client, "/query_range", question, {"step": question.step, "agg": question.agg})
    step = format_duration(answer["step_ns"]) if answer["step_ns"] else "raw"
    read = "" if answer["level"] == "raw" else f", read from rollups of {answer['level']}"
    _print(answer, answer["series"], how, (_series, _points, COLUMNS), f"{question.agg} of {step}{read}")
    if not answer["series"]:
        raise _none(question)


def _percentiles(client: Client, question: Question, how: Format) -> None:
    """Ask for a percentile of all series that match, or of each group of them."""
    q = 0.99 if question.q is None else question.q
    if not 0 <= q <= 1:
        raise CliError(f"--q {q} is no quantile", "it is a number from 0 to 1, such as 0.99", Exit.USAGE)
    step = None if question.step == WHOLE else question.step
    more = {"step": step, "agg": QUANTILE, "q": question.q, "by": list(question.by)}
    answer = _asked(client, "/aggregate", question, more)
    read = ", ".join(dict.fromkeys(one["level"] for one in answer["levels"]))
    of = format_duration(answer["step_ns"]) if answer["step_ns"] else "the whole time"
    title = f"{QUANTILE} {q:g} of {of}, {answer['method']}, read from {read}"
    _print(answer, answer["groups"], how, (_group, _cells, OF_GROUPS), title)
    if not answer["groups"]:
        raise _none(question)


def _asked(client: Client, path: str, question: Question, more: Mapping[str, Any]) -> Row:
    return client.get(
        path,
        {
            "match": question.selector,
            "start": point(question.since, "--since"),
            "end": point(question.until, "--until"),
            "max_points": question.points,
            **more,
        },
    )


def _none(question: Question) -> CliError:
    return CliError(
        f"no series matches {question.selector}", "`telemetryx series` lists what there is", Exit.NO
    )


def _print(
    answer: Row,
    lines: Sequence[Row],
    how: Format,
    shapes: tuple[Callable[[Row], Row], Callable[[Row], Iterator[Row]], Sequence[str]],
    title: str,
) -> None:
    """Print an answer: `shapes` make a row of a line for the table, all rows for programs, and name their columns."""
    row, rows, columns = shapes
    if how is Format.JSON:
        output.write_json(answer)
        return
    if how is Format.NDJSON:
        output.write_ndjson(rows(answer))
    elif how is Format.CSV:
        output.write_csv(([one[name] for name in columns] for one in rows(answer)), columns)
    elif lines:
        begin, end = output.moment(answer["start_ns"]), output.moment(answer["end_ns"])
        table = [row(line) for line in lines]
        output.table(table, list(table[0]), f"{begin} to {end}, {title}")
    # Where nothing matches, that is what the command ends with.
    for warning in answer["warnings"] if lines else ():
        output.nothing(warning)


def _group(group: Row) -> Row:
    name = ", ".join(f"{name}={value}" for name, value in group["labels"].items()) or "all"
    values = _filled(group, "values")
    return {"group": name, "series": group["series"], **_over_time(values, values, values)}


def _series(line: Row) -> Row:
    values = _filled(line, "values")
    lows, highs = (_filled(line, name) or values for name in ("min", "max"))
    found = _over_time(values, lows, highs)
    return {
        "series": output.series(line["name"], line["labels"]),
        "agent": line["agent"],
        "last": found.pop("last"),
        "unit": line["unit"],
        **found,
    }


def _over_time(
    values: Sequence[float | None], lows: Sequence[float | None], highs: Sequence[float | None]
) -> Row:
    """Tell of columns, in which a gap is None: the newest value, the extremes, how many there are, and their shape."""
    there = [value for value in values if value is not None]
    return {
        "last": there[-1] if there else None,
        "min": min(_numbers(lows), default=None),
        "max": max(_numbers(highs), default=None),
        "points": len(there),
        "over time": output.sparkline(
            [one if one is not None and math.isfinite(one) else None for one in values]
        ),
    }


def _numbers(column: Sequence[float | None]) -> list[float]:
    """Leave out gaps and what is no number; infinities are extremes."""
    return [one for one in column if one is not None and not math.isnan(one)]


def _cells(answer: Row) -> Iterator[Row]:
    """Yield every step of every group; a gap has no row."""
    width = answer["step_ns"] or answer["end_ns"] - answer["start_ns"]
    for group in answer["groups"]:
        for time_ns, value in zip(group["times_ns"], _filled(group, "values"), strict=True):
            if value is not None:
                yield {
                    "time": format_time(time_ns),
                    "time_ns": time_ns,
                    "labels": group["labels"],
                    "value": value,
                    "level": _level(answer["levels"], time_ns, time_ns + width),
                }


def _level(levels: Sequence[Row], start_ns: int, end_ns: int) -> str:
    """Name the coarsest level that a step was read from."""
    read = {one["level"] for one in levels if one["start_ns"] < end_ns and one["end_ns"] > start_ns}
    return next((level for level in ("1h", "1m") if level in read), "raw")


def _points(answer: Row) -> Iterator[Row]:
    """Yield every point; a gap has no row."""
    for line in answer["series"]:
        values, lows, highs = (_filled(line, name) for name in ("values", "min", "max"))
        blank: list[float | None] = [None] * len(values)
        for time_ns, value, low, high in zip(
            line["times_ns"], values, lows or blank, highs or blank, strict=True
        ):
            if value is not None:
                yield {
                    "time": format_time(time_ns),
                    "time_ns": time_ns,
                    "agent": line["agent"],
                    "name": line["name"],
                    "labels": line["labels"],
                    "value": value,
                    "min": low,
                    "max": high,
                    "unit": line["unit"],
                    "level": answer["level"],
                }


def _filled(answered: Mapping[str, Any], name: str) -> list[float | None]:
    """Return a column of an answer with its numbers that JSON has none for; a gap is None."""
    column: list[float | None] = list(answered[name])
    for at, said in answered.get("special", {}).get(name, {}).items():
        column[int(at)] = float(said)
    return column
