"""/api/v1/alerts and /api/v1/rules: what was judged. An open alert never depends on a time range."""

from dataclasses import asdict
from typing import Any

from telemetryx.api import models
from telemetryx.api.route import Model, Route
from telemetryx.api.world import World


async def alerts(world: World, params: models.AlertsParams) -> dict[str, Any]:
    """Return alerts in a state."""
    rows = await world.judge.alerts(
        params.state, agent=params.agent, rule=params.rule, limit=params.limit + 1
    )
    return {"alerts": rows[: params.limit], "truncated": len(rows) > params.limit}


async def rules(world: World, params: Model) -> dict[str, Any]:
    """Return the loaded rules and how each is doing."""
    del params
    return {"rules": [asdict(rule) for rule in await world.judge.rules()]}


ROUTES = (
    Route("GET", "/api/v1/alerts", alerts, models.AlertsAnswer, "List alerts", "alerts", models.AlertsParams),
    Route("GET", "/api/v1/rules", rules, models.RulesAnswer, "List rules", "alerts"),
)
