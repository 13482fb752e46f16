"""Every route of the running API, with everybody who may come: whom it lets in is written down here, and a route that isn't is no route.

What is asked is never right: a parameter or a field that no endpoint has. So who is let in gets 400 or the like, and nothing is changed.
"""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from aiohttp import DummyCookieJar

from api.test_accounts import BY, HASHED, Browser, bearer, browser
from running import Running, S
from telemetryx.api.auth import COOKIE, CSRF
from telemetryx.store.accounts import Role, digest

#: As docs/how-to/accounts.md says it. HEAD goes with GET.
TABLE: Final = {
    Role.ANYONE: """
        GET /healthz
        GET /readyz
        GET /{path}
        GET /api/v1/login
        POST /api/v1/login
        POST /api/v1/first
        GET /api/v1/oidc/login
        GET /api/v1/oidc/callback
        POST /api/v1/enroll
        GET /api/v1/enroll/challenge
        POST /api/v1/enroll/renew
    """,
    Role.VIEWER: """
        GET /api/v1/me
        POST /api/v1/logout
        POST /api/v1/password
        GET /api/v1/agents
        GET /api/v1/agents/{name}
        GET /api/v1/devices
        GET /api/v1/loss
        GET /api/v1/series
        GET /api/v1/latest
        GET /api/v1/query_range
        GET /api/v1/aggregate
        GET /api/v1/events
        GET /api/v1/alerts
        GET /api/v1/rules
        GET /api/v1/silences
        GET /api/v1/quarantine
        GET /api/v1/quarantine/{id}
        GET /api/v1/enroll/agents
        GET /api/v1/configs
        GET /api/v1/configs/states
        GET /api/v1/status
        GET /api/v1/models
        GET /api/v1/live
        GET /api/v1/export/{kind}
        GET /metrics
        GET /openapi.json
        GET /prometheus/api/v1/query
        POST /prometheus/api/v1/query
        GET /prometheus/api/v1/query_range
        POST /prometheus/api/v1/query_range
        GET /prometheus/api/v1/query_exemplars
        POST /prometheus/api/v1/query_exemplars
        GET /prometheus/api/v1/series
        POST /prometheus/api/v1/series
        GET /prometheus/api/v1/labels
        POST /prometheus/api/v1/labels
        GET /prometheus/api/v1/label/{name}/values
        GET /prometheus/api/v1/metadata
        GET /prometheus/api/v1/rules
        GET /prometheus/api/v1/alerts
        GET /prometheus/api/v1/status/buildinfo
        GET /prometheus/-/healthy
        GET /prometheus/-/ready
        * /prometheus/{path}
    """,
    Role.OPERATOR: """
        POST /api/v1/alerts/{id}/acknowledge
        DELETE /api/v1/alerts/{id}/acknowledge
        POST /api/v1/silences
        DELETE /api/v1/silences/{id}
        POST /api/v1/quarantine/{id}/release
        DELETE /api/v1/quarantine/{id}
        GET /api/v1/enroll/tokens
        GET /api/v1/configs/{id}
        POST /api/v1/agents/{name}/log-level
        POST /api/v1/agents/{name}/diagnostics
        GET /api/v1/requests
        GET /api/v1/requests/{id}
        GET /api/v1/requests/{id}/answer
    """,
    Role.ADMIN: """
        POST /api/v1/enroll/tokens
        DELETE /api/v1/enroll/tokens/{id}
        POST /api/v1/enroll/agents/{name}/approve
        POST /api/v1/enroll/agents/{name}/reject
        POST /api/v1/enroll/agents/{name}/revoke
        POST /api/v1/configs
        POST /api/v1/configs/check
        POST /api/v1/configs/{id}/take-back
        POST /api/v1/configs/{id}/push-again
        GET /api/v1/users
        POST /api/v1/users
        PATCH /api/v1/users/{name}
        DELETE /api/v1/users/{name}
        GET /api/v1/tokens
        POST /api/v1/tokens
        DELETE /api/v1/tokens/{id}
        GET /api/v1/audit
    """,
}
#: Not under a session's own CSRF token: nobody is logged in yet, or it is an agent that asks.
WITHOUT: Final = {"/api/v1/login", "/api/v1/first", "/api/v1/enroll", "/api/v1/enroll/renew"}
NAMES: Final = {"id": "1", "name": "edge", "kind": "samples", "path": "console.css"}


def written() -> Iterator[tuple[str, str, Role]]:
    """Every line of the table."""
    for role, lines in TABLE.items():
        for line in lines.split("\n"):
            if line.strip():
                method, path = line.split()
                yield method, path, role


def served(api: Running) -> set[tuple[str, str]]:
    """What the running router has."""
    found = {
        (route.method, route.resource.canonical)
        for route in api.client.app.router.routes()
        if route.resource is not None
    }
    assert all(method != "HEAD" or ("GET", path) in found for method, path in found)
    return {(method, path) for method, path in found if method != "HEAD"}


async def ask(api: Running, method: str, path: str, headers: dict[str, str]) -> int:
    """Ask for what no endpoint gives."""
    api.client.session._cookie_jar = DummyCookieJar()
    json = None if method in {"GET", "HEAD", "DELETE"} else {"no_such_field": 1}
    target = f"{path.format(**NAMES)}?no_such_parameter=1"
    async with api.client.request(
        "PUT" if method == "*" else method, target, headers=headers, json=json, allow_redirects=False
    ) as answer:
        await answer.read()
        return answer.status


@pytest.fixture
async def closed(start: Any) -> Running:
    """An API that asks for accounts, with one of each role."""
    api: Running = await start(closed=True)
    for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER):
        await api.world.store.accounts.add(role.word, role, HASHED, BY)
    return api


