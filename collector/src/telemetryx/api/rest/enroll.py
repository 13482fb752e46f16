"""/api/v1/enroll: hosts join with a token and renew with their key; people make tokens, approve and revoke.

The three requests of hosts need no login: a token, or the agent's key, is what they show. Their bodies are small. Joining is
limited by address. Renewing isn't: a whole site may stand behind one address, and whoever floods it there must not keep the
others from their certificates. What counts is the agent, which has shown its key; an address only for what isn't signed with
one. To know that takes a look at the store and one signature.
"""

import hashlib
from typing import Any, Final

from telemetryx.api import models
from telemetryx.api.errors import ApiError, BadRequest, Conflict, Forbidden, NotFound, TooMany, Unauthorized
from telemetryx.api.route import Model, Route, shown
from telemetryx.api.world import World
from telemetryx.enrolment.service import Answer, Enrolment
from telemetryx.store.accounts import Role
from telemetryx.store.enrolment import Enrolled, EnrolledQuery, EnrolmentRefused, Token

MAX_BODY: Final = 64 << 10
JOINING: Final = "/api/v1/enroll"
RENEWING: Final = ("/api/v1/enroll/challenge", "/api/v1/enroll/renew")
RENEWALS: Final = 10
"""Renewals of an agent in a row; one is needed in two thirds of a certificate's life, more where answers are lost."""
RENEWAL_S: Final = 60.0
"""So long after them until there is another, or a quarter of a certificate's life where that is less."""
#: What a refusal is in HTTP: who shows no good token isn't known; who does and asks for too much may not; the rest is malformed.
_UNKNOWN: Final = {
    "token_unknown",
    "token_used",
    "token_expired",
    "token_revoked",
    "authority",
    "signature",
    "challenge",
}
_FORBIDDEN: Final = {
    "token_agent",
    "name_taken",
    "key_taken",
    "replayed",
    "revoked",
    "rejected",
    "foreign_name",
}


async def enroll(world: World, params: Model, body: models.EnrollBody) -> dict[str, Any]:
    """Join with a token."""
    del params
    door = _enrolment(world)
    try:
        answer = await door.join(
            body.token, body.agent, body.csr, replace=body.replace, peer=world.caller.peer
        )
    except EnrolmentRefused as error:
        raise _refusal(error) from error
    return _joined(door, answer)


async def challenge(world: World, params: Model) -> dict[str, Any]:
    """Give what is to be signed."""
    del params
    return {"challenge": _enrolment(world).challenge()}


async def renew(world: World, params: Model, body: models.RenewBody) -> dict[str, Any]:
    """Give the holder of an agent's key its next certificate."""
    del params
    door = _enrolment(world)
    try:
        answer = await door.renew(body.agent, body.challenge, body.signature, world.caller.peer)
    except EnrolmentRefused as error:
        raise _refusal(error) from error
    return _joined(door, answer)


async def new_token(world: World, params: Model, body: models.NewEnrollTokenBody) -> dict[str, Any]:
    """Make a token."""
    del params
    door = _enrolment(world)
    try:
        text, row = await door.new_token(
            world.caller.actor(),
            author=world.caller.author(body.author),
            site=body.site,
            agent=body.agent or "",
            replace=body.replace,
            uses=body.uses,
            lifetime_ns=body.expires,
        )
    except EnrolmentRefused as error:
        raise _refusal(error) from error
    made = {"token": text, "url": door.policy.url, "command": door.line(text, row)}
    return {**token_shown(row, world.clock.now_ns()), **made}


async def tokens(world: World, params: models.EnrollTokensQuery) -> dict[str, Any]:
    """Return tokens."""
    rows = await _enrolment(world).tokens(params.limit + 1, params.before)
    return tokens_page(rows, params.limit, world.clock.now_ns())


async def revoke_token(world: World, params: models.EnrollTokenParams) -> dict[str, Any]:
    """Let nobody use it any more."""
    row = await _enrolment(world).revoke_token(params.id, world.caller.actor())
    if row is None:
        raise NotFound(f"there is no enrolment token {params.id}", "GET /api/v1/enroll/tokens lists them")
    return token_shown(row, world.clock.now_ns())


async def enrolled(world: World, params: models.EnrolledQuery) -> dict[str, Any]:
    """Return enrolled agents."""
    wanted = EnrolledQuery(params.limit + 1, params.state, params.after, params.filter)
    return agents_page(await _enrolment(world).agents(wanted), params.limit)


async def approve(world: World, params: models.EnrolledParams) -> dict[str, Any]:
    """Let in one that waits."""
    found = _known(await _enrolment(world).approve(params.name, world.caller.actor()), params.name)
    if found.state.value != "active":
        why, way_out = found.shut_out()
        raise Forbidden(f"{why}, and stays so", way_out)
    return agent_shown(found)


async def reject(world: World, params: models.EnrolledParams) -> dict[str, Any]:
    """Shut one out that waits."""
    try:
        found = await _enrolment(world).reject(params.name, world.caller.actor())
    except EnrolmentRefused as error:
        raise Conflict(str(error), error.hint) from error
    return agent_shown(_known(found, params.name))


async def revoke(world: World, params: models.EnrolledParams) -> dict[str, Any]:
    """Shut one out for good."""
    return agent_shown(_known(await _enrolment(world).revoke(params.name, world.caller.actor()), params.name))


def _known(found: Enrolled | None, name: str) -> Enrolled:
    if found is None:
        raise NotFound(
            f"no enrolled agent is called {shown(name)}",
            "GET /api/v1/enroll/agents lists them; one with a line in token_file is shut out by removing that",
        )
    return found


