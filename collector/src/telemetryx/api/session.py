"""Logging in and out: /api/v1/login, /first, /me, /logout, /password; at a provider: oidc/pages.py.

A browser shows a password or a token once and keeps a cookie that scripts can't read. Each login makes a new session with an id
that nobody has seen before, and ends the one that the browser came with: an id that somebody planted there is worth nothing.
"""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import web

from telemetryx.api import models, passwords, throttle
from telemetryx.api.auth import COOKIE, DEVICE, csrf_of
from telemetryx.api.caller import Caller
from telemetryx.api.errors import BadRequest, Conflict, TooMany, Unauthorized, Unavailable
from telemetryx.api.route import Model, Reply, Route
from telemetryx.api.world import World
from telemetryx.store.accounts import Account, AccountRefused, Guess, NewSession, Role, digest
from telemetryx.store.audit import Actor, Entry

NS: Final = 1_000_000_000
BYTES: Final = 32
DEVICE_LIFETIME_S: Final = 365 * 86_400
FIRST_LIFETIME_NS: Final = 3_600 * NS


async def ways(world: World, params: Model) -> dict[str, Any]:
    """Say how people get in, beside with an account or a token."""
    del params
    return {"provider": None if world.sign_in is None else world.sign_in.name}


async def login(world: World, params: Model, body: models.LoginBody) -> Reply:
    """Exchange a password or a token for a session."""
    del params
    if await world.gate.open(world.store.accounts):
        return Reply({"ok": True, "needed": False})
    if body.token is not None and body.user is None and body.password is None:
        return await _with_token(world, body.token)
    if body.token is None and body.user is not None and body.password is not None:
        return await _with_password(world, body.user.strip().lower(), body.password)
    raise BadRequest("a login is a user with a password, or a token", 'send {"user": …, "password": …}')


async def _with_password(world: World, name: str, password: str) -> Reply:
    accounts, caller = world.store.accounts, world.caller
    mark = await _known(world, name)
    guesses = throttle.stranger(name, caller.peer) if mark is None else throttle.known(mark)
    await _attempt(world, guesses)
    account = await accounts.account(name)
    if account is not None and account.issuer is not None:
        # Who signs in at a provider has no password here: it takes as long, and says the same, as for a name that nobody has.
        account = None
    try:
        right = await world.passwords.right(
            passwords.NOBODY if account is None else account.password, password, known=mark is not None
        )
    except Unavailable:
        await accounts.not_tried(guesses)
        raise
    if account is None or not right:
        # A name that nobody has may be a password in the wrong field: it is not written down.
        named = "" if account is None else account.name
        await world.store.audit(Entry(_actor(named or "unknown", caller), "session.refuse", named))
        raise Unauthorized(
            "user or password is wrong", "an admin can set a new password: `telemetryx user passwd`"
        )
    await accounts.succeeded(guesses)
    if passwords.outdated(account.password):
        await accounts.rehash(account.id, account.password, await world.passwords.hash(password))
    return await begin(world, _actor(account.name, caller), account=account)


async def _known(world: World, name: str) -> bytes | None:
    """Return the mark of a browser that this person has used before, or is logged in with."""
    caller = world.caller
    if caller.device is not None and await world.store.accounts.knows_device(caller.device, name):
        return caller.device
    return caller.session if caller.account is not None and caller.name == name else None


async def _with_token(world: World, token: str) -> Reply:
    guesses = throttle.source("token", world.caller.peer)
    await _attempt(world, guesses)
    known = world.gate.knows(token)
    found = None if known is not None else await world.store.accounts.token(digest(token))
    if known is None and found is None:
        await world.store.audit(Entry(_actor("unknown", world.caller), "session.refuse"))
        raise Unauthorized("this token isn't known", "`telemetryx token create` makes one")
    await world.store.accounts.succeeded(guesses)
    if found is not None:
        return await begin(
            world, _actor(f"token {found.name}", world.caller), token=found.id, until_ns=found.expires_ns
        )
    return await begin(world, _actor("token file", world.caller), mark=known)


async def _attempt(world: World, guesses: Sequence[Guess]) -> None:
    wait_ns = await world.store.accounts.attempt(guesses)
    if wait_ns:
        raise TooMany(
            "too many wrong logins", f"wait {wait_ns / NS:.0f} s, then try again", retry_after=wait_ns / NS
        )


