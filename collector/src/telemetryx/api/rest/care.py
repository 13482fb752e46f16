"""/api/v1/configs and /api/v1/requests: agents are configured and asked from afar. docs/how-to/remote-care.md says how."""

from collections import Counter
from typing import Any, Final, Protocol

import structlog
from aiohttp import web

from telemetryx.api import deadline, models
from telemetryx.api.errors import ApiError, BadRequest, Conflict, Handler, NotFound, Unavailable
from telemetryx.api.route import Model, Route, read_params
from telemetryx.api.world import World
from telemetryx.care.reach import Reach
from telemetryx.care.service import Care, Push
from telemetryx.errors import StoreError
from telemetryx.store.accounts import Role
from telemetryx.store.audit import Actor
from telemetryx.store.care import (
    CareRefused,
    Config,
    Kind,
    Known,
    Phase,
    Request,
    RequestState,
    Target,
)

log = structlog.get_logger(__name__)

S: Final = 1_000_000_000
ANSWER: Final = "/api/v1/requests/{id}/answer"


class Someone(Protocol):
    """Who asks."""

    def actor(self) -> Actor:
        """Name them for the audit log."""
        ...


class Caring(Protocol):
    """What these endpoints use of the World: the command line runs them on the collector's machine without one."""

    @property
    def care(self) -> Care | None:
        """Remote care."""
        ...

    @property
    def caller(self) -> Someone:
        """Who asks."""
        ...


async def check(world: Caring, params: Model, body: models.ConfigBody) -> dict[str, Any]:
    """Say what pushing it would do."""
    del params
    try:
        return _reach(await _care(world).check(_push(body)))
    except CareRefused as error:
        raise _refusal(error) from error


async def push(world: Caring, params: Model, body: models.ConfigBody) -> dict[str, Any]:
    """Push a configuration."""
    del params
    try:
        made, found = await _care(world).push(_push(body), world.caller.actor())
    except CareRefused as error:
        raise _refusal(error) from error
    return {**_reach(found), "config": _config(made)}


async def push_again(world: Caring, params: models.ConfigParams, body: models.AgainBody) -> dict[str, Any]:
    """Push an old one anew."""
    try:
        made, found = await _care(world).push_again(params.id, body.canary, world.caller.actor())
    except CareRefused as error:
        raise _refusal(error) from error
    return {**_reach(found), "config": _config(made)}


async def take_back(world: Caring, params: models.ConfigParams) -> dict[str, Any]:
    """Take one back."""
    try:
        return _config(await _care(world).take_back(params.id, world.caller.actor()))
    except CareRefused as error:
        raise _refusal(error) from error


async def configs(world: Caring, params: models.ConfigsParams) -> dict[str, Any]:
    """Return a page of configurations."""
    rows = await _care(world).configs(params.limit + 1, params.before)
    page = rows[: params.limit]
    return {
        "configs": [_config(row) for row in page],
        "next": page[-1].version if len(rows) > len(page) else None,
    }


async def config(world: Caring, params: models.ConfigParams) -> dict[str, Any]:
    """Return one with its text."""
    try:
        found, text = await _care(world).config(params.id)
    except CareRefused as error:
        raise _refusal(error) from error
    return {**_config(found), "toml": text}


async def states(world: Caring, params: models.ConfigStatesParams) -> dict[str, Any]:
    """Return how far agents are."""
    rows = [state(known, wanted) for known, wanted in await _care(world).states()]
    counts = Counter(row["phase"] for row in rows)
    met = [
        row
        for row in rows
        if params.phase in {None, row["phase"]}
        and params.version in {None, row["wanted"]}
        and params.filter.lower() in row["agent"].lower()
    ]
    return {
        "agents": met[: params.limit],
        "total": len(met),
        "counts": {phase.value: counts[phase.value] for phase in Phase},
    }


