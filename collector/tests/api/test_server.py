"""The server as a whole: one shape for errors, one guard, files with exact headers, health that tells the truth."""

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from yarl import URL

from running import T0, Running, S, key
from telemetryx.api.auth import read_tokens
from telemetryx.api.models import NotReadyAnswer
from telemetryx.api.routes import ROUTES
from telemetryx.api.world import Limits, PartState
from telemetryx.errors import StoreDamaged, StoreError, StoreUnavailable
from telemetryx.store.accounts import Role

TOKEN = "tx_0123456789abcdef"


async def _shape(
    client: TestClient[Any, Any], method: str, path: str, status: int, **more: Any
) -> dict[str, str]:
    async with client.request(method, path, **more) as answer:
        assert answer.status == status, await answer.text()
        assert answer.content_type == "application/json"
        body = await answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "hint"}
    assert all(isinstance(value, str) for value in body["error"].values())
    assert body["error"]["message"]
    return dict(body["error"])


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_every_endpoint_refuses_in_one_shape(api: Running, route: Any) -> None:
    """An unknown parameter, a wrong method: never HTML, never a bare text."""
    path = route.path.replace("{name}", "x").replace("{id}", "1")
    assert (await _shape(api.client, route.method, f"{path}?no_such=1", 400))["code"] == "bad_request"
    assert (await _shape(api.client, "PUT", path, 405))["code"] == "method_not_allowed"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_every_endpoint_but_the_open_ones_needs_a_token(start: Any, tmp_path: Path, route: Any) -> None:
    """A new endpoint is guarded without anybody thinking of it."""
    (tmp_path / "tokens").touch(mode=0o600)
    (tmp_path / "tokens").write_text(TOKEN)
    api = await start(tokens=read_tokens(tmp_path / "tokens"))
    path = route.path.replace("{name}", "x").replace("{id}", "1")
    if route.role is Role.ANYONE:
        async with api.client.request(route.method, path, json={} if route.body else None) as answer:
            assert answer.status == (400 if route.body else 200)
        return
    await _shape(api.client, route.method, path, 401)
    async with api.client.request(route.method, path, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
        assert answer.status in {200, 400, 404, 409}


async def test_metrics_and_the_live_stream_need_a_token_and_the_page_does_not(
    start: Any, tmp_path: Path
) -> None:
    """The page must load to ask for the token."""
    (tmp_path / "tokens").touch(mode=0o600)
    (tmp_path / "tokens").write_text(TOKEN)
    api = await start(tokens=read_tokens(tmp_path / "tokens"))
    for path in ("/metrics", "/openapi.json", "/api/v1/live", "/api/v1/nothing"):
        await _shape(api.client, "GET", path, 401)
    async with api.client.get("/") as answer:
        assert answer.status == 200


async def test_a_browser_logs_in_once(start: Any, tmp_path: Path) -> None:
    """The cookie can't be read by scripts and isn't sent by other sites' pages."""
    (tmp_path / "tokens").touch(mode=0o600)
    (tmp_path / "tokens").write_text(TOKEN)
    api = await start(tokens=read_tokens(tmp_path / "tokens"))
    await _shape(api.client, "POST", "/api/v1/login", 401, json={"token": "wrong"})
    async with api.client.post("/api/v1/login", json={"token": TOKEN}) as answer:
        said = await answer.json()
        assert (said["ok"], said["needed"], len(said["csrf"])) == (True, True, 64)
        cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    async with api.client.get("/api/v1/agents", headers={"Cookie": cookie.partition(";")[0]}) as answer:
        assert answer.status == 200


async def test_logins_are_slowed_down(start: Any, tmp_path: Path) -> None:
    """Guessing tokens takes for ever."""
    (tmp_path / "tokens").touch(mode=0o600)
    (tmp_path / "tokens").write_text(TOKEN)
    api = await start(tokens=read_tokens(tmp_path / "tokens"))
    for _ in range(5):
        await _shape(api.client, "POST", "/api/v1/login", 401, json={"token": "wrong"})
    async with api.client.post("/api/v1/login", json={"token": TOKEN}) as answer:
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"x"', "application/json"),
        (b'{"token": 5}', "application/json"),
        (b'{"token": "x", "more": 1}', "application/json"),
        (b'{"token": "x"}', "text/plain"),
        (b"token=x", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 50_000, "application/json"),
        (b"null", "application/json"),
    ],
)
async def test_a_wrong_body_is_refused(start: Any, body: bytes, content_type: str) -> None:
    """Truncated, nested, of another type: 400 or 413, and never in Python's notation."""
    api = await start()
    async with api.client.post("/api/v1/login", data=body, headers={"Content-Type": content_type}) as answer:
        assert answer.status in {400, 413}
        said = (await answer.json())["error"]["message"]
        assert not any(mark in said for mark in ("b'", "None", "{'", "\\x"))


