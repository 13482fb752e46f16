"""Signing in at a provider: who gets in as whom, and what comes of each lie that a provider, a browser or a stranger can tell."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientSession, DummyCookieJar
from aiohttp.test_utils import TestServer

from oidc_provider import SECRET, Claims, Key, Provider
from running import Running, S
from telemetryx.api import auth, passwords
from telemetryx.api.oidc import pages
from telemetryx.api.oidc.person import Mapped
from telemetryx.api.oidc.provider import Config
from telemetryx.api.oidc.provider import Provider as Asked
from telemetryx.store.accounts import Role
from telemetryx.store.audit import Actor, AuditQuery

BY = Actor("root", "cli", "host")
ANA = {"sub": "1f00-ana", "preferred_username": "ana", "groups": ["field", "staff"]}
MAPPED = Mapped("preferred_username", "groups", ("boss",), ("field",), ("staff",))


@dataclass
class Site:
    """A collector's API with a provider beside it, and one browser."""

    api: Running
    provider: Provider
    asked: Asked
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, address: str) -> tuple[int, str]:
        """Ask as the browser does, and keep cookies; return the status and where it is sent."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self.api.client.get(address, headers={"Cookie": cookie}, allow_redirects=False) as answer:
            for name, morsel in answer.cookies.items():
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0":
                    del self.cookies[name]
            return answer.status, answer.headers.get("Location", "")

    async def begin(self) -> str:
        """Begin, go to the provider, and return the address that it sends the browser back to."""
        status, there = await self.get(pages.LOGIN)
        assert status == 303
        async with ClientSession() as session, session.get(there, allow_redirects=False) as answer:
            assert answer.status == 302, await answer.text()
            back = urlsplit(answer.headers["Location"])
            assert back.path == pages.CALLBACK
            return f"{back.path}?{back.query}"

    async def sign_in(self) -> str:
        """Go the whole way; return where it ends."""
        status, where = await self.get(await self.begin())
        assert status == 303
        return where

    async def me(self) -> dict[str, Any] | None:
        """Who the browser is."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self.api.client.get("/api/v1/me", headers={"Cookie": cookie}) as answer:
            return dict(await answer.json()) if answer.status == 200 else None

    async def log(self, action: str) -> list[Any]:
        """The audit log's entries of an action."""
        return list(await self.api.world.store.audited(AuditQuery(action=action)))


@pytest.fixture
async def site(start: Any) -> AsyncIterator[Site]:
    """A closed API, and a provider where ana is logged in."""
    provider = Provider()
    provider.person = dict(ANA)
    async with TestServer(provider.app()) as served, ClientSession() as session:
        provider.called(str(served.make_url("")))
        config = Config(
            "Example",
            provider.issuer,
            "telemetryx",
            SECRET,
            ("openid",),
            MAPPED,
            "http://127.0.0.1:1",
            60 * S,
        )
        asked = Asked(config, session)
        api: Running = await start(closed=True, sign_in=asked)
        # The browser's cookies are its own.
        api.client.session._cookie_jar = DummyCookieJar()
        await api.world.store.accounts.add("root", Role.ADMIN, passwords.make("correct horse battery"), BY)
        yield Site(api, provider, asked)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_who_signs_in_is_an_account_with_the_role_of_a_group(site: Site, algorithm: str) -> None:
    """The console learns the provider's name without a login; the account is the same at the next login."""
    site.provider.rotate(algorithm)
    assert (await site.api.get("/login"))["provider"] == "Example"
    assert await site.sign_in() == "/"
    me = await site.me()
    assert me is not None
    assert (me["name"], me["role"], me["issuer"]) == ("ana", "operator", site.provider.issuer)
    assert site.cookies.keys() == {auth.COOKIE}
    first = await site.api.world.store.accounts.account("ana")
    await site.sign_in()
    again = await site.api.world.store.accounts.account("ana")
    assert first is not None
    assert again is not None
    assert first.id == again.id
    made = (await site.log("user.add"))[0]
    assert made.actor.name == "ana"
    assert made.after == {"name": "ana", "role": "operator", "issuer": site.provider.issuer}
    assert len(await site.log("session.begin")) == 2


