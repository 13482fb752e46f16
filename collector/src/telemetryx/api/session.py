"""POST /api/v1/login: a browser shows a token once and keeps a cookie that scripts can't read."""

from typing import Any

from aiohttp import web

from telemetryx.api.auth import COOKIE, Gate
from telemetryx.api.errors import Unauthorized
from telemetryx.api.models import LoginAnswer, LoginBody
from telemetryx.api.route import Model, Reply, Route
from telemetryx.api.world import World


async def login(world: World, params: Model, body: LoginBody) -> Reply:
    """Exchange a token for a session."""
    del params
    return exchange(world.gate, body.token)


def exchange(gate: Gate, token: str) -> Reply:
    """Check the token and make the cookie; an open collector needs none and says so."""
    if not gate.tokens:
        return Reply({"ok": True, "needed": False})
    digest = gate.knows(token)
    if digest is None:
        raise Unauthorized("this token isn't known", "use a line of the collector's token_file")

    def prepare(response: web.StreamResponse) -> None:
        response.set_cookie(
            COOKIE,
            gate.session(digest),
            max_age=gate.session_lifetime_ns // 1_000_000_000,
            httponly=True,
            secure=gate.secure,
            samesite="Strict",
            path="/",
        )

    answer: dict[str, Any] = {"ok": True, "needed": True}
    return Reply(answer, prepare=prepare)


LOGIN = Route(
    "POST",
    "/api/v1/login",
    login,
    LoginAnswer,
    "Get a browser session for a token",
    "collector",
    body=LoginBody,
)