async def test_a_large_body_is_413_however_it_is_sent(start: Any) -> None:
    """With a length and without."""
    api = await start(limits=Limits(1_000, 100, 1_000, 30.0, 3))

    async def chunks() -> Any:
        for _ in range(100):
            yield b"x" * 100

    headers = {"Content-Type": "application/json"}
    await _shape(api.client, "POST", "/api/v1/login", 413, data=b"x" * 2_000, headers=headers)
    await _shape(api.client, "POST", "/api/v1/login", 413, data=chunks(), headers=headers)


async def test_an_address_that_asks_too_often_gets_429(start: Any) -> None:
    """With the time to wait."""
    api = await start(rate=1.0)
    statuses = []
    for _ in range(5):
        async with api.client.get("/healthz") as answer:
            statuses.append(answer.status)
    assert statuses == [200, 200, 429, 429, 429]


async def test_a_store_that_can_not_be_read_now_is_503_and_one_that_is_broken_500(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients try again after the first; the second has a reference into the log and tells no secrets."""

    async def busy(*_: object, **__: object) -> None:
        raise StoreUnavailable("the disk is full", "full")

    async def broken(*_: object, **__: object) -> None:
        raise StoreError("/secret/path is damaged")

    monkeypatch.setattr(type(api.world.store), "agents", busy)
    assert (await _shape(api.client, "GET", "/api/v1/agents", 503))["message"] == "the disk is full"
    monkeypatch.setattr(type(api.world.store), "agents", broken)
    error = await _shape(api.client, "GET", "/api/v1/agents", 500)
    assert "reference=" in error["hint"]
    assert "secret" not in str(error)


async def test_a_query_that_takes_too_long_is_given_up(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It doesn't hold its place for ever."""
    api = await start(limits=Limits(1_000, 100, 1_000, 0.05, 3))

    async def slow(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(type(api.world.store), "agents", slow)
    assert "took too long" in (await _shape(api.client, "GET", "/api/v1/agents", 503))["message"]


async def test_readiness_names_each_part_that_does_not_work(api: Running) -> None:
    """And health doesn't depend on it: a collector with a full disk mustn't be restarted again and again."""
    async with api.client.get("/readyz") as answer:
        assert (await answer.json())["ready"]
    api.broken.append(PartState("gateway", ready=False, reason="port 8421 is taken"))
    async with api.client.get("/readyz") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        said = await answer.json()
    assert NotReadyAnswer.model_validate(said).error.message == "not ready: gateway: port 8421 is taken"
    assert [(part["name"], part["ready"], part["reason"]) for part in said["parts"]] == [
        ("store", True, ""),
        ("gateway", False, "port 8421 is taken"),
    ]
    assert not said["ready"]
    async with api.client.get("/healthz") as answer:
        assert answer.status == 200
    assert not (await api.get("/status"))["ready"]


async def test_metrics_are_prometheus_text(api: Running) -> None:
    """Every line is a comment or a number."""
    await api.field.send({key("m", device='a"\n\\b'): [(T0, 1.0)]}, agent='we"ird\nname')
    async with api.client.get("/metrics") as answer:
        text = await answer.text()
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    for line in text.splitlines():
        assert line.startswith("# ") or float(line.rpartition(" ")[2]) is not None
    assert "telemetryx_collector_series 1\n" in text
    assert 'telemetryx_collector_agent_last_seen_seconds{agent="we\\"ird\\nname"}' in text


async def test_the_status_sums_the_metrics(api: Running) -> None:
    """And knows how old samples are when they arrive."""
    await api.field.send({key("m"): [(T0, 1.0)]})
    answer = await api.get("/status")
    assert answer["totals"]["series"] == 1
    assert answer["totals"]["delay_p50_ms"] <= 0.011
    assert answer["cursor"] == 1


async def test_rules_alerts_and_models_have_their_shapes(api: Running) -> None:
    """The console and the command line read these."""
    assert (await api.get("/rules"))["rules"][0]["expression"] == "avg of t > 5"
    assert (await api.get("/alerts")) == {"alerts": [], "truncated": False}
    assert (await api.get("/models")) == {"models": []}


# --- the console's files


@pytest.fixture
def console(tmp_path: Path) -> Path:
    """A folder as the console's."""
    folder = tmp_path / "console"
    (folder / "vendor").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>console</title>")
    (folder / "main.js").write_text("export const x = 1;\n" * 200)
    (folder / "vendor/uplot.js").write_text("1")
    (folder / "app.0123456789ab.css").write_text("a{}")
    (folder / "notes.py").write_text("secret")
    (tmp_path / "outside.js").write_text("secret")
    (folder / "link.js").symlink_to(tmp_path / "outside.js")
    return folder


async def test_files_have_exact_types_etags_and_cache_rules(start: Any, console: Path) -> None:
    """A second visit costs a 304; a vendored file costs nothing."""
    api = await start(console=console)
    async with api.client.get("/") as answer:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-cache"
        etag = answer.headers["ETag"]
    async with api.client.get("/", headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304
        assert await answer.read() == b""
    for path in ("/vendor/uplot.js", "/app.0123456789ab.css"):
        async with api.client.get(path) as answer:
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    async with api.client.head("/main.js") as answer:
        assert (answer.status, await answer.read()) == (200, b"")


async def test_large_files_come_gzipped_to_those_who_take_it(start: Any, console: Path) -> None:
    """They were compressed once, at start."""
    api = await start(console=console)
    plain = (console / "main.js").read_bytes()
    async with api.client.get(
        "/main.js", headers={"Accept-Encoding": "gzip"}, auto_decompress=False
    ) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await answer.read()) == plain
    async with api.client.get("/main.js", headers={"Accept-Encoding": "identity"}) as answer:
        assert await answer.read() == plain


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.js",
        "/..%2foutside.js",
        "/%2e%2e/outside.js",
        "/notes.py",
        "/vendor/../../outside.js",
        "/none.js",
    ],
)
async def test_nothing_outside_the_folder_and_nothing_of_another_type_is_served(
    start: Any, console: Path, path: str
) -> None:
    """Files are looked up in memory by name."""
    api = await start(console=console)
    async with api.client.get(URL(path, encoded=True)) as answer:
        assert answer.status == 404
        assert "secret" not in await answer.text()


