"""/api/v1/events: structured records, newest first."""

from typing import Any

from telemetryx.api import models
from telemetryx.api.rest import shapes
from telemetryx.api.route import Route
from telemetryx.api.world import World
from telemetryx.store.interface import EventQuery
from telemetryx.types import Severity


async def events(world: World, params: models.EventsParams) -> dict[str, Any]:
    """Return a page of events."""
    rows = await world.store.events(
        EventQuery(
            source=params.source,
            min_severity=0 if params.severity is None else Severity[params.severity.upper()],
            q=params.q or "",
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
    Route("GET", "/api/v1/events", events, models.EventsAnswer, "List events", "data", models.EventsParams),
)
