"""/api/v1/alerts and /api/v1/rules: what was judged. An open alert never depends on a time range."""

from typing import Any

from telemetryx.api import models
from telemetryx.api.rest import shapes
from telemetryx.api.route import Model, Route
from telemetryx.api.world import World
from telemetryx.store.alerts import OPEN, AlertQuery, AlertState

MAX_COUNTED = 10_000


async def alerts(world: World, params: models.AlertsParams) -> dict[str, Any]:
    """Return alerts in a state."""
    rows = await world.store.rules_alerts(
        AlertQuery(states=_states(params.state), agent=params.agent, limit=params.limit + 1)
    )
    return {
        "alerts": [shapes.alert(row) for row in rows[: params.limit]],
        "truncated": len(rows) > params.limit,
    }


async def rules(world: World, params: Model) -> dict[str, Any]:
    """Return the loaded rules with how many alerts each has."""
    del params
    standing = await world.store.rules_alerts(AlertQuery(states=OPEN, limit=MAX_COUNTED))
    counts: dict[tuple[str, AlertState], int] = {}
    for alert in standing:
        counts[(alert.rule, alert.state)] = counts.get((alert.rule, alert.state), 0) + 1
    return {
        "rules": [
            {
                "name": rule.name,
                "file": rule.file,
                "expression": rule.expression,
                "severity": rule.severity,
                "for_ns": rule.for_ns,
                "firing": counts.get((rule.name, AlertState.FIRING), 0)
                + counts.get((rule.name, AlertState.UNKNOWN), 0),
                "pending": counts.get((rule.name, AlertState.PENDING), 0),
            }
            for rule in await world.rules()
        ]
    }


def _states(state: str) -> frozenset[AlertState]:
    if state == "all":
        return frozenset()
    return OPEN if state == "open" else frozenset({AlertState(state)})


ROUTES = (
    Route("GET", "/api/v1/alerts", alerts, models.AlertsAnswer, "List alerts", "alerts", models.AlertsParams),
    Route("GET", "/api/v1/rules", rules, models.RulesAnswer, "List rules", "alerts"),
)
