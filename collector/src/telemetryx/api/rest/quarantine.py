"""/api/v1/quarantine: batches that are kept apart because their times are far ahead of the collector's clock."""

from typing import Any

from telemetryx.api import models
from telemetryx.api.errors import BadRequest, NotFound
from telemetryx.api.rest import shapes
from telemetryx.api.rest.places import one_way
from telemetryx.api.route import Route
from telemetryx.api.world import World
from telemetryx.errors import QueryRefused
from telemetryx.store.accounts import Role
from telemetryx.store.interface import QuarantineQuery


async def batches(world: World, params: models.QuarantineParams) -> dict[str, Any]:
    """Return a page of them, newest first."""
    one_way(params)
    page = await world.store.quarantined(
        QuarantineQuery(params.agent, params.limit, params.offset, params.after, params.before)
    )
    return {
        "quarantine": [shapes.quarantined(row) for row in page.batches],
        "total": page.total,
        "skipped": page.skipped,
        "next": page.batches[-1].id if page.more else None,
        "previous": page.batches[0].id if page.batches and page.skipped else None,
    }


async def batch(world: World, params: models.QuarantinedParams) -> dict[str, Any]:
    """Return one with what is in it."""
    found = await world.store.quarantined_batch(params.id)
    if found is None:
        raise _unknown(params.id)
    return {
        **shapes.quarantined(found.about),
        "series": [shapes.quarantined_series(row) for row in found.series],
        "events": [{"time_ns": time, "source": source, "body": body} for time, source, body in found.events],
    }


async def release(world: World, params: models.QuarantinedParams, body: models.ReleaseBody) -> dict[str, Any]:
    """Store one as if it had just come, its times moved."""
    try:
        committed = await world.store.release_quarantined(params.id, body.shift_ns, by=world.caller.actor())
    except QueryRefused as error:
        raise BadRequest(
            str(error), "give a shift that brings them to where they belong, or wait until they have come"
        ) from error
    if committed is None:
        raise _unknown(params.id)
    world.announce(committed)
    windows, events = committed.windows, committed.events
    rows = (
        len(committed.samples)
        + (0 if windows is None else len(windows))
        + (0 if events is None else len(events))
    )
    return {
        "cursor": committed.cursor,
        "first_ns": committed.t0_ns,
        "last_ns": committed.t1_ns,
        "stored": rows - committed.expired,
        "expired": committed.expired,
    }


async def drop(world: World, params: models.QuarantinedParams) -> dict[str, Any]:
    """Delete one for good; its readings stay counted as refused."""
    if not await world.store.drop_quarantined(params.id, by=world.caller.actor()):
        raise _unknown(params.id)
    return {"dropped": params.id}


def _unknown(number: int) -> NotFound:
    return NotFound(f"no batch {number} is kept apart", "GET /api/v1/quarantine lists them")


ROUTES = (
    Route(
        "GET",
        "/api/v1/quarantine",
        batches,
        models.QuarantineAnswer,
        "List batches that are kept apart",
        "quarantine",
        Role.VIEWER,
        models.QuarantineParams,
    ),
    Route(
        "GET",
        "/api/v1/quarantine/{id}",
        batch,
        models.QuarantinedAnswer,
        "Show one of them",
        "quarantine",
        Role.VIEWER,
        models.QuarantinedParams,
        statuses=(404,),
    ),
    Route(
        "POST",
        "/api/v1/quarantine/{id}/release",
        release,
        models.ReleasedAnswer,
        "Store one of them",
        "quarantine",
        Role.OPERATOR,
        models.QuarantinedParams,
        body=models.ReleaseBody,
        statuses=(404,),
    ),
    Route(
        "DELETE",
        "/api/v1/quarantine/{id}",
        drop,
        models.DroppedAnswer,
        "Delete one of them",
        "quarantine",
        Role.OPERATOR,
        models.QuarantinedParams,
        statuses=(404,),
    ),
)
