"""/healthz, /readyz, /api/v1/status, /api/v1/models: the collector itself."""

from typing import Any

import telemetryx
from telemetryx.api import models
from telemetryx.api.errors import Unavailable
from telemetryx.api.route import Model, Route
from telemetryx.api.world import PartState, World


async def healthz(world: World, params: Model) -> dict[str, Any]:
    """Answer as long as the process does."""
    del world, params
    return {"ok": True}


async def readyz(world: World, params: Model) -> dict[str, Any]:
    """Say whether every part works; 503 with the reasons when one doesn't."""
    del params
    parts = world.readiness()
    broken = [f"{part.name}: {part.reason}" for part in parts if not part.ready]
    if broken:
        raise Unavailable(f"not ready: {'; '.join(broken)}", "the reasons name what to mend", retry_after=1)
    return {"ready": True, "parts": [_part(part) for part in parts]}


async def status(world: World, params: Model) -> dict[str, Any]:
    """Show the collector's parts and numbers."""
    del params
    parts = world.readiness()
    await world.gather()
    return {
        "version": telemetryx.__version__,
        "started_ns": world.started_ns,
        "now_ns": world.clock.now_ns(),
        "ready": all(part.ready for part in parts),
        "parts": [_part(part) for part in parts],
        "cursor": await world.store.cursor(),
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
    return {"name": part.name, "ready": part.ready, "reason": part.reason}


ROUTES = (
    Route("GET", "/healthz", healthz, models.HealthAnswer, "Whether the process answers", "collector"),
    Route("GET", "/readyz", readyz, models.ReadyAnswer, "Whether every part works", "collector"),
    Route("GET", "/api/v1/status", status, models.StatusAnswer, "How the collector is", "collector"),
    Route("GET", "/api/v1/models", list_models, models.ModelsAnswer, "List models", "collector"),
)
