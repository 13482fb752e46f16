"""Strict-Transport-Security: with TLS only, for names only, and never for a developer's localhost."""

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from telemetryx.api import static
from telemetryx.config import ConfigError, load


@pytest.mark.parametrize(
    ("host", "hsts", "told"),
    [
        ("telemetry.example", True, True),
        ("telemetry.example:8420", True, True),
        ("telemetry.example", False, False),
        ("localhost:8420", True, False),
        ("x.localhost", True, False),
        ("192.0.2.1:8420", True, False),
        ("[2001:db8::1]:8420", True, False),
        ("[::1]", True, False),
    ],
)
async def test_browsers_are_told_to_come_with_tls(host: str, hsts: bool, told: bool) -> None:  # noqa: FBT001 - a case
    """It holds for every port of a name, so that of a machine where much else runs isn't given away."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(middlewares=[static.secure_headers(hsts=hsts)])
    app.router.add_get("/", answer)
    async with TestClient(TestServer(app)) as client, client.get("/", headers={"Host": host}) as said:
        assert said.headers.get("Strict-Transport-Security") == ("max-age=31536000" if told else None)
        assert said.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "x"\n', "has no issuer"),
        ('issuer = "http://login.example"\nviewers = ["*"]\n', "no https address"),
        ('issuer = "https://login.example?x=1"\nviewers = ["*"]\n', "no https address"),
        ('issuer = "https://login.example"\n', "lets nobody in"),
        ('issuer = "https://login.example"\nviewers = ["*"]\nscopes = ["email"]\n', "openid"),
    ],
)
def test_a_provider_that_cannot_work_is_refused_with_what_to_write(
    tmp_path: Path, text: str, says: str
) -> None:
    """Before anything is started."""
    path = tmp_path / "c.toml"
    path.write_text(f"[api.oidc]\n{text}")
    with pytest.raises(ConfigError, match=says):
        load(path)


def test_with_a_provider_everybody_shows_who_they_are(tmp_path: Path) -> None:
    """Also on loopback; its name is the host where none is given."""
    path = tmp_path / "c.toml"
    path.write_text('[api.oidc]\nissuer = "http://127.0.0.1:9/realm"\nviewers = ["*"]\n')
    api = load(path).api
    assert api.closed
    assert api.oidc.shown == "127.0.0.1"