async def test_a_role_that_changes_at_the_provider_counts_from_the_next_login_on(site: Site) -> None:
    """And who has none any more stays out."""
    await site.sign_in()
    assert site.provider.person is not None
    site.provider.person["groups"] = ["boss"]
    await site.sign_in()
    assert (await site.me() or {})["role"] == "admin"
    (changed,) = await site.log("user.role")
    assert (changed.before["role"], changed.after["role"]) == ("operator", "admin")
    site.provider.person["groups"] = ["guests"]
    assert await site.sign_in() == "/#/signin?failed=role"
    assert "mean a role" in (await site.log("session.refuse"))[0].after["reason"]


async def test_a_session_from_a_provider_ends_after_its_own_time(site: Site) -> None:
    """Which is shorter than that of a password: what changed there shall count here."""
    await site.sign_in()
    site.api.clock.advance(61 * S)
    assert await site.me() is None


async def test_a_name_at_the_provider_takes_no_account_here(site: Site) -> None:
    """Neither a local one, nor that of somebody else there; one's own stays when the name there changes."""
    assert site.provider.person is not None
    site.provider.person["preferred_username"] = "root"
    assert await site.sign_in() == "/#/signin?failed=name"
    assert await site.me() is None
    site.provider.person["preferred_username"] = "ana"
    await site.sign_in()
    site.provider.person |= {"sub": "another", "preferred_username": "ana"}
    assert await site.sign_in() == "/#/signin?failed=name"
    site.provider.person |= {"sub": ANA["sub"], "preferred_username": "ana.married"}
    assert await site.sign_in() == "/"
    assert (await site.me() or {})["name"] == "ana"


@pytest.mark.parametrize("name", ["", "../x", "a\r\nb", "A" * 65, None, 7, "ａna", ".ana"])
async def test_a_name_that_is_none_is_refused(site: Site, name: object) -> None:
    """Names stand in logs, in paths and on pages."""
    assert site.provider.person is not None
    site.provider.person["preferred_username"] = name
    assert await site.sign_in() == "/#/signin?failed=name"


def told(**changed: object) -> Any:
    """A lie: an otherwise honest token that says something else; None leaves the claim out."""

    def lie(claims: Claims) -> Claims:
        return {name: value for name, value in {**claims, **changed}.items() if value is not None}

    return lie


NOW = int(time.time())
LIES: dict[str, Any] = {
    "another issuer": told(iss="https://evil.example"),
    "an issuer with a slash more": lambda claims: {**claims, "iss": claims["iss"] + "/"},
    "no issuer": told(iss=None),
    "another audience": told(aud="grafana"),
    "no audience": told(aud=None),
    "several audiences and no party": told(aud=["telemetryx", "grafana"]),
    "another party": told(azp="grafana"),
    "another nonce": told(nonce="of another attempt"),
    "no nonce": told(nonce=None),
    "a nonce that is no text": told(nonce=7),
    "expired": told(exp=NOW - 600, iat=NOW - 900),
    "no end": told(exp=None),
    "an end that is no number": told(exp="tomorrow"),
    "not yet": told(nbf=NOW + 86_400),
    "from the future": told(iat=NOW + 86_400),
    "no beginning": told(iat=None),
    "nobody": told(sub=None),
    "an empty subject": told(sub=""),
    "a subject that is no text": told(sub=7),
    "a very long subject": told(sub="x" * 256),
}


@pytest.mark.parametrize("what", LIES)
async def test_a_token_that_lies_lets_nobody_in(site: Site, what: str) -> None:
    """Though it is signed with the right key."""
    site.provider.lie = LIES[what]
    assert await site.sign_in() == "/#/signin?failed=token"
    assert await site.me() is None
    assert await site.api.world.store.accounts.account("ana") is None


async def test_clocks_may_differ_by_a_minute(site: Site) -> None:
    """Not by more."""
    site.provider.lie = told(exp=int(time.time()) - 30, iat=int(time.time()) + 30)
    assert await site.sign_in() == "/"


