"""/api/v1/agents and /api/v1/devices: the fleet."""

from typing import Any

import orjson

from telemetryx.api import models
from telemetryx.api.errors import BadRequest, NotFound
from telemetryx.api.rest import care, shapes
from telemetryx.api.rest.places import one_way
from telemetryx.api.route import Route, shown
from telemetryx.api.times import LAST_NS
from telemetryx.api.world import World
from telemetryx.fleet import AgentState, Device, balance
from telemetryx.store.accounts import Role
from telemetryx.store.interface import AgentKey, AgentQuery, DeviceKey, DeviceQuery

MAX_DEVICES_OF_AGENT = 1_000
_REALS = {"skew", "rate"}
"""Columns of agents that aren't whole numbers."""


async def agents(world: World, params: models.AgentsParams) -> dict[str, Any]:
    """Return a page of agents."""
    one_way(params)
    query = AgentQuery(
        filter=params.filter,
        state=params.state,
        site=params.site,
        sort=params.sort,
        descending=params.order == "desc",
        limit=params.limit,
        offset=params.offset,
        after=_agent(params, "after", params.after),
        before=_agent(params, "before", params.before),
    )
    page = await world.store.agents(query)
    return {
        "agents": [shapes.agent(row) for row in page.agents],
        "total": page.total,
        "skipped": page.skipped,
        "next": _agent_place(query.place(page.agents[-1])) if page.more else None,
        "previous": _agent_place(query.place(page.agents[0])) if page.agents and page.skipped else None,
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
    one_way(params)
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


def _agent_place(key: AgentKey) -> str:
    """Write an agent's place; of a column's value its digits, so that it is the same when it is read."""
    return key if isinstance(key, str) else orjson.dumps([repr(key[0]), key[1]]).decode()


def _agent(params: models.AgentsParams, parameter: str, written: str | None) -> AgentKey | None:
    if written is None or params.sort == "name":
        return written
    try:
        match orjson.loads(written):
            case [str(value), str(name)]:
                return (float(value) if params.sort in _REALS else _whole(value)), name
    except ValueError:
        pass
    raise _no_place(parameter, written)


def _whole(written: str) -> int:
    """Read what a column of whole numbers may hold."""
    if len(written) > len(str(-LAST_NS)) or abs(value := int(written)) > LAST_NS:
        raise ValueError
    return value


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
    raise _no_place(parameter, written)


def _no_place(parameter: str, written: str) -> BadRequest:
    return BadRequest(
        f"parameter {parameter!r}: {shown(written)} is no place in this list",
        "give `next` or `previous` of an answer as it is, with the same `sort`",
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
