"""/healthz, /readyz, /api/v1/status, /api/v1/models: the collector itself."""

from typing import Any

import telemetryx
from telemetryx.api import models
from telemetryx.api.errors import Unavailable
from telemetryx.api.route import Model, Reply, Route
from telemetryx.api.world import PartState, World
from telemetryx.store.accounts import Role


async def healthz(world: World, params: Model) -> dict[str, Any]:
    """Answer as long as the process does."""
    del world, params
    return {"ok": True}


async def readyz(world: World, params: Model) -> dict[str, Any] | Reply:
    """Say whether every part works. 503 when one doesn't: with all parts, and the reasons as every refusal has them."""
    del params
    parts = world.readiness()
    broken = [f"{part.name}: {part.reason}" for part in parts if not part.ready]
    answer: dict[str, Any] = {"ready": not broken, "parts": [_part(part) for part in parts]}
    if not broken:
        return answer
    why = Unavailable(f"not ready: {'; '.join(broken)}", "the reasons name what to mend", retry_after=1)
    return Reply(
        {"error": why.said(), **answer}, why.status, lambda response: response.headers.update(why.headers())
    )


async def status(world: World, params: Model) -> dict[str, Any]:
    """Show the collector's parts and numbers."""
    del params
    parts = world.readiness()
    await world.gather()
    together = world.fleetwide()
    return {
        "version": telemetryx.__version__,
        "started_ns": world.started_ns,
        "now_ns": world.clock.now_ns(),
        "ready": all(part.ready for part in parts),
        "parts": [_part(part) for part in parts],
        "cursor": await world.store.cursor(),
        "processes": together.processes,
        "readings_per_second": together.readings_per_second,
        "totals": {**world.metrics.totals(), **world.delay.totals()},
    }


async def list_models(world: World, params: Model) -> dict[str, Any]:
    """Return the model registry."""
    del params
    return {
        "models": [
            {
                "name": model.name,
                "version": model.version,
                "state": model.state,
                "created_ns": model.created_ns,
                "checksum": model.checksum,
                "card": dict(model.card),
            }
            for model in await world.models()
        ]
    }


def _part(part: PartState) -> dict[str, Any]:
    return {"name": part.name, "ready": part.ready, "reason": part.reason, "owner": part.owner}


ROUTES = (
    Route(
        "GET",
        "/healthz",
        healthz,
        models.HealthAnswer,
        "Whether the process answers",
        "collector",
        Role.ANYONE,
    ),
    Route(
        "GET",
        "/readyz",
        readyz,
        models.ReadyAnswer,
        "Whether every part works",
        "collector",
        Role.ANYONE,
        unavailable=models.NotReadyAnswer,
    ),
    Route(
        "GET", "/api/v1/status", status, models.StatusAnswer, "How the collector is", "collector", Role.VIEWER
    ),
    Route("GET", "/api/v1/models", list_models, models.ModelsAnswer, "List models", "collector", Role.VIEWER),
)