async def log_level(world: Caring, params: models.CareParams, body: models.LogLevelBody) -> dict[str, Any]:
    """Ask for another log level."""
    args = {"level": body.level, "for_s": -(-body.duration // S)}
    return await _asked(world, params.name, Kind.LOG_LEVEL, args, body.wait)


async def diagnostics(
    world: Caring, params: models.CareParams, body: models.DiagnosticsBody
) -> dict[str, Any]:
    """Ask for a bundle."""
    return await _asked(world, params.name, Kind.DIAGNOSTICS, {}, body.wait)


async def requests(world: Caring, params: models.RequestsParams) -> dict[str, Any]:
    """Return requests."""
    rows = await _care(world).requests(params.agent, params.limit + 1)
    return {
        "requests": [_request(row) for row in rows[: params.limit]],
        "truncated": len(rows) > params.limit,
    }


async def request(world: Caring, params: models.RequestParams) -> dict[str, Any]:
    """Return one."""
    try:
        return _request(await _care(world).request(params.id))
    except CareRefused as error:
        raise _refusal(error) from error


async def of_agent(world: World, name: str) -> dict[str, Any] | None:
    """Return how far an agent is, for its page; None where there is no remote care."""
    found = None if world.care is None else await world.care.state(name)
    return None if found is None else state(*found)


def answer(world: World) -> Handler:
    """Make the endpoint that gives an answer as a file, piece by piece as the store keeps it."""
    declared = Route(
        "GET", ANSWER, request, Model, "Get an answer", "care", Role.OPERATOR, models.RequestParams
    )

    async def handle(asked: web.Request) -> web.StreamResponse:
        params = read_params(declared, asked, world)
        if not isinstance(params, models.RequestParams):
            raise TypeError(f"{params} are no parameters of a request")
        care = _care(world)
        try:
            async with deadline.until(asked):
                found = await care.request(params.id)
        except CareRefused as error:
            raise _refusal(error) from error
        except StoreError as error:
            raise Unavailable(str(error), "try again in a moment", retry_after=1) from error
        if found.kind is not Kind.DIAGNOSTICS or found.state is not RequestState.DONE:
            raise NotFound(
                f"request {found.id} ({found.kind.value}, {found.state.value}) has no file",
                f"GET /api/v1/requests/{found.id} says how far it is",
            )
        return await _file(asked, care, found)

    return handle


async def _file(asked: web.Request, care: Care, found: Request) -> web.StreamResponse:
    name = "".join(one if one.isalnum() or one in "-_." else "_" for one in found.agent)
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/zstd",
            "Content-Disposition": f'attachment; filename="{name}-{found.id}.tar.zst"',
            "Content-Length": str(found.size),
            "Cache-Control": "no-store",
        }
    )
    await response.prepare(asked)
    after = 0
    while after < found.size:
        try:
            piece = await care.piece(found.id, after)
        except StoreError as error:
            log.warning("answer_broken_off", request=found.id, reason=str(error))
            piece = None
        if piece is None:
            # It can't be read, or was deleted meanwhile: broken off, so that nobody takes a part for the whole.
            if asked.transport is not None:
                asked.transport.abort()
            return response
        await response.write(piece[1])
        after = piece[0] + len(piece[1])
    await response.write_eof()
    return response


async def _asked(world: Caring, agent: str, kind: Kind, args: dict[str, object], wait: int) -> dict[str, Any]:
    try:
        return _request(await _care(world).ask(agent, kind, args, wait, world.caller.actor()))
    except CareRefused as error:
        raise _refusal(error) from error


def _push(body: models.ConfigBody) -> Push:
    if body.agent and body.match:
        raise BadRequest("both `agent` and `match` are given", "give one of them")
    return Push(body.toml, Target(body.agent, body.match.strip().strip("{}").strip()), body.note, body.canary)


def _care(world: Caring) -> Care:
    if world.care is None:
        raise NotFound("this collector takes no care of agents", "start it as `telemetryx collector`")
    return world.care


def _refusal(error: CareRefused) -> ApiError:
    if error.missing:
        return NotFound(str(error), error.hint)
    return (Conflict if error.conflict else BadRequest)(str(error), error.hint)


def _reach(found: Reach) -> dict[str, Any]:
    return {
        "agents": list(found.agents),
        "offline": found.offline,
        "unsupported": list(found.unsupported),
        "overruled": list(found.overruled),
        "first": list(found.first),
        "replaced": [{"version": version, "agents": count} for version, count in found.replaced],
    }


