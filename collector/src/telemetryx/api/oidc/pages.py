"""The two pages of a sign-in at a provider, which browsers walk through: /api/v1/oidc/login and /api/v1/oidc/callback.

    console ─▶ login: a secret in a cookie ─▶ the provider ─▶ callback: state, code ─▶ redeemed ─▶ a session ─▶ console

Who comes back without the cookie of the attempt is refused: nobody can be made to finish what another began. Whatever goes wrong
ends on the console's sign-in page with a word that says why; reasons are in the log and the audit log.
"""

import hmac
import secrets
from dataclasses import replace
from typing import Final

import structlog
from aiohttp import web

from telemetryx.api import session, throttle
from telemetryx.api.auth import CALLER, MAX_COOKIE
from telemetryx.api.errors import Handler, NotFound
from telemetryx.api.oidc.refused import SignInRefused, Why
from telemetryx.api.world import SignIn, World
from telemetryx.store.accounts import AccountRefused, Arrival
from telemetryx.store.audit import Actor, Entry

log = structlog.get_logger(__name__)

LOGIN: Final = "/api/v1/oidc/login"
CALLBACK: Final = "/api/v1/oidc/callback"
COOKIE: Final = "telemetryx_signin"
LIFETIME_S: Final = 900
MAX_CODE: Final = 4_096


def login(world: World) -> Handler:
    """Send the browser to the provider, with the secret of a new attempt."""

    async def handle(request: web.Request) -> web.StreamResponse:
        del request
        provider = _provider(world)
        secret = secrets.token_urlsafe(session.BYTES)
        try:
            address = await provider.address(secret)
        except SignInRefused as error:
            return _failed(world, provider, error.why, str(error))
        response = _to(address)
        # Lax: the provider's page, on another site, leads back here.
        response.set_cookie(
            world.gate.cookie(COOKIE),
            secret,
            max_age=LIFETIME_S,
            httponly=True,
            secure=world.gate.secure,
            samesite="Lax",
            path="/",
        )
        return response

    return handle


def callback(world: World) -> Handler:
    """Take the browser back, with what the provider says about its person."""

    async def handle(request: web.Request) -> web.StreamResponse:
        provider = _provider(world)
        own = replace(world, caller=request[CALLER])
        try:
            response = await _signed_in(own, provider, request)
        except SignInRefused as error:
            response = _failed(own, provider, error.why, str(error))
            if error.why in {"role", "name", "token", "refused"}:
                await own.store.audit(_refusal(own, provider, str(error)))
        # An attempt has one answer.
        response.del_cookie(
            world.gate.cookie(COOKIE), path="/", secure=world.gate.secure, httponly=True, samesite="Lax"
        )
        return response

    return handle


async def _signed_in(world: World, provider: SignIn, request: web.Request) -> web.Response:
    secret = request.cookies.get(world.gate.cookie(COOKIE), "")
    state, code = request.query.get("state", ""), request.query.get("code", "")
    if not 0 < len(secret) <= MAX_COOKIE or not hmac.compare_digest(
        state.encode("utf-8", "replace"), provider.state(secret).encode()
    ):
        raise SignInRefused("expired", "this browser has begun no such sign-in, or too long ago")
    if not 0 < len(code) <= MAX_CODE:
        raise SignInRefused("refused", f"the provider says {request.query.get('error', 'nothing')[:100]!r}")
    guesses = throttle.source("oidc", world.caller.peer)
    accounts = world.store.accounts
    if wait_ns := await accounts.attempt(guesses):
        raise SignInRefused(
            "wait", f"too many sign-ins came to nothing; {wait_ns / session.NS:.0f} s to wait"
        )
    try:
        who = await provider.redeem(code, secret, request.query.get("iss"))
        account = await accounts.arrive(who, _actor(who, world))
    except AccountRefused as error:
        raise SignInRefused("name", str(error)) from error
    except SignInRefused as error:
        if error.why in {"unreachable", "wait"}:
            await accounts.not_tried(guesses)
        raise
    await accounts.succeeded(guesses)
    until_ns = world.clock.now_ns() + provider.lifetime_ns
    reply = await session.begin(
        world, Actor(account.name, "console", world.caller.peer), account=account, until_ns=until_ns
    )
    response = _to("/")
    if reply.prepare is not None:
        reply.prepare(response)
    return response


def _provider(world: World) -> SignIn:
    if world.sign_in is None:
        raise NotFound("nobody signs in at a provider here", "set issuer in [api.oidc]")
    return world.sign_in


def _actor(who: Arrival, world: World) -> Actor:
    return Actor(who.name, "console", world.caller.peer)


def _refusal(world: World, provider: SignIn, reason: str) -> Entry:
    after = {"issuer": provider.issuer, "reason": reason}
    return Entry(Actor("unknown", "console", world.caller.peer), "session.refuse", "", None, after)


def _failed(world: World, provider: SignIn, why: Why, reason: str) -> web.Response:
    log.warning("oidc.refused", why=why, reason=reason, issuer=provider.issuer, peer=world.caller.peer)
    return _to(f"/#/signin?failed={why}")


def _to(address: str) -> web.Response:
    return web.Response(status=303, headers={"Location": address})
