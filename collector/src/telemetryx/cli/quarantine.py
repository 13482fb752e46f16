"""`telemetryx quarantine ls|show|release|drop`: batches that are kept apart because their times are far ahead."""

from collections.abc import Mapping
from typing import Any

from telemetryx.api.times import LAST_NS, TimeError, format_duration, parse_duration
from telemetryx.cli import listing, output
from telemetryx.cli.client import Client
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.output import Format
from telemetryx.cli.text import printable

Row = dict[str, Any]


def ls(client: Client, params: Mapping[str, Any], how: Format) -> None:
    """List them, newest first."""
    answer = listing.paged(client, "/quarantine", "quarantine", params)
    rows = answer["quarantine"]
    title = f"{len(rows)} of {output.count(answer['total'], 'batch', 'batches')} kept apart: their times are far ahead"
    output.listed(answer, rows, how, _shown, title=title, none="no batch is kept apart", most=listing.MANY)


def show(client: Client, number: int, *, as_json: bool) -> None:
    """Show one with its series and events."""
    answer = client.get(f"/quarantine/{number}")
    if as_json:
        output.write_json(answer)
        return
    for name, value in _shown(answer).items():
        print(f"{name:<12}{printable(output.cell(value))}")
    series = [
        {
            "series": output.series(row["name"], row["labels"]),
            "samples": row["samples"],
            "windows": row["windows"],
            "from": output.moment(row["first_ns"]),
            "to": output.moment(row["last_ns"]),
            "last": row["last"],
            "unit": row["unit"],
        }
        for row in answer["series"]
    ]
    events = [
        {"time": output.moment(row["time_ns"]), "source": row["source"], "event": row["body"]}
        for row in answer["events"]
    ]
    for rows in (series, events):
        if rows:
            output.table(rows, list(rows[0]))


def release(client: Client, number: int, shift: str | None, *, to_arrival: bool, as_json: bool) -> None:
    """Store one, its times moved by a span, or so that the latest of them is when it came."""
    if shift is not None and to_arrival:
        raise CliError("--shift and --to-arrival are two answers to one question", "give one", Exit.USAGE)
    by = 0 if shift is None else _span(shift)
    if to_arrival:
        row = client.get(f"/quarantine/{number}")
        by = row["received_ns"] - row["last_ns"]
    answer = client.send("POST", f"/quarantine/{number}/release", {"shift_ns": by})
    if as_json:
        output.write_json(answer)
        return
    span = f"{output.moment(answer['first_ns'])} to {output.moment(answer['last_ns'])}"
    stored, expired = answer["stored"], answer["expired"]
    gone = f"{output.count(expired, 'reading')} past every retention, counted as expired"
    if not expired:
        print(f"batch {number} is stored: {span}")
    elif stored:
        print(f"batch {number} is stored but for {gone}: {span}")
    else:
        print(f"nothing of batch {number} is stored: {gone}: {span}")


def drop(client: Client, number: int, *, as_json: bool) -> None:
    """Delete one for good."""
    answer = client.send("DELETE", f"/quarantine/{number}")
    output.said(answer, f"batch {number} is gone; its readings stay counted as refused", as_json=as_json)


def _shown(row: Row) -> Row:
    return {
        "id": str(row["id"]),
        "agent": row["agent"],
        "seq": str(row["seq"]),
        "came": output.moment(row["received_ns"]),
        "from": output.moment(row["first_ns"]),
        "to": output.moment(row["last_ns"]),
        "ahead": format_duration(max(0, (row["last_ns"] - row["received_ns"]) // 10**9 * 10**9)),
        "rows": row["rows"],
        "size": output.size(row["bytes"]),
    }


def _span(text: str) -> int:
    """Read a span with a sign: -2d12h."""
    sign, bare = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    try:
        return sign * parse_duration(bare, LAST_NS)
    except TimeError as error:
        raise CliError(f"--shift {text!r}: {error}", "e.g. --shift=-2d12h", Exit.USAGE) from error
