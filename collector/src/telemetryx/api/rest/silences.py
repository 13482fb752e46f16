"""/api/v1/silences: notifications about some alerts are kept back for a while."""

from typing import Any, Final

from telemetryx.api import models
from telemetryx.api.alertpages import open_alerts
from telemetryx.api.errors import BadRequest, NotFound
from telemetryx.api.route import Model, Route
from telemetryx.api.world import World
from telemetryx.errors import QueryRefused, SelectorError
from telemetryx.store.accounts import Role
from telemetryx.store.silences import Silence, holds

EXAMPLE: Final = 'e.g. {"match": "hot{site=\\"north\\"}", "duration": "2h", "author": "ana"}'


async def silences(world: World, params: models.SilencesParams) -> dict[str, Any]:
    """Return silences that stand or are to come, or those that ended."""
    rows = await world.store.silences(ended=params.state == "ended", limit=params.limit + 1)
    now = world.clock.now_ns()
    return {
        "silences": [_shown(row, now) for row in rows[: params.limit]],
        "truncated": len(rows) > params.limit,
    }


async def add(world: World, params: Model, body: models.SilenceBody) -> dict[str, Any]:
    """Begin a silence."""
    del params
    now = world.clock.now_ns()
    starts = now if body.starts is None else body.starts
    if body.duration is None and body.ends is None:
        raise BadRequest(
            "it isn't said when the silence ends", "give `duration` or `ends`: an open end is forgotten"
        )
    if body.duration is not None and body.ends is not None:
        raise BadRequest("both `duration` and `ends` are given", "give one of them")
    ends = starts + body.duration if body.duration is not None else body.ends
    try:
        made = await world.store.add_silence(
            body.match, starts, ends or 0, author(world, body.author), body.comment, by=world.caller.actor()
        )
    except SelectorError as error:
        raise BadRequest(f"`match`: {error}", EXAMPLE) from error
    except QueryRefused as error:
        raise BadRequest(str(error), EXAMPLE) from error
    return {**_shown(made, now), "alerts": await _met(world, made)}


async def _met(world: World, silence: Silence) -> int:
    """Count the open alerts that meet a silence: none may be a mistyped rule or label."""
    matchers = silence.matchers()
    met = 0
    async for page in open_alerts(world.judge):
        met += sum(holds(matchers, row["rule"], row["severity"], row["labels"]) for row in page)
    return met


async def end(world: World, params: models.SilenceParams) -> dict[str, Any]:
    """End one now."""
    now = world.clock.now_ns()
    found = await world.store.end_silence(params.id, by=world.caller.actor())
    if found is None:
        raise NotFound(f"there is no silence {params.id}", "GET /api/v1/silences lists them")
    return {**_shown(found, world.clock.now_ns()), "ended_before": found.ends_ns < now}


def author(world: World, said: str | None) -> str:
    """Return in whose name something is said; who is logged in speaks for themselves."""
    if world.caller.via == "open" and not said:
        raise BadRequest("field 'author' is missing", "say who you are")
    return world.caller.author(said)


def _shown(one: Silence, now_ns: int) -> dict[str, Any]:
    state = "ended" if one.ends_ns <= now_ns else "active" if one.starts_ns <= now_ns else "pending"
    return {
        "id": one.id,
        "match": one.match,
        "starts_ns": one.starts_ns,
        "ends_ns": one.ends_ns,
        "author": one.author,
        "comment": one.comment,
        "created_ns": one.created_ns,
        "state": state,
    }


ROUTES = (
    Route(
        "GET",
        "/api/v1/silences",
        silences,
        models.SilencesAnswer,
        "List silences",
        "alerts",
        Role.VIEWER,
        models.SilencesParams,
    ),
    Route(
        "POST",
        "/api/v1/silences",
        add,
        models.AddedSilence,
        "Keep notifications back for a while",
        "alerts",
        Role.OPERATOR,
        body=models.SilenceBody,
    ),
    Route(
        "DELETE",
        "/api/v1/silences/{id}",
        end,
        models.EndedSilence,
        "End a silence now",
        "alerts",
        Role.OPERATOR,
        models.SilenceParams,
        statuses=(404,),
    ),
)
