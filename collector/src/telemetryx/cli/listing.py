"""`telemetryx agents|series|events|alerts|loss|rules list`: one question to the API, one table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from telemetryx.api.times import TimeError, parse_duration
from telemetryx.cli import output
from telemetryx.cli.client import Client, Params
from telemetryx.cli.output import Format

Row = dict[str, Any]
BALANCE = (
    "balance = received + derived - rejected - deduplicated - reduced - shipped: 0 when the books balance"
)


def agents(client: Client, params: Params, how: Format) -> None:
    """List agents."""
    answer = client.get("/agents", params)
    counts = answer["counts"]
    title = f"{counts['live']} live, {counts['catching_up']} catching up, {counts['silent']} silent"

    def shown(row: Row) -> Row:
        return {
            "agent": row["name"],
            "state": row["state"].replace("_", " "),
            "last seen": output.ago(row["last_seen_ns"]),
            "last event": output.ago(row["last_event_ns"]),
            "backlog": output.size(row["backlog_bytes"]),
            "skew ms": _skew(row),
            "readings/s": round(row["rate"], 1),
            "series": row["series"],
            "version": row["version"],
        }

    _print(answer, answer["agents"], how, shown, title)


def _skew(row: Row) -> float | str | None:
    """Write a clock's skew; one that nobody set has none."""
    if row["clock_set"] is False:
        return "not set"
    return None if row["skew_ms"] is None else round(row["skew_ms"], 1)


def series(client: Client, params: Params, how: Format) -> None:
    """List series."""
    answer = client.get("/series", params)
    title = f"{len(answer['series'])} of {answer['total']} series"

    def shown(row: Row) -> Row:
        latest = row["latest"] or {"time_ns": None, "value": None}
        return {
            "id": str(row["id"]),
            "series": row["name"] + output.labels(row["labels"]),
            "agent": row["agent"],
            "value": latest["value"],
            "unit": row["unit"],
            "when": output.ago(latest["time_ns"]),
        }

    _print(answer, answer["series"], how, shown, title)


def events(client: Client, params: Params, how: Format) -> None:
    """List events."""
    answer = client.get("/events", params)

    def shown(row: Row) -> Row:
        return {
            "time": output.moment(row["time_ns"]),
            "severity": row["severity"],
            "source": row["source"],
            "agent": row["agent"],
            "body": row["body"],
            "attributes": row["attributes"],
        }

    _print(answer, answer["events"], how, shown)


def alerts(client: Client, params: Params, how: Format) -> None:
    """List alerts."""
    answer = client.get("/alerts", params)

    def shown(row: Row) -> Row:
        return {
            "state": row["state"],
            "severity": row["severity"],
            "rule": row["rule"],
            "what": row["summary"],
            "value": row["value"],
            "since": output.moment(row["started_ns"]),
            "late": row["late"],
        }

    _print(answer, answer["alerts"], how, shown)


def loss(client: Client, params: Params, how: Format) -> None:
    """Show the loss ledger."""
    answer = client.get("/loss", params)

    def shown(row: Row) -> Row:
        return {
            "agent": row["agent"],
            "cause": row["cause"].replace("_", " "),
            "count": row["count"],
            "from": output.moment(row["first_ns"]),
            "to": output.moment(row["last_ns"]),
        }

    balances = [
        {"agent": agent, "cause": "balance", "count": left, "from": None, "to": None}
        for agent, left in sorted(answer["balance"].items())
    ]
    _print(answer, answer["loss"], how, shown, BALANCE, balances)


def rules(client: Client, how: Format) -> None:
    """List rules."""
    answer = client.get("/rules")

    def shown(row: Row) -> Row:
        return {
            "rule": row["name"],
            "judges": row["expression"],
            "severity": row["severity"],
            "state": row["state"] + (f": {row['error']}" if row["error"] else ""),
            "firing": row["firing"],
            "pending": row["pending"],
            "file": row["file"],
        }

    _print(answer, answer["rules"], how, shown)


def point(text: str | None) -> str | None:
    """Let `--since 15m` mean a span before now, as everywhere else on command lines."""
    if text is None:
        return None
    try:
        parse_duration(text)
    except TimeError:
        return text
    return f"-{text}"


def _print(
    answer: Mapping[str, Any],
    rows: Sequence[Row],
    how: Format,
    shown: Callable[[Row], Row],
    title: str = "",
    below: Sequence[Row] = (),
) -> None:
    if how is Format.JSON:
        output.write_json(answer)
    elif how is Format.NDJSON:
        output.write_ndjson(rows)
    elif how is Format.CSV:
        output.write_csv((list(row.values()) for row in rows), list(rows[0]) if rows else [])
    elif rows:
        table = [*(shown(row) for row in rows), *below]
        output.table(table, list(table[0]), title)
    else:
        output.nothing("nothing to show" + (f" ({title})" if title else ""))