OTHER = Key("RS256", "first")
FORGED: dict[str, Any] = {
    "unsigned": lambda key, claims: key.sign(claims, alg="none"),
    "unsigned, in other letters": lambda key, claims: key.sign(claims, alg="none").replace("none", "NONE"),
    "HMAC with the public key": lambda key, claims: key.sign(claims, alg="HS256"),
    "another key under the same name": lambda _key, claims: OTHER.sign(claims),
    "a key in its own header": lambda _key, claims: OTHER.sign(claims, kid="mine", jwk=OTHER.public()),
    "a key of its own address": lambda _key, claims: OTHER.sign(
        claims, kid="mine", jku="http://127.0.0.1:9/k"
    ),
    "an unknown key": lambda key, claims: key.sign(claims, kid="nobody's"),
    "a name that is a path": lambda key, claims: key.sign(claims, kid="../../dev/null"),
    "another kind of key": lambda key, claims: key.sign(claims, alg="ES256"),
    "a header that must be understood": lambda key, claims: key.sign(claims, crit=["x"], x=1),
    "changed afterwards": lambda key, claims: changed(key.sign(claims)),
    "three dots": lambda _key, _claims: "...",
    "nothing": lambda _key, _claims: "",
    "megabytes": lambda key, claims: key.sign({**claims, "x": "x" * 100_000}),
}


def changed(token: str) -> str:
    """A token whose claims were swapped for those of another."""
    head, _, signature = token.split(".")
    other = OTHER.sign({"sub": "eve"}).split(".")[1]
    return f"{head}.{other}.{signature}"


@pytest.mark.parametrize("what", FORGED)
async def test_a_forged_token_lets_nobody_in(site: Site, what: str) -> None:
    """Whatever its header says."""
    await site.sign_in()
    site.cookies.clear()
    site.provider.forge = lambda claims: FORGED[what](site.provider.key, claims)
    assert await site.sign_in() == "/#/signin?failed=token"
    assert await site.me() is None


async def test_a_short_key_is_none(site: Site) -> None:
    """Of 1,024 bits, which can be broken."""
    site.provider.key = Key("RS256", "short", 1024)
    site.provider.published = [site.provider.key]
    assert await site.sign_in() == "/#/signin?failed=token"


@pytest.mark.parametrize("kid", ["second", None])
async def test_the_provider_changes_its_keys(site: Site, kid: str | None) -> None:
    """The next login asks for the new ones, whether they have names or not; what the old one signed counts no more."""
    site.provider.rotate(kid=kid)
    old = site.provider.key
    await site.sign_in()
    site.provider.rotate("ES256", kid if kid is None else "third")
    assert await site.sign_in() == "/"
    site.cookies.clear()
    site.provider.forge = old.sign
    assert await site.sign_in() == "/#/signin?failed=token"
    assert site.provider.asked.count("/.well-known/openid-configuration") == 1


async def test_only_the_browser_that_began_can_end_it(site: Site) -> None:
    """Another's answer, none begun, a state of one's own, and an answer shown twice."""
    back = await site.begin()
    own, site.cookies = site.cookies, {}
    assert await site.get(back) == (303, "/#/signin?failed=expired")
    await site.get(pages.LOGIN)
    assert await site.get(back) == (303, "/#/signin?failed=expired")
    site.cookies = dict(own)
    state = parse_qs(urlsplit(back).query)["state"][0]
    assert await site.get(back.replace(state, state[:-1] + "ä")) == (303, "/#/signin?failed=expired")
    site.cookies = dict(own)
    assert await site.get(back) == (303, "/")
    assert pages.COOKIE not in site.cookies
    site.cookies = dict(own)
    assert await site.get(back) == (303, "/#/signin?failed=refused")
    assert await site.me() is None


async def test_a_stolen_code_is_worth_nothing_to_another(site: Site) -> None:
    """With a state of their own: the code's verifier is in the browser that began (PKCE)."""
    code = parse_qs(urlsplit(await site.begin()).query)["code"][0]
    site.cookies = {}
    own = parse_qs(urlsplit(await site.begin()).query)["state"][0]
    assert await site.get(f"{pages.CALLBACK}?code={code}&state={own}") == (303, "/#/signin?failed=refused")


@pytest.mark.parametrize(
    "query",
    ["", "?error=access_denied&state=STATE", "?code=&state=STATE", "?state=STATE&code=" + "x" * 5_000],
)
async def test_an_answer_without_a_code_is_refused(site: Site, query: str) -> None:
    """The provider asked nothing, and nothing of what it says reaches a page."""
    state = parse_qs(urlsplit(await site.begin()).query)["state"][0]
    status, where = await site.get(pages.CALLBACK + query.replace("STATE", state))
    assert (status, where) == (303, f"/#/signin?failed={'refused' if query else 'expired'}")
    assert "/token" not in site.provider.asked