def _config(row: Config) -> dict[str, Any]:
    return {
        "version": row.version,
        "agent": row.target.agent,
        "match": row.target.match,
        "state": row.state,
        "reason": row.reason,
        "author": row.author,
        "note": row.note,
        "created_ns": row.created_ns,
        "taken_back_ns": row.taken_back_ns,
        "digest": row.digest.hex(),
        "bytes": row.size,
        "canary": sorted(row.canary),
    }


def state(known: Known, wanted: Config | None) -> dict[str, Any]:
    """Write how far an agent is."""
    said = known.said
    return {
        "agent": known.agent,
        "connected": known.connected,
        "wanted": 0 if wanted is None else wanted.version,
        "phase": known.phase(wanted).value,
        "reason": "" if said is None else said.reason,
        "version": 0 if said is None else said.version,
        "in_force": 0 if said is None else said.in_force,
        "at_ns": said.at_ns if said is not None and said.at_ns else None,
        "requests": said is not None and said.requests,
    }


def _request(row: Request) -> dict[str, Any]:
    return {
        "id": row.id,
        "agent": row.agent,
        "kind": row.kind.value,
        "args": dict(row.args),
        "author": row.author,
        "state": row.state.value,
        "reason": row.reason,
        "bytes": row.size,
        "created_ns": row.created_ns,
        "changed_ns": row.changed_ns,
        "expires_ns": row.expires_ns,
    }


ROUTES = (
    Route(
        "GET",
        "/api/v1/configs",
        configs,
        models.ConfigsAnswer,
        "List the configurations of agents",
        "care",
        Role.VIEWER,
        models.ConfigsParams,
    ),
    Route(
        "POST",
        "/api/v1/configs",
        push,
        models.PushedAnswer,
        "Push a configuration to agents",
        "care",
        Role.ADMIN,
        body=models.ConfigBody,
        statuses=(409,),
    ),
    Route(
        "POST",
        "/api/v1/configs/check",
        check,
        models.ReachAnswer,
        "Say what pushing a configuration would do",
        "care",
        Role.ADMIN,
        body=models.ConfigBody,
        statuses=(409,),
    ),
    Route(
        "GET",
        "/api/v1/configs/states",
        states,
        models.ConfigStatesAnswer,
        "Say how far agents are with their configurations",
        "care",
        Role.VIEWER,
        models.ConfigStatesParams,
    ),
    Route(
        "GET",
        "/api/v1/configs/{id}",
        config,
        models.ConfigAnswer,
        "Show one configuration with its text",
        "care",
        Role.OPERATOR,
        models.ConfigParams,
        statuses=(404,),
    ),
    Route(
        "POST",
        "/api/v1/configs/{id}/take-back",
        take_back,
        models.TakenBackAnswer,
        "Take a configuration back",
        "care",
        Role.ADMIN,
        models.ConfigParams,
        statuses=(404,),
    ),
    Route(
        "POST",
        "/api/v1/configs/{id}/push-again",
        push_again,
        models.PushedAnswer,
        "Push an old configuration anew",
        "care",
        Role.ADMIN,
        models.ConfigParams,
        body=models.AgainBody,
        statuses=(404, 409),
    ),
    Route(
        "POST",
        "/api/v1/agents/{name}/log-level",
        log_level,
        models.RequestAnswer,
        "Ask an agent for another log level for a while",
        "care",
        Role.OPERATOR,
        models.CareParams,
        body=models.LogLevelBody,
        statuses=(404, 409),
    ),
    Route(
        "POST",
        "/api/v1/agents/{name}/diagnostics",
        diagnostics,
        models.RequestAnswer,
        "Ask an agent for a diagnostics bundle",
        "care",
        Role.OPERATOR,
        models.CareParams,
        body=models.DiagnosticsBody,
        statuses=(404, 409),
    ),
    Route(
        "GET",
        "/api/v1/requests",
        requests,
        models.RequestsAnswer,
        "List what was asked of agents",
        "care",
        Role.OPERATOR,
        models.RequestsParams,
    ),
    Route(
        "GET",
        "/api/v1/requests/{id}",
        request,
        models.RequestAnswer,
        "Say how far a request is",
        "care",
        Role.OPERATOR,
        models.RequestParams,
        statuses=(404,),
    ),
)