def _enrolment(world: World) -> Enrolment:
    if world.enrolment is None:
        raise NotFound(
            "this collector has no authority to enroll agents with", "start it as `telemetryx collector`"
        )
    return world.enrolment


def _refusal(error: EnrolmentRefused) -> ApiError:
    if error.wait_s:
        return TooMany(str(error), error.hint, retry_after=error.wait_s)
    kind = Unauthorized if error.cause in _UNKNOWN else Forbidden if error.cause in _FORBIDDEN else BadRequest
    return kind(str(error), error.hint)


def _joined(door: Enrolment, answer: Answer) -> dict[str, Any]:
    issued = answer.issued
    return {
        "agent": answer.enrolled.agent,
        "site": answer.enrolled.site,
        "state": answer.enrolled.state.value,
        "certificate": None if issued is None else issued.pem,
        "expires_ns": None if issued is None else issued.expires_ns,
        "authority": door.authority.pem,
        "gateway": door.gateway.told(),
    }


def tokens_page(rows: list[Token], limit: int, now_ns: int) -> dict[str, Any]:
    """Write a page of tokens, of one row more than it holds."""
    page, cut = rows[:limit], len(rows) > limit
    return {
        "tokens": [token_shown(row, now_ns) for row in page],
        "truncated": cut,
        "next": page[-1].id if cut else None,
    }


def agents_page(rows: list[Enrolled], limit: int) -> dict[str, Any]:
    """Write a page of agents, of one row more than it holds."""
    page, cut = rows[:limit], len(rows) > limit
    return {
        "agents": [agent_shown(row) for row in page],
        "truncated": cut,
        "next": page[-1].agent if cut else None,
    }


def token_shown(row: Token, now_ns: int) -> dict[str, Any]:
    """Write a token as the API does, without its secret."""
    return {
        "id": row.id,
        "site": row.site,
        "agent": row.agent,
        "replace": row.may_replace,
        "uses": row.uses,
        "used": row.used,
        "author": row.author,
        "created_ns": row.created_ns,
        "expires_ns": row.expires_ns,
        "state": row.state(now_ns),
    }


def agent_shown(row: Enrolled) -> dict[str, Any]:
    """Write an enrolled agent as the API does."""
    return {
        "agent": row.agent,
        "state": row.state.value,
        "site": row.site,
        "token": row.token_id,
        "peer": row.peer,
        "asked_ns": row.asked_ns,
        "changed_ns": row.changed_ns,
        "expires_ns": row.expires_ns,
        "renewed_ns": row.issued_ns,
        "serial": row.serial,
        "key": hashlib.sha256(row.public_key).hexdigest(),
    }


_AGENT: Final = "/api/v1/enroll/agents/{name}"
ROUTES = (
    Route(
        "POST",
        "/api/v1/enroll",
        enroll,
        models.EnrollAnswer,
        "Join with an enrolment token",
        "enrolment",
        Role.ANYONE,
        body=models.EnrollBody,
        statuses=(403,),
        max_body=MAX_BODY,
    ),
    Route(
        "GET",
        "/api/v1/enroll/challenge",
        challenge,
        models.ChallengeAnswer,
        "Get what is to be signed for a renewal",
        "enrolment",
        Role.ANYONE,
    ),
    Route(
        "POST",
        "/api/v1/enroll/renew",
        renew,
        models.EnrollAnswer,
        "Get the next certificate with the agent's key",
        "enrolment",
        Role.ANYONE,
        body=models.RenewBody,
        statuses=(403,),
        max_body=MAX_BODY,
    ),
    Route(
        "POST",
        "/api/v1/enroll/tokens",
        new_token,
        models.NewEnrollTokenAnswer,
        "Make an enrolment token",
        "enrolment",
        Role.ADMIN,
        body=models.NewEnrollTokenBody,
    ),
    Route(
        "GET",
        "/api/v1/enroll/tokens",
        tokens,
        models.EnrollTokensAnswer,
        "List enrolment tokens",
        "enrolment",
        Role.OPERATOR,
        models.EnrollTokensQuery,
    ),
    Route(
        "DELETE",
        "/api/v1/enroll/tokens/{id}",
        revoke_token,
        models.EnrollTokenAnswer,
        "Revoke an enrolment token",
        "enrolment",
        Role.ADMIN,
        models.EnrollTokenParams,
        statuses=(404,),
    ),
    Route(
        "GET",
        "/api/v1/enroll/agents",
        enrolled,
        models.EnrolledAnswer,
        "List enrolled agents",
        "enrolment",
        Role.VIEWER,
        models.EnrolledQuery,
    ),
    Route(
        "POST",
        f"{_AGENT}/approve",
        approve,
        models.ApprovalAnswer,
        "Approve an agent that waits",
        "enrolment",
        Role.ADMIN,
        models.EnrolledParams,
        statuses=(403, 404),
    ),
    Route(
        "POST",
        f"{_AGENT}/reject",
        reject,
        models.ApprovalAnswer,
        "Shut an agent out that waits",
        "enrolment",
        Role.ADMIN,
        models.EnrolledParams,
        statuses=(404, 409),
    ),
    Route(
        "POST",
        f"{_AGENT}/revoke",
        revoke,
        models.ApprovalAnswer,
        "Revoke an agent for good",
        "enrolment",
        Role.ADMIN,
        models.EnrolledParams,
        statuses=(404,),
    ),
)