async def test_an_answer_of_another_provider_is_refused(site: Site) -> None:
    """Where it says who it is, and where it must (RFC 9207)."""
    assert await site.get(f"{await site.begin()}&iss=https%3A%2F%2Fevil.example") == (
        303,
        "/#/signin?failed=token",
    )
    assert await site.get(f"{await site.begin()}&iss={site.provider.issuer}") == (303, "/")
    site.provider.told = {"authorization_response_iss_parameter_supported": True}
    site.asked._look_again = 0.0
    assert await site.sign_in() == "/#/signin?failed=token"


async def test_a_provider_that_is_away_is_a_sentence_and_passwords_go_on(site: Site) -> None:
    """It is asked again after a while, not by every click; what it said before is used on."""
    site.provider.broken = True
    for _ in range(5):
        assert await site.get(pages.LOGIN) == (303, "/#/signin?failed=unreachable")
    assert len(site.provider.asked) == 1
    async with site.api.client.post(
        "/api/v1/login", json={"user": "root", "password": "correct horse battery"}
    ) as answer:
        assert answer.status == 200
    site.provider.broken = False
    site.asked._look_again = 0.0
    assert await site.sign_in() == "/"
    site.provider.broken = True
    site.asked._look_again = 0.0
    status, there = await site.get(pages.LOGIN)
    assert status == 303
    assert there.startswith(f"{site.provider.issuer}/authorize?")


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"jwks_uri": None},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
)
async def test_a_provider_that_leads_elsewhere_is_not_followed(site: Site, told: dict[str, Any]) -> None:
    """Another issuer, no TLS, no keys, no web page."""
    site.provider.told = told
    assert await site.get(pages.LOGIN) == (303, "/#/signin?failed=unreachable")


async def test_groups_that_are_not_in_the_token_are_asked_for(site: Site) -> None:
    """At userinfo, which must speak of the same person."""
    assert site.provider.person is not None
    del site.provider.person["groups"]
    site.provider.userinfo = {"sub": ANA["sub"], "groups": ["boss"], "preferred_username": "eve"}
    assert await site.sign_in() == "/"
    me = await site.me() or {}
    assert (me["name"], me["role"]) == ("ana", "admin")
    site.provider.userinfo["sub"] = "somebody else"
    assert await site.sign_in() == "/#/signin?failed=token"


async def test_who_tries_again_and_again_waits(site: Site) -> None:
    """Each try asks the provider; a stranger shall not make us its attacker."""
    site.provider.lie = told(nonce="x")
    for _ in range(5):
        assert await site.sign_in() == "/#/signin?failed=token"
    asked = site.provider.asked.count("/token")
    assert await site.sign_in() == "/#/signin?failed=wait"
    assert site.provider.asked.count("/token") == asked


async def test_an_account_of_a_provider_has_no_password_and_no_role_to_change_here(site: Site) -> None:
    """And isn't the last admin: with the provider gone nobody could make another."""
    assert site.provider.person is not None
    site.provider.person["groups"] = ["boss"]
    await site.sign_in()
    csrf = (await site.me() or {})["csrf"]
    headers = {"Cookie": f"{auth.COOKIE}={site.cookies[auth.COOKIE]}", auth.CSRF: csrf}
    client = site.api.client
    for password in ("", "correct horse battery"):
        body = {"user": "ana", "password": password or " "}
        async with client.post("/api/v1/login", json=body) as answer:
            assert answer.status == 401
    for body in ({"role": "viewer"}, {"password": "another good one"}):
        async with client.patch("/api/v1/users/ana", json=body, headers=headers) as answer:
            assert answer.status == 409
    async with client.post(
        "/api/v1/password", json={"old": "x", "new": "another good one"}, headers=headers
    ) as answer:
        assert answer.status == 409
    async with client.delete("/api/v1/users/root", headers=headers) as answer:
        assert answer.status == 409
    async with client.post("/api/v1/logout", json={}, headers=headers) as answer:
        said = await answer.json()
    assert said["url"].startswith(
        f"{site.provider.issuer}/leave?client_id=telemetryx&post_logout_redirect_uri="
    )
    assert await site.me() is None


async def test_an_api_without_a_provider_has_no_such_pages(start: Any) -> None:
    """404, and the console shows no button."""
    api: Running = await start(closed=True)
    assert (await api.get("/login"))["provider"] is None
    for path in (pages.LOGIN, pages.CALLBACK):
        async with api.client.get(path) as answer:
            assert answer.status == 404
