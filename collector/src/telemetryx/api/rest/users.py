"""/api/v1/users: people's accounts, for admins."""

from dataclasses import asdict
from typing import Any, Final

from telemetryx.api import models
from telemetryx.api.errors import ApiError, BadRequest, Conflict, NotFound
from telemetryx.api.route import Model, Route
from telemetryx.api.session import check_password
from telemetryx.api.world import World
from telemetryx.store.accounts import Account, AccountRefused, ApiToken, Role, role_of


async def users(world: World, params: Model) -> dict[str, Any]:
    """Return all accounts."""
    del params
    return {"users": [_shown(one) for one in await world.store.accounts.all()]}


async def add(world: World, params: Model, body: models.UserBody) -> dict[str, Any]:
    """Make one."""
    del params
    refuse_open(world)
    check_password(body.name, body.password)
    hashed = await world.passwords.hash(body.password)
    try:
        await world.store.accounts.add(body.name, role_of(body.role), hashed, world.caller.actor())
    except AccountRefused as error:
        raise refusal(error) from error
    return await _now(world, body.name)


async def change(world: World, params: models.UserParams, body: models.UserChangeBody) -> dict[str, Any]:
    """Change one's role or password."""
    refuse_open(world)
    accounts, by = world.store.accounts, world.caller.actor()
    if body.role is None and body.password is None:
        raise BadRequest("nothing is to change", "give a role or a password")
    if body.password is not None:
        if world.caller.account is not None and params.name == world.caller.name:
            raise Conflict(
                "this is your own password", "POST /api/v1/password changes it: it asks for the old one too"
            )
        check_password(params.name, body.password)
    try:
        if body.role is not None:
            await accounts.change_role(params.name, role_of(body.role), by)
        if body.password is not None:
            await accounts.change_password(params.name, await world.passwords.hash(body.password), by)
    except AccountRefused as error:
        raise refusal(error) from error
    return await _now(world, params.name)


async def remove(world: World, params: models.UserRemoveParams) -> dict[str, Any]:
    """Delete one; its sessions end."""
    try:
        left = await world.store.accounts.remove(
            params.name, world.caller.actor(), revoke_tokens=params.revoke_tokens
        )
    except AccountRefused as error:
        raise refusal(error) from error
    return {"name": params.name, "tokens": [token_shown(one) for one in left]}


async def _now(world: World, name: str) -> dict[str, Any]:
    """Return an account as the list has it."""
    found = next((one for one in await world.store.accounts.all() if one.name == name), None)
    if found is None:
        raise NotFound(f"there is no account {name!r} any more", "GET /api/v1/users lists them")
    return _shown(found)


def refuse_open(world: World) -> None:
    """Keep whoever finds an open API from shutting everybody else out with an account or a token."""
    if world.caller.via == "open":
        raise Conflict(
            "this collector has no accounts yet, and anybody on its machine may do anything",
            "set accounts = true in [api] and restart, or make the first one with `telemetryx user add NAME --role admin`",
        )


def refusal(error: AccountRefused) -> ApiError:
    """Say what can't be done."""
    if error.missing:
        return NotFound(str(error), "GET /api/v1/users and /api/v1/tokens list what there is")
    return Conflict(str(error))


def _shown(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "role": account.role.word,
        "created_ns": account.created_ns,
        "login_ns": account.login_ns,
        "issuer": account.issuer,
        "sessions": account.sessions,
        "tokens": account.tokens,
    }


def token_shown(token: ApiToken) -> dict[str, Any]:
    """Return a token as the API has it."""
    return {**asdict(token), "role": token.role.word}


ROUTES: Final = (
    Route("GET", "/api/v1/users", users, models.UsersAnswer, "List accounts", "accounts", Role.ADMIN),
    Route(
        "POST",
        "/api/v1/users",
        add,
        models.User,
        "Make an account",
        "accounts",
        Role.ADMIN,
        body=models.UserBody,
        statuses=(409,),
    ),
    Route(
        "PATCH",
        "/api/v1/users/{name}",
        change,
        models.User,
        "Change an account's role or password",
        "accounts",
        Role.ADMIN,
        models.UserParams,
        body=models.UserChangeBody,
        statuses=(404, 409),
    ),
    Route(
        "DELETE",
        "/api/v1/users/{name}",
        remove,
        models.RemovedAnswer,
        "Delete an account; its sessions end",
        "accounts",
        Role.ADMIN,
        models.UserRemoveParams,
        statuses=(404, 409),
    ),
)
