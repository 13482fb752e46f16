"""A method that a path doesn't take: 405 with those that it does, for every route there is, and to nobody who may not ask at all."""

import re
from typing import Any

import pytest

from running import Running
from telemetryx.api.world import PartState

ALL = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
FILES, REST = "/{path}", "/prometheus/{path}"


def endpoints(api: Running) -> dict[str, set[str]]:
    """Every path of the running API, with its methods."""
    app: Any = api.client.app
    found: dict[str, set[str]] = {}
    for route in app.router.routes():
        if route.resource is not None and route.resource.canonical not in {FILES, REST}:
            found.setdefault(route.resource.canonical, set()).add(route.method)
    return found


def elsewhere(table: dict[str, set[str]], path: str, method: str) -> bool:
    """Whether the path is another endpoint's too, with a name in it: that one answers."""
    return any(
        method in methods and re.fullmatch(re.sub(r"{\w+}", "[^/]+", other), filled(path))
        for other, methods in table.items()
    )


def filled(path: str) -> str:
    """Put something into a path's holes."""
    return path.replace("{id}", "1").replace("{kind}", "samples").replace("{name}", "x")


@pytest.fixture
async def closed(start: Any) -> Running:
    """An API that needs an account."""
    running: Running = await start(closed=True)
    return running


async def test_every_path_names_the_methods_that_it_takes(api: Running) -> None:
    """In `Allow` and in the error, in the shape that the path's other errors have."""
    table = endpoints(api)
    assert {"/api/v1/query_range", "/prometheus/api/v1/query", "/metrics", "/healthz"} <= set(table)
    for path, methods in table.items():
        for method in sorted(set(ALL) - methods):
            if elsewhere(table, path, method):
                continue
            async with api.client.request(method, filled(path)) as answer:
                assert answer.status == 405, (method, path, await answer.text())
                allowed = set(answer.headers["Allow"].split(", "))
                assert methods <= allowed, (method, path)
                assert method not in allowed, (method, path)
                if method == "HEAD":
                    continue
                body = await answer.json()
            if path.startswith("/prometheus/"):
                assert (body["status"], body["errorType"]) == ("error", "bad_data"), (method, path)
            else:
                assert body["error"]["code"] == "method_not_allowed", (method, path)
                assert body["error"]["hint"] == f"use {', '.join(sorted(allowed))}", (method, path)


async def test_who_looks_without_reading_hears_what_who_reads_does(api: Running) -> None:
    """A probe may send HEAD: that of a collector that isn't ready was answered with the console's page."""
    table = endpoints(api)
    readable = {path for path, methods in table.items() if "GET" in methods}
    assert {path for path in readable if "HEAD" not in table[path]} == {
        "/api/v1/oidc/login",
        "/api/v1/oidc/callback",
        "/api/v1/requests/{id}/answer",
    }
    api.broken.append(PartState("store", ready=False, reason="gone"))
    for path, status in (("/healthz", 200), ("/readyz", 503), ("/api/v1/agents", 200), ("/metrics", 200)):
        async with api.client.head(path) as answer:
            assert answer.status == status, path
            assert await answer.read() == b""


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/prometheus/api/v1/nothing", "/api/v1/agents/x/y/z"])
@pytest.mark.parametrize("method", [one for one in ALL if one != "HEAD"])
async def test_where_nothing_is_every_method_hears_so(api: Running, method: str, path: str) -> None:
    """Also one that would be right for a file of the console."""
    async with api.client.request(method, path) as answer:
        assert answer.status == 404
        assert "Allow" not in answer.headers
        assert path in await answer.text()


async def test_the_consoles_files_are_read_and_nothing_else(api: Running) -> None:
    """Whatever page a link leads to."""
    for path in ("/", "/index.html", "/fleet"):
        async with api.client.post(path) as answer:
            assert answer.status == 405
            assert answer.headers["Allow"] == "GET, HEAD"


async def test_who_may_not_ask_learns_nothing_of_methods(closed: Running) -> None:
    """A path that takes the method, one that doesn't, and one that isn't there answer a stranger alike."""
    said = set()
    for method, path in (
        ("GET", "/api/v1/series"),
        ("POST", "/api/v1/series"),
        ("POST", "/api/v1/nothing"),
        ("GET", "/api/v1/logout"),
        ("DELETE", "/api/v1/users"),
        ("DELETE", "/api/v1/login"),
    ):
        async with closed.client.request(method, path) as answer:
            assert "Allow" not in answer.headers
            said.add((answer.status, await answer.text()))
    assert len(said) == 1
    assert said.pop()[0] == 401
    prometheus = set()
    for method, path in (("GET", "query"), ("DELETE", "query"), ("DELETE", "nothing")):
        async with closed.client.request(method, f"/prometheus/api/v1/{path}") as answer:
            assert "Allow" not in answer.headers
            prometheus.add((answer.status, await answer.text()))
    assert len(prometheus) == 1
