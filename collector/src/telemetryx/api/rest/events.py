"""/api/v1/events: structured records, newest first."""

from typing import Any

from telemetryx.api import models
from telemetryx.api.errors import BadRequest
from telemetryx.api.rest import shapes
from telemetryx.api.route import Route
from telemetryx.api.span import ordered
from telemetryx.api.world import World
from telemetryx.store.accounts import Role
from telemetryx.store.interface import EventQuery
from telemetryx.types import Severity


async def events(world: World, params: models.EventsParams) -> dict[str, Any]:
    """Return a page of events."""
    ordered(params.start, params.end)
    words = (params.q or "").strip()
    if words and not any(map(str.isalnum, words)):
        raise BadRequest(
            f"`q`: {words[:80]!r} holds no letter or digit, so there is no word to look for",
            "give words that the event contains, or leave it out for all events",
        )
    rows = await world.store.events(
        EventQuery(
            source=params.source,
            min_severity=0 if params.severity is None else Severity[params.severity.upper()],
            q=words,
            agent=params.agent,
            start_ns=params.start,
            end_ns=params.end,
            before=params.before,
            limit=params.limit + 1,
        )
    )
    page = rows[: params.limit]
    return {
        "events": [shapes.event(row) for row in page],
        "next": page[-1].id if len(rows) > len(page) else None,
    }


ROUTES = (
    Route(
        "GET",
        "/api/v1/events",
        events,
        models.EventsAnswer,
        "List events",
        "data",
        Role.VIEWER,
        models.EventsParams,
    ),
)
