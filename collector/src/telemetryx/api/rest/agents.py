"""/api/v1/agents and /api/v1/devices: the fleet."""

from typing import Any

import orjson

from telemetryx.api import models
from telemetryx.api.errors import BadRequest, NotFound
from telemetryx.api.rest import care, shapes
from telemetryx.api.route import Route, shown
from telemetryx.api.world import World
from telemetryx.store.accounts import Role
from telemetryx.store.interface import AgentQuery, DeviceKey, DeviceQuery
from telemetryx.types import AgentState, Device, balance

MAX_DEVICES_OF_AGENT = 1_000


async def agents(world: World, params: models.AgentsParams) -> dict[str, Any]:
    """Return a page of agents."""
    _one_way(params)
    if params.sort != "name" and (params.after is not None or params.before is not None):
        raise BadRequest(
            f"pages by `after` and `before` are in the order of names, not sort={params.sort}, whose rows change places",
            "leave `sort` out, or page with `offset`",
        )
    page = await world.store.agents(
        AgentQuery(
            filter=params.filter,
            state=params.state,
            site=params.site,
            sort=params.sort,
            descending=params.order == "desc",
            limit=params.limit,
            offset=params.offset,
            after=params.after,
            before=params.before,
        )
    )
    named = params.sort == "name" and page.agents
    return {
        "agents": [shapes.agent(row) for row in page.agents],
        "total": page.total,
        "skipped": page.skipped,
        "next": page.agents[-1].name if named and page.more else None,
        "previous": page.agents[0].name if named and page.skipped else None,
        "counts": {state.value: page.counts.get(state.value, 0) for state in AgentState},
    }


async def agent(world: World, params: models.AgentParams) -> dict[str, Any]:
    """Return one agent with its losses, its own status and its devices."""
    row = await world.store.agent(params.name)
    if row is None:
        raise NotFound(f"no agent is called {shown(params.name)}", "GET /api/v1/agents lists them")
    devices = await world.store.devices(DeviceQuery(agent=row.name, limit=MAX_DEVICES_OF_AGENT))
    ledger = await world.store.loss(row.name)
    return {
        **shapes.agent(row),
        "loss": [shapes.loss(item) for item in ledger],
        "balance": balance(ledger).get(row.name, 0),
        "status": shapes.status(row),
        "devices": [shapes.device(item) for item in devices.devices],
        "devices_total": devices.total,
        "config": await care.of_agent(world, row.name),
    }


async def devices(world: World, params: models.DevicesParams) -> dict[str, Any]:
    """Return a page of devices."""
    _one_way(params)
    page = await world.store.devices(
        DeviceQuery(
            params.agent,
            params.site,
            params.filter,
            params.limit,
            params.offset,
            _device("after", params.after),
            _device("before", params.before),
        )
    )
    return {
        "devices": [shapes.device(row) for row in page.devices],
        "total": page.total,
        "skipped": page.skipped,
        "next": _place(page.devices[-1]) if page.more else None,
        "previous": _place(page.devices[0]) if page.devices and page.skipped else None,
    }


def _placed(params: models.AgentsParams | models.DevicesParams) -> list[str]:
    """Name the parameters that say where the page is."""
    given = {"after": params.after, "before": params.before, "offset": params.offset or None}
    return [name for name, value in given.items() if value is not None]


def _one_way(params: models.AgentsParams | models.DevicesParams) -> None:
    if len(given := _placed(params)) > 1:
        raise BadRequest(f"`{given[0]}` and `{given[1]}` both say where the page is", "give one of them")


def _place(row: Device) -> str:
    """Write a device's key: three names, any of which may hold any character."""
    return orjson.dumps([row.agent, row.site, row.device]).decode()


def _device(parameter: str, written: str | None) -> DeviceKey | None:
    if written is None:
        return None
    try:
        match orjson.loads(written):
            case [str(agent), str(site), str(device)]:
                return agent, site, device
    except orjson.JSONDecodeError:
        pass
    raise BadRequest(
        f"parameter {parameter!r}: {shown(written)} is no place in this list",
        "give `next` or `previous` of an answer as it is",
    )


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
