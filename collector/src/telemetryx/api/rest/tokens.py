"""/api/v1/tokens: tokens of programs, for admins."""

import secrets
from typing import Any, Final

from telemetryx.api import models
from telemetryx.api.errors import BadRequest
from telemetryx.api.rest.users import refusal, refuse_open, token_shown
from telemetryx.api.route import Model, Route
from telemetryx.api.world import World
from telemetryx.store.accounts import LONGEST_TOKEN_NS, AccountRefused, Role, digest, role_of

BYTES: Final = 32


def new_token() -> str:
    """Make a token that nobody can guess."""
    return f"tx_{secrets.token_urlsafe(BYTES)}"


async def tokens(world: World, params: Model) -> dict[str, Any]:
    """Return all tokens."""
    del params
    return {"tokens": [token_shown(one) for one in await world.store.accounts.tokens()]}


async def create(world: World, params: Model, body: models.TokenBody) -> dict[str, Any]:
    """Make one; it is shown once."""
    del params
    refuse_open(world)
    if not 0 < body.expires <= LONGEST_TOKEN_NS:
        raise BadRequest("a token holds for at most ten years", "e.g. expires=90d")
    token = new_token()
    until = world.clock.now_ns() + body.expires
    try:
        made = await world.store.accounts.add_token(
            body.name, digest(token), role_of(body.role), until, world.caller.actor()
        )
    except AccountRefused as error:
        raise refusal(error) from error
    return {**token_shown(made), "token": token}


async def revoke(world: World, params: models.TokenParams) -> dict[str, Any]:
    """End one."""
    try:
        return token_shown(await world.store.accounts.revoke_token(params.id, world.caller.actor()))
    except AccountRefused as error:
        raise refusal(error) from error


ROUTES: Final = (
    Route(
        "GET",
        "/api/v1/tokens",
        tokens,
        models.TokensAnswer,
        "List tokens of programs",
        "accounts",
        Role.ADMIN,
    ),
    Route(
        "POST",
        "/api/v1/tokens",
        create,
        models.TokenMadeAnswer,
        "Make a token",
        "accounts",
        Role.ADMIN,
        body=models.TokenBody,
        statuses=(409,),
    ),
    Route(
        "DELETE",
        "/api/v1/tokens/{id}",
        revoke,
        models.Token,
        "Revoke a token",
        "accounts",
        Role.ADMIN,
        models.TokenParams,
        statuses=(404,),
    ),
)
