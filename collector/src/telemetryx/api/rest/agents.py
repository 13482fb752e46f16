"""/api/v1/agents and /api/v1/devices: the fleet."""

from typing import Any

from telemetryx.api import models
from telemetryx.api.errors import NotFound
from telemetryx.api.rest import care, shapes
from telemetryx.api.route import Route, shown
from telemetryx.api.world import World
from telemetryx.store.accounts import Role
from telemetryx.store.interface import AgentQuery, DeviceQuery
from telemetryx.types import AgentState, balance

MAX_DEVICES_OF_AGENT = 1_000


async def agents(world: World, params: models.AgentsParams) -> dict[str, Any]:
    """Return a page of agents."""
    page = await world.store.agents(
        AgentQuery(
            filter=params.filter,
            state=params.state,
            site=params.site,
            sort=params.sort,
            descending=params.order == "desc",
            limit=params.limit,
            offset=params.offset,
        )
    )
    return {
        "agents": [shapes.agent(row) for row in page.agents],
        "total": page.total,
        "counts": {state.value: page.counts.get(state.value, 0) for state in AgentState},
    }


async def agent(world: World, params: models.AgentParams) -> dict[str, Any]:
    """Return one agent with its losses, its own status and its devices."""
    row = await world.store.agent(params.name)
    if row is None:
        raise NotFound(f"no agent is called {shown(params.name)}", "GET /api/v1/agents lists them")
    devices, total = await world.store.devices(DeviceQuery(agent=row.name, limit=MAX_DEVICES_OF_AGENT))
    ledger = await world.store.loss(row.name)
    return {
        **shapes.agent(row),
        "loss": [shapes.loss(item) for item in ledger],
        "balance": balance(ledger).get(row.name, 0),
        "status": shapes.status(row),
        "devices": [shapes.device(item) for item in devices],
        "devices_total": total,
        "config": await care.of_agent(world, row.name),
    }


async def devices(world: World, params: models.DevicesParams) -> dict[str, Any]:
    """Return a page of devices."""
    rows, total = await world.store.devices(
        DeviceQuery(params.agent, params.site, params.filter, params.limit, params.offset)
    )
    return {"devices": [shapes.device(row) for row in rows], "total": total}


async def loss(world: World, params: models.LossParams) -> dict[str, Any]:
    """Return the loss ledger."""
    ledger = await world.store.loss(params.agent)
    return {"loss": [shapes.loss(row) for row in ledger], "balance": balance(ledger)}


ROUTES = (
    Route(
        "GET",
        "/api/v1/agents",
        agents,
        models.AgentsAnswer,
        "List agents",
        "fleet",
        Role.VIEWER,
        models.AgentsParams,
    ),
    Route(
        "GET",
        "/api/v1/agents/{name}",
        agent,
        models.AgentAnswer,
        "Show one agent",
        "fleet",
        Role.VIEWER,
        models.AgentParams,
        statuses=(404,),
    ),
    Route(
        "GET",
        "/api/v1/devices",
        devices,
        models.DevicesAnswer,
        "List devices",
        "fleet",
        Role.VIEWER,
        models.DevicesParams,
    ),
    Route(
        "GET",
        "/api/v1/loss",
        loss,
        models.LossAnswer,
        "Show the loss ledger",
        "fleet",
        Role.VIEWER,
        models.LossParams,
    ),
)
