"""`telemetryx query`: samples over time, as a line with a small chart a series, or every point for programs; percentiles by groups of series."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from telemetryx.api.times import format_duration, format_time
from telemetryx.cli import output
from telemetryx.cli.client import Client
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.output import Format
from telemetryx.cli.span import point

QUANTILE = "quantile"
OF_GROUPS = ("time", "time_ns", "labels", "value")
COLUMNS = ("time", "time_ns", "agent", "name", "labels", "value", "min", "max", "unit")


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
    if question.q is not None or question.by:
        raise CliError(
            f"--agg {question.agg} has no --q and no --by", "they are of --agg quantile", Exit.USAGE
        )
    answer = client.get(
        "/query_range",
        {
            "match": question.selector,
            "start": point(question.since, "--since"),
            "end": point(question.until, "--until"),
            "step": question.step,
            "agg": question.agg,
            "max_points": question.points,
        },
    )
    if how is Format.JSON:
        output.write_json(answer)
    elif how is Format.NDJSON:
        output.write_ndjson(_points(answer))
    elif how is Format.CSV:
        output.write_csv(([row[name] for name in COLUMNS] for row in _points(answer)), COLUMNS)
    elif answer["series"]:
        step = format_duration(answer["step_ns"]) if answer["step_ns"] else "raw"
        begin, end = output.moment(answer["start_ns"]), output.moment(answer["end_ns"])
        rows = [_summary(line) for line in answer["series"]]
        read = "" if answer["level"] == "raw" else f", read from rollups of {answer['level']}"
        output.table(rows, list(rows[0]), f"{begin} to {end}, {question.agg} of {step}{read}")
    for warning in answer["warnings"] if how is not Format.JSON else ():
        output.nothing(warning)
    if not answer["series"]:
        raise _none(question)


def _none(question: Question) -> CliError:
    return CliError(
        f"no series matches {question.selector}", "`telemetryx series` lists what there is", Exit.NO
    )


def _percentiles(client: Client, question: Question, how: Format) -> None:
    """Ask for a percentile of all series that match, or of each group of them."""
    answer = client.get(
        "/aggregate",
        {
            "match": question.selector,
            "start": point(question.since, "--since"),
            "end": point(question.until, "--until"),
            "step": question.step,
            "agg": QUANTILE,
            "q": question.q,
            "by": list(question.by),
        },
    )
    if how is Format.JSON:
        output.write_json(answer)
    elif how is Format.NDJSON:
        output.write_ndjson(_cells(answer))
    elif how is Format.CSV:
        output.write_csv(([row[name] for name in OF_GROUPS] for row in _cells(answer)), OF_GROUPS)
    elif answer["groups"]:
        begin, end = output.moment(answer["start_ns"]), output.moment(answer["end_ns"])
        rows = [_group(group) for group in answer["groups"]]
        read = ", ".join(dict.fromkeys(one["level"] for one in answer["levels"]))
        of = f"{QUANTILE} {0.99 if question.q is None else question.q:g} of {format_duration(answer['step_ns'])}"
        output.table(rows, list(rows[0]), f"{begin} to {end}, {of}, {answer['method']}, read from {read}")
    for warning in answer["warnings"] if how is not Format.JSON else ():
        output.nothing(warning)
    if not answer["groups"]:
        raise _none(question)


def _group(group: dict[str, Any]) -> dict[str, Any]:
    values = [value for value in group["values"] if value is not None]
    return {
        "group": ", ".join(f"{name}={value}" for name, value in group["labels"].items()) or "all",
        "series": group["series"],
        "last": values[-1] if values else None,
        "min": min(values, default=None),
        "max": max(values, default=None),
        "points": len(values),
        "over time": output.sparkline(group["values"]),
    }


def _cells(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every step of every group; a gap has no row."""
    for group in answer["groups"]:
        for time_ns, value in zip(group["times_ns"], group["values"], strict=True):
            if value is not None:
                yield {
                    "time": format_time(time_ns),
                    "time_ns": time_ns,
                    "labels": group["labels"],
                    "value": value,
                }


def _summary(line: dict[str, Any]) -> dict[str, Any]:
    values = [value for value in line["values"] if value is not None and math.isfinite(value)]
    lows = [value for value in (line["min"] or line["values"]) if value is not None]
    highs = [value for value in (line["max"] or line["values"]) if value is not None]
    return {
        "series": output.series(line["name"], line["labels"]),
        "agent": line["agent"],
        "last": values[-1] if values else None,
        "unit": line["unit"],
        "min": min(lows, default=None),
        "max": max(highs, default=None),
        "points": len(values),
        "over time": output.sparkline(line["values"]),
    }


def _points(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every point; a gap has no row."""
    for line in answer["series"]:
        blank = [None] * len(line["times_ns"])
        for time_ns, value, low, high in zip(
            line["times_ns"], line["values"], line["min"] or blank, line["max"] or blank, strict=True
        ):
            # NOTE: NaN and infinities are null in JSON; they are readings, and only a step without any is a gap.
            if not line["min"] or value is not None or low is not None or high is not None:
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
                }
