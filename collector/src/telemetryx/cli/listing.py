"""`telemetryx agents|series|events|alerts|loss|rules list`: one question to the API, one table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from telemetryx.cli import output
from telemetryx.cli.client import Client, Params
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.output import Format
from telemetryx.cli.text import printable

Row = dict[str, Any]
#: Rows that the API gives at once, and those that a list which is read page by page may have.
PAGE: Final = 1_000
MANY: Final = 100_000
BALANCE = (
    "balance = received + derived - rejected - deduplicated - reduced - shipped: 0 when the books balance"
)


def agents(client: Client, params: Mapping[str, Any], how: Format) -> None:
    """List agents."""
    answer = paged(client, "/agents", "agents", params)
    rows = answer["agents"]
    counts = answer["counts"]
    title = f"{counts['live']} live, {counts['catching_up']} catching up, {counts['silent']} silent"
    # A collector of before counts none.
    if counts.get("revoked"):
        title += f", {counts['revoked']} revoked"

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

    _print(answer, rows, how, shown, title, most=MANY)


def paged(client: Client, path: str, key: str, params: Mapping[str, Any]) -> Row:
    """Read a list page by page, each behind the last row of the one before; return one answer with all rows, up to `limit`."""
    wanted = int(params["limit"])
    answer = client.get(path, {**params, "limit": min(wanted, PAGE)})
    rows, place = list(answer[key]), answer.get("next")
    while place is not None and len(rows) < wanted:
        page = client.get(path, {**params, "limit": min(wanted - len(rows), PAGE), "after": place})
        rows += page[key]
        place = page["next"]
    return {**answer, key: rows, "next": place}


def _skew(row: Row) -> float | str | None:
    """Write a clock's skew; one that nobody set has none."""
    if row["clock_set"] is False:
        return "not set"
    return None if row["skew_ms"] is None else round(row["skew_ms"], 1)


def series(client: Client, params: Mapping[str, Any], how: Format) -> None:
    """List series."""
    answer = paged(client, "/series", "series", params)
    title = f"{len(answer['series'])} of {answer['total']} series"

    def shown(row: Row) -> Row:
        latest = row["latest"] or {"time_ns": None, "value": None}
        return {
            "id": str(row["id"]),
            "series": output.series(row["name"], row["labels"]),
            "agent": row["agent"],
            "value": latest.get("special") or latest["value"],
            "unit": row["unit"],
            "when": output.ago(latest["time_ns"]),
        }

    _print(answer, answer["series"], how, shown, title, most=MANY)


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
        said = row["acknowledged"]
        return {
            "id": str(row["id"]),
            "state": row["state"] + (" (silenced)" if row["silenced_by"] else ""),
            "severity": row["severity"],
            "rule": row["rule"],
            "what": row["summary"],
            "value": row["value"],
            "since": output.moment(row["started_ns"]),
            "late": row["late"],
            "taken on by": "" if said is None else said["author"],
            "trace": row["trace_id"] or "",
        }

    _print(answer, answer["alerts"], how, shown)


def acknowledge(client: Client, number: int, said: tuple[str | None, str] | None, *, as_json: bool) -> None:
    """Take an alert on, or take that back."""
    path = f"/alerts/{number}/acknowledge"
    if said is None:
        answer = client.send("DELETE", path)
    else:
        author, comment = said
        if not author:
            raise CliError("it isn't said who takes it on", "give --author NAME", Exit.USAGE)
        answer = client.send("POST", path, {"author": author, "comment": comment})
    if as_json:
        output.write_json(answer)
        return
    now, before = (
        "" if answer[key] is None else printable(answer[key]["author"]) for key in ("acknowledged", "before")
    )
    told = f"alert {number} is taken on by {now}" if now else f"nobody has taken alert {number} on any more"
    print(told + (f"; it was acknowledged by {before} before" if before not in {"", now} else ""))


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


def _print(
    answer: Mapping[str, Any],
    rows: Sequence[Row],
    how: Format,
    shown: Callable[[Row], Row],
    title: str = "",
    below: Sequence[Row] = (),
    most: int = PAGE,
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
    output.more(answer, len(rows), how, most)