async def begin(
    world: World,
    by: Actor,
    *,
    account: Account | None = None,
    token: int | None = None,
    mark: bytes | None = None,
    until_ns: int | None = None,
) -> Reply:
    """Begin a session and make the cookies."""
    gate = world.gate
    cookie, device = secrets.token_urlsafe(BYTES), secrets.token_urlsafe(BYTES)
    now_ns = world.clock.now_ns()
    expires_ns = now_ns + gate.session_lifetime_ns
    if until_ns is not None:
        expires_ns = min(expires_ns, until_ns)
    guessable = account is not None and account.issuer is None
    new = NewSession(
        digest(cookie),
        expires_ns,
        account=None if account is None else account.id,
        token=token,
        mark=None if mark is None else digest_of(mark),
        replaces=world.caller.session,
        device=digest(device) if guessable else None,
    )
    await world.store.accounts.open_session(new, by)

    def prepare(response: web.StreamResponse) -> None:
        _keep(response, gate.cookie(COOKIE), cookie, (expires_ns - now_ns) // NS, secure=gate.secure)
        if guessable:
            _keep(response, gate.cookie(DEVICE), device, DEVICE_LIFETIME_S, secure=gate.secure)

    return Reply({"ok": True, "needed": True, "csrf": csrf_of(cookie)}, prepare=prepare)


def _keep(response: web.StreamResponse, name: str, value: str, lifetime_s: int, *, secure: bool) -> None:
    response.set_cookie(
        name, value, max_age=lifetime_s, httponly=True, secure=secure, samesite="Strict", path="/"
    )


def digest_of(known: bytes) -> bytes:
    """Return what a session keeps of a token of the file: the digest's digest, so that the store doesn't hold the digest."""
    return hashlib.sha256(known).digest()


async def first(world: World, params: Model, body: models.FirstBody) -> Reply:
    """Make the first account, an admin, by the link that the collector printed."""
    del params
    name = body.name.strip().lower()
    check_password(name, body.password)
    guesses = throttle.source("first", world.caller.peer)
    await _attempt(world, guesses)
    hashed = await world.passwords.hash(body.password)
    try:
        made = await world.store.accounts.redeem_first(digest(body.code), name, hashed, world.caller.peer)
    except AccountRefused as error:
        await world.store.accounts.not_tried(guesses)
        raise BadRequest(str(error), "choose another name") from error
    if made is None:
        raise Unauthorized(
            "this link doesn't hold: it was used, is older than an hour, or there is an account already",
            "restart the collector for a new one, or use `telemetryx user add`",
        )
    await world.store.accounts.succeeded(guesses)
    return await begin(world, _actor(made.name, world.caller), account=made)


async def me(world: World, params: Model) -> dict[str, Any]:
    """Say who asks."""
    del params
    caller = world.caller
    account = await world.store.accounts.account(caller.name) if caller.account is not None else None
    return {
        "name": caller.name,
        "role": caller.role.word,
        "via": caller.via,
        "account": caller.account is not None,
        "issuer": None if account is None else account.issuer,
        "csrf": caller.csrf,
    }


async def logout(world: World, params: Model, body: models.LogoutBody) -> Reply:
    """End the session, or all sessions of the account."""
    del params
    caller, accounts = world.caller, world.store.accounts
    account = await accounts.account(caller.name) if caller.account is not None else None
    if body.everywhere and caller.account is not None:
        await accounts.close_sessions(caller.account, caller.actor())
    elif caller.session is not None:
        await accounts.close_session(caller.session, caller.actor())
    elsewhere = account is not None and account.issuer is not None and world.sign_in is not None
    url = await world.sign_in.leave() if elsewhere and world.sign_in is not None else None
    return Reply({"ok": True, "url": url}, prepare=_forget(world))


def _forget(world: World) -> Callable[[web.StreamResponse], None]:
    def prepare(response: web.StreamResponse) -> None:
        name = world.gate.cookie(COOKIE)
        response.del_cookie(name, path="/", secure=world.gate.secure, httponly=True, samesite="Strict")

    return prepare


async def password(world: World, params: Model, body: models.PasswordBody) -> Reply:
    """Change one's own password; every session of the account ends, and this browser gets a new one."""
    del params
    caller, accounts = world.caller, world.store.accounts
    account = await accounts.account(caller.name) if caller.account is not None else None
    if account is None or caller.session is None:
        raise Conflict("this is no account's session", "log in with user and password")
    if account.issuer is not None:
        raise Conflict(f"{account.name} has no password here", f"change it at {account.issuer}")
    check_password(account.name, body.new)
    guesses = throttle.known(caller.session)
    await _attempt(world, guesses)
    if not await world.passwords.right(account.password, body.old, known=True):
        await world.store.audit(Entry(caller.actor(), "user.password_refuse", account.name))
        raise BadRequest("the old password is wrong", "an admin can set a new one")
    await accounts.succeeded(guesses)
    await accounts.change_password(account.name, await world.passwords.hash(body.new), caller.actor())
    return await begin(world, caller.actor(), account=account)


def check_password(name: str, password: str) -> None:
    """Refuse a password that can be guessed."""
    if (why := passwords.weakness(name, password)) is not None:
        raise BadRequest(why, "a sentence of four words is good, and easy to keep in mind")


def _actor(name: str, caller: Caller) -> Actor:
    return Actor(name, "console", caller.peer)


ROUTES: Final = (
    Route(
        "GET",
        "/api/v1/login",
        ways,
        models.WaysAnswer,
        "Say how people get in, beside with an account or a token",
        "accounts",
        Role.ANYONE,
    ),
    Route(
        "POST",
        "/api/v1/login",
        login,
        models.LoginAnswer,
        "Get a browser session for a password or a token",
        "accounts",
        Role.ANYONE,
        body=models.LoginBody,
    ),
    Route(
        "POST",
        "/api/v1/first",
        first,
        models.LoginAnswer,
        "Make the first account by the link that the collector printed",
        "accounts",
        Role.ANYONE,
        body=models.FirstBody,
    ),
    Route("GET", "/api/v1/me", me, models.MeAnswer, "Who asks", "accounts", Role.VIEWER),
    Route(
        "POST",
        "/api/v1/logout",
        logout,
        models.LogoutAnswer,
        "End the session",
        "accounts",
        Role.VIEWER,
        body=models.LogoutBody,
    ),
    Route(
        "POST",
        "/api/v1/password",
        password,
        models.LoginAnswer,
        "Change one's own password; all sessions of the account end",
        "accounts",
        Role.VIEWER,
        body=models.PasswordBody,
        statuses=(409,),
    ),
)