async def test_a_path_of_the_console_gets_its_page_and_an_unknown_endpoint_does_not(
    start: Any, console: Path
) -> None:
    """Links into the console work; a typo in an API path is an error."""
    api = await start(console=console)
    async with api.client.get("/device/pump7") as answer:
        assert "console" in await answer.text()
    await _shape(api.client, "GET", "/api/v1/agnets", 404)


async def test_every_answer_has_the_headers_that_keep_browsers_strict(api: Running) -> None:
    """Errors too."""
    for path in ("/", "/api/v1/agents", "/api/v1/none", "/metrics"):
        async with api.client.get(path) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            assert "script-src" not in answer.headers["Content-Security-Policy"]


async def test_long_answers_are_compressed(api: Running) -> None:
    """A field link is slow."""
    await api.field.send({key("m"): [(T0 - number * S, 1.0) for number in range(2_000, 0, -1)]})
    async with api.client.get(
        "/api/v1/query_range?match=m&start=0&end=now&agg=raw&max_points=5000",
        headers={"Accept-Encoding": "gzip"},
        auto_decompress=False,
    ) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"


async def test_a_store_that_cannot_be_read_is_503_with_its_reason_and_metrics_go_on(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged or away: whoever asks is told what is wrong, and the process's own numbers are shown when they are needed."""
    for error in (StoreDamaged("the database lacks a table"), StoreUnavailable("the disk is full", "full")):

        async def fails(*_: object, error: StoreError = error, **__: object) -> Any:
            raise error

        for name in ("series", "agents", "loss"):
            monkeypatch.setattr(api.world.store, name, fails)
        refused = await api.get("/latest", 503)
        assert refused["error"]["message"] == str(error)
        api.clock.advance(60 * S)
        async with api.client.get("/metrics") as answer:
            assert answer.status == 200
            assert "telemetryx_collector_resident_memory_bytes" in await answer.text()