async def session(api: Running, user: str) -> dict[str, str]:
    """Headers of a page of somebody who is logged in."""
    ana = await browser(api, user)
    return {"Cookie": f"{COOKIE}={ana.cookies[COOKIE]}", CSRF: ana.csrf}


async def token_session(api: Running, role: Role) -> dict[str, str]:
    """Headers of a page of somebody who logged in with a token."""
    ana, text = Browser(api), f"tx_{role.word}_in_a_browser"
    end = api.clock.now_ns() + 7 * 86_400 * S
    await api.world.store.accounts.add_token(f"{role.word} in a browser", digest(text), role, end, BY)
    await ana.send("POST", "/login", token=text)
    return {"Cookie": f"{COOKIE}={ana.cookies[COOKIE]}", CSRF: ana.csrf}


async def strangers(api: Running) -> dict[str, dict[str, str]]:
    """Headers of those who are nobody, or aren't any more."""
    accounts = api.world.store.accounts
    ended = await session(api, "admin")
    await api.client.post("/api/v1/logout", headers=ended, json={})
    await accounts.add("gone", Role.ADMIN, HASHED, BY)
    gone = await session(api, "gone")
    await accounts.remove("gone", BY)
    revoked = "tx_revoked_0123456789"
    row = await accounts.add_token("r", digest(revoked), Role.ADMIN, api.clock.now_ns() + 9_999 * S, BY)
    of_revoked = Browser(api)
    await of_revoked.send("POST", "/login", token=revoked)
    await accounts.revoke_token(row.id, BY)
    late = "tx_expired_0123456789"
    await accounts.add_token("e", digest(late), Role.ADMIN, api.clock.now_ns() + 60 * S, BY)
    of_late = Browser(api)
    await of_late.send("POST", "/login", token=late)
    expired = await session(api, "admin")
    # An hour is a session's lifetime here; whoever comes later logs in anew.
    api.clock.advance(3_601 * S)
    return {
        "nobody": {},
        "a planted cookie": {"Cookie": f"{COOKIE}={'A' * 43}", CSRF: "x"},
        "a session that ended": ended,
        "a session past its time": expired,
        "a session of a removed account": gone,
        "a session of a revoked token": {"Cookie": f"{COOKIE}={of_revoked.cookies[COOKIE]}"},
        "a session of an expired token": {"Cookie": f"{COOKIE}={of_late.cookies[COOKIE]}"},
        "a token that nobody made": {"Authorization": "Bearer tx_admin_00000000000"},
        "a revoked token": {"Authorization": f"Bearer {revoked}"},
        "an expired token": {"Authorization": f"Bearer {late}"},
        "an empty token": {"Authorization": "Bearer "},
        "a password as basic": {"Authorization": "Basic YWRtaW46Y29ycmVjdA=="},
        "somebody who says who they are": {"X-Forwarded-User": "admin", "X-Forwarded-For": "127.0.0.1"},
    }


async def test_the_table_is_what_is_served(api: Running) -> None:
    """A new route is written down here, with whom it lets in, or this fails; so is one that went."""
    rows = list(written())
    assert len(rows) == len({(method, path) for method, path, _ in rows})
    assert served(api) == {(method, path) for method, path, _ in rows}


async def test_each_route_lets_in_whom_it_shall_and_nobody_else(closed: Running) -> None:
    """By session, by token, by a session of a token: everybody from their role on. Who is nobody is asked to log in."""
    nobodies = await strangers(closed)
    people: dict[str, tuple[Role, dict[str, str]]] = {}
    for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN):
        people[f"{role.word}'s session"] = role, await session(closed, role.word)
        people[f"{role.word}'s token"] = role, await bearer(closed, role)
        people[f"{role.word}'s token in a browser"] = role, await token_session(closed, role)
    wrong = []
    for method, path, needed in written():
        for who, headers in nobodies.items():
            status = await ask(closed, method, path, headers)
            if (status == 401) is not (needed is not Role.ANYONE):
                wrong.append(f"{method} {path}: {who} gets {status}")
        for who, (role, headers) in people.items():
            status = await ask(closed, method, path, headers)
            if (status == 403) is not (role < needed) or status == 401:
                wrong.append(f"{method} {path}: {who} gets {status}")
    assert wrong == []


async def test_a_program_whose_token_does_not_hold_is_told_so(closed: Running) -> None:
    """Not that it needs a login: it showed something."""
    for who, headers in (await strangers(closed)).items():
        async with closed.client.get("/api/v1/agents", headers=headers) as answer:
            message = (await answer.json())["error"]["message"]
        assert message.startswith("this token isn't known here") is ("Authorization" in headers), who


async def test_each_change_by_a_session_needs_that_sessions_csrf_token(closed: Running) -> None:
    """None, another session's, and its own from another site's page: all are refused, on every route that isn't for reading."""
    mine, other = await session(closed, "admin"), await session(closed, "admin")
    cookie = {"Cookie": mine["Cookie"]}
    wrong = []
    for method, path, _ in written():
        if method == "GET":
            continue
        forged = {
            "no token": cookie,
            "another session's": {**cookie, CSRF: other[CSRF]},
            "an empty one": {**cookie, CSRF: ""},
        }
        for what, headers in forged.items() if path not in WITHOUT else ():
            if (status := await ask(closed, method, path, headers)) != 403:
                wrong.append(f"{method} {path}: {what} gets {status}")
        for origin in ("https://evil.example", "null"):
            status = await ask(closed, method, path, {**mine, "Origin": origin})
            wrong += [f"{method} {path}: a page of {origin} gets {status}"] if status != 403 else []
        if (status := await ask(closed, method, path, mine)) == 403:
            wrong.append(f"{method} {path}: its own gets {status}")
    assert wrong == []
