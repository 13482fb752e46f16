"""`telemetryx audit`: who changed what, straight from the store."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.output import Format
from telemetryx.cli.span import point
from telemetryx.cli.store import opened, store_place
from telemetryx.cli.text import printable


def show(
    config: Path | None,
    *,
    filters: dict[str, str | None],
    since: str,
    until: str | None,
    limit: int,
    how: Format,
) -> None:
    """Print entries, newest first."""
    from telemetryx.store.audit import AuditQuery
    from telemetryx.store.tables import audit

    wanted = AuditQuery(
        actor=filters["actor"],
        action=filters["action"],
        target=filters["target"],
        start_ns=_time("--since", since),
        end_ns=_time("--until", until),
        limit=limit + 1,
    )
    with opened(store_place(config)) as database:
        applied, _ = database.schema_steps()
        if not any(step.endswith("_audit") for step in applied):
            raise CliError("this store has no audit log yet", "start the collector once: it adds it", Exit.NO)
        found = audit.query(database, wanted)
    rows = [
        {**asdict(one), "actor": one.actor.name, "via": one.actor.via, "peer": one.actor.peer}
        for one in found[:limit]
    ]
    more = rows[-1]["id"] if len(found) > limit else None
    output.listed({"audit": rows, "next": more}, rows, how, _shown, none="nothing was changed in that time")


def _time(option: str, text: str | None) -> int | None:
    import time

    from telemetryx.api.times import parse_time

    read = point(text, option)
    return None if read is None else parse_time(read, time.time_ns())


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "when": output.moment(row["at_ns"]),
        "who": row["actor"],
        "from": " ".join(part for part in (row["via"], row["peer"]) if part),
        "what": f"{row['action']} {row['target']}".strip(),
        "change": printable(_change(row["before"], row["after"])),
    }


def _change(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """Say what differs: all of it where it is new or gone, and not what it hasn't."""
    names = list(dict.fromkeys([*(before or {}), *(after or {})]))
    parts = []
    for name in names:
        old, new = (before or {}).get(name), (after or {}).get(name)
        if before is not None and after is not None:
            if old != new:
                parts.append(f"{_plain(name)}: {_said(name, old)} → {_said(name, new)}")
        elif (only := new if after is not None else old) not in (None, "", []):
            parts.append(f"{_plain(name)}: {_said(name, only)}")
    return ", ".join(parts)


def _plain(name: str) -> str:
    return name.removesuffix("_ns")


def _said(name: str, value: object) -> str:
    if name.endswith("_ns") and isinstance(value, int):
        return output.moment(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
