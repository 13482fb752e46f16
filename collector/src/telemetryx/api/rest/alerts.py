"""/api/v1/alerts and /api/v1/rules: what was judged, and who has taken it on. An open alert never depends on a time range."""

from dataclasses import asdict
from typing import Any

from telemetryx.api import models
from telemetryx.api.errors import NotFound
from telemetryx.api.rest.silences import author
from telemetryx.api.route import Model, Route
from telemetryx.api.world import World
from telemetryx.store.accounts import Role
from telemetryx.store.silences import MAX_STANDING, Acknowledgement, holds


async def alerts(world: World, params: models.AlertsParams) -> dict[str, Any]:
    """Return alerts in a state."""
    rows = await world.judge.alerts(
        params.state, agent=params.agent, rule=params.rule, limit=params.limit + 1
    )
    shown = rows[: params.limit]
    said = await world.store.acknowledged([row["id"] for row in shown])
    now = world.clock.now_ns()
    standing = [
        (one.id, one.matchers())
        for one in await world.store.silences(limit=MAX_STANDING)
        if one.starts_ns <= now
    ]
    for row in shown:
        row["acknowledged"] = _said(said.get(row["id"]))
        row["silenced_by"] = [
            number
            for number, matchers in standing
            if holds(matchers, row["rule"], row["severity"], row["labels"])
        ]
    return {"alerts": shown, "truncated": len(rows) > params.limit}


async def acknowledge(
    world: World, params: models.AlertParams, body: models.AcknowledgeBody
) -> dict[str, Any]:
    """Note who has taken an alert on."""
    before = await world.store.acknowledged([params.id])
    said = await world.store.acknowledge(
        params.id, author(world, body.author), body.comment, by=world.caller.actor()
    )
    if said is None:
        raise NotFound(f"there is no alert {params.id}", "GET /api/v1/alerts?state=all lists them")
    return {"id": params.id, "acknowledged": _said(said), "before": _said(before.get(params.id))}


async def withdraw(world: World, params: models.AlertParams) -> dict[str, Any]:
    """Take it back."""
    before = await world.store.acknowledged([params.id])
    if not await world.store.withdraw_acknowledgement(params.id, by=world.caller.actor()):
        raise NotFound(f"nobody has acknowledged an alert {params.id}", "GET /api/v1/alerts lists them")
    return {"id": params.id, "acknowledged": None, "before": _said(before.get(params.id))}


def _said(said: Acknowledgement | None) -> dict[str, Any] | None:
    return None if said is None else {"author": said.author, "comment": said.comment, "at_ns": said.at_ns}


async def rules(world: World, params: Model) -> dict[str, Any]:
    """Return the loaded rules and how each is doing."""
    del params
    return {"rules": [asdict(rule) for rule in await world.judge.rules()]}


ROUTES = (
    Route(
        "GET",
        "/api/v1/alerts",
        alerts,
        models.AlertsAnswer,
        "List alerts",
        "alerts",
        Role.VIEWER,
        models.AlertsParams,
    ),
    Route(
        "POST",
        "/api/v1/alerts/{id}/acknowledge",
        acknowledge,
        models.AcknowledgedAnswer,
        "Take an alert on",
        "alerts",
        Role.OPERATOR,
        models.AlertParams,
        body=models.AcknowledgeBody,
        statuses=(404,),
    ),
    Route(
        "DELETE",
        "/api/v1/alerts/{id}/acknowledge",
        withdraw,
        models.AcknowledgedAnswer,
        "Take that back",
        "alerts",
        Role.OPERATOR,
        models.AlertParams,
        statuses=(404,),
    ),
    Route("GET", "/api/v1/rules", rules, models.RulesAnswer, "List rules", "alerts", Role.VIEWER),
)
