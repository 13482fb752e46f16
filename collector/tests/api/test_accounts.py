"""People's accounts over the API: who gets in, who may do what, and what an attacker gets."""

import hmac
import json
from typing import Any

import pytest
from aiohttp import ClientSession, DummyCookieJar, TCPConnector
from aiohttp.test_utils import TestClient
from yarl import URL

from running import Running, S
from telemetryx.api import auth, passwords, server
from telemetryx.api.auth import COOKIE, CSRF, DEVICE, Gate
from telemetryx.api.peer import Peers
from telemetryx.network import network
from telemetryx.store.accounts import Role, digest
from telemetryx.store.audit import Actor, AuditQuery

BY = Actor("root", "cli", "host")
PASSWORD = "correct horse battery"
HASHED = passwords.make(PASSWORD)
ADMIN_TOKEN = "tx_admin_0123456789abcdef"


class Browser:
    """A browser with cookies of its own, whose pages send along what they must."""

    def __init__(self, api: Running) -> None:
        self._client: TestClient[Any, Any] = api.client
        # Nothing is shared between browsers.
        api.client.session._cookie_jar = DummyCookieJar()
        self.cookies: dict[str, str] = {}
        self.csrf = ""

    async def send(
        self, method: str, path: str, status: int = 200, headers: dict[str, str] | None = None, **body: object
    ) -> dict[str, Any]:
        """Ask under /api/v1; keep cookies."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {"Cookie": cookie, CSRF: self.csrf, **(headers or {})}
        json = body if method in {"POST", "PATCH"} else None
        async with self._client.request(method, f"/api/v1{path}", headers=sent, json=json) as answer:
            said: dict[str, Any] = await answer.json()
            assert answer.status == status, said
            for name, morsel in answer.cookies.items():
                self.cookies[name] = morsel.value
            self.flags = answer.headers.getall("Set-Cookie", [])
        self.csrf = said.get("csrf", self.csrf)
        return said

    async def log_in(self, user: str, status: int = 200, password: str = PASSWORD) -> dict[str, Any]:
        """Log in with a password."""
        return await self.send("POST", "/login", status, user=user, password=password)


@pytest.fixture
async def closed(start: Any) -> Running:
    """An API that asks for accounts, with one of each role."""
    api: Running = await start(closed=True)
    for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER):
        await api.world.store.accounts.add(role.word, role, HASHED, BY)
    return api


async def browser(api: Running, user: str) -> Browser:
    """A browser that is logged in."""
    made = Browser(api)
    await made.log_in(user)
    return made


async def bearer(api: Running, role: Role) -> dict[str, str]:
    """Headers with a token of a role."""
    token = f"tx_{role.word}_0123456789"
    await api.world.store.accounts.add_token(
        role.word, digest(token), role, api.clock.now_ns() + 3_600 * S, BY
    )
    return {"Authorization": f"Bearer {token}"}


async def log(api: Running, **wanted: Any) -> list[str]:
    """What the audit log holds, newest first."""
    rows = await api.world.store.audited(AuditQuery(**wanted))
    return [f"{row.actor.name}/{row.actor.via} {row.action} {row.target}" for row in rows]


# --- every route has a role, and it counts


async def test_every_route_says_which_role_it_needs(api: Running) -> None:
    """Also those that aren't declared as Route: a new one can't be forgotten."""
    app = api.client.app
    roles = app[server.ROLES]
    missing = [str(route) for route in app.router.routes() if roles.declared(route) is None]
    assert missing == []
    changing = [
        str(route)
        for route in app.router.routes()
        if route.method not in {"GET", "HEAD", "*"}
        and roles.declared(route) < Role.OPERATOR
        and "/prometheus/" not in route.resource.canonical
    ]
    paths = sorted(text.partition("/api")[2].partition(">")[0] for text in changing)
    # Agents prove themselves, by a token and by their key.
    agents = ["/v1/enroll", "/v1/enroll/renew"]
    assert paths == [*agents, "/v1/first", "/v1/login", "/v1/logout", "/v1/password"]


async def test_a_route_without_a_role_lets_only_admins_in(closed: Running) -> None:
    """Forgotten is shut."""
    roles = closed.client.app[server.ROLES]
    roles._roles.pop(("GET", "/api/v1/agents"))
    ana = await browser(closed, "operator")
    await ana.send("GET", "/agents", 403)
    await (await browser(closed, "admin")).send("GET", "/agents")


@pytest.mark.parametrize(("role", "may"), [(Role.VIEWER, 403), (Role.OPERATOR, 200), (Role.ADMIN, 200)])
async def test_a_viewer_reads_and_an_operator_acts(closed: Running, role: Role, may: int) -> None:
    """By session and by token alike."""
    ana = await browser(closed, role.word)
    assert (await ana.send("GET", "/me"))["role"] == role.word
    await ana.send("GET", "/silences")
    made = await ana.send("POST", "/silences", may, match="hot", duration="1h")
    if may == 200:
        assert made["author"] == role.word
    headers = await bearer(closed, role)
    await Browser(closed).send("POST", "/silences", may, headers, match="cold", duration="1h")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_nobody_gives_themselves_more_than_they_have(closed: Running, role: Role) -> None:
    """Neither by a session nor by a token, by no method on no path of the accounts."""
    ana, headers = await browser(closed, role.word), await bearer(closed, role)
    for asking, more in ((ana, None), (Browser(closed), headers)):
        await asking.send("GET", "/users", 403, more)
        await asking.send("POST", "/users", 403, more, name="eve", role="admin", password=PASSWORD)
        await asking.send("PATCH", f"/users/{role.word}", 403, more, role="admin")
        await asking.send("DELETE", "/users/admin", 403, more)
        await asking.send("GET", "/tokens", 403, more)
        await asking.send("POST", "/tokens", 403, more, name="eve", role="admin", expires="1d")
        await asking.send("DELETE", "/tokens/1", 403, more)
        await asking.send("GET", "/audit", 403, more)
    assert [one.name for one in await closed.world.store.accounts.all()] == ["admin", "operator", "viewer"]


async def test_who_is_logged_in_speaks_for_themselves(closed: Running) -> None:
    """Nobody signs with another's name, and the audit log says who it was."""
    ana = await browser(closed, "operator")
    made = await ana.send("POST", "/silences", match="hot", duration="1h", author="admin", comment="c")
    assert made["author"] == "operator"
    assert (await log(closed))[0] == f"operator/console silence.add {made['id']}"


# --- logging in


async def test_a_login_makes_a_cookie_that_scripts_and_other_sites_have_no_use_of(closed: Running) -> None:
    """HttpOnly, SameSite, the whole site; what the store keeps of it is a digest."""
    ana = await browser(closed, "admin")
    assert len(ana.flags) == 2
    for cookie in ana.flags:
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
    session = await closed.world.store.accounts.session(digest(ana.cookies[COOKIE]))
    assert session is not None
    assert len(ana.cookies[COOKIE]) >= 43


async def test_behind_tls_cookies_are_secure_and_bound_to_this_host(start: Any) -> None:
    """Neither a plain page nor another host of the domain can set or get them."""
    api: Running = await start(closed=True, secure=True)
    await api.world.store.accounts.add("ana", Role.VIEWER, HASHED, BY)
    ana = await browser(api, "ana")
    assert all(flag.startswith("__Host-") and "Secure" in flag for flag in ana.flags)
    await ana.send("GET", "/me")
    planted = Browser(api)
    planted.cookies = {COOKIE: ana.cookies[f"__Host-{COOKIE}"]}
    await planted.send("GET", "/me", 401)


async def test_an_id_that_was_planted_is_worth_nothing_after_the_login(closed: Running) -> None:
    """Session fixation: a login makes a new id and ends the one that the browser came with."""
    attacker = await browser(closed, "viewer")
    victim = Browser(closed)
    victim.cookies = dict(attacker.cookies)
    await victim.log_in("admin")
    assert victim.cookies[COOKIE] != attacker.cookies[COOKIE]
    await attacker.send("GET", "/me", 401)
    made_up = Browser(closed)
    made_up.cookies = {COOKIE: "chosen-by-the-attacker"}
    await made_up.log_in("admin")
    assert made_up.cookies[COOKIE] != "chosen-by-the-attacker"


async def test_a_session_ends_by_logout_by_time_and_everywhere_at_a_new_password(closed: Running) -> None:
    """On the server: the cookie alone is worth nothing then."""
    one, two, three = [await browser(closed, "viewer") for _ in range(3)]
    await one.send("POST", "/logout")
    assert any("Max-Age=0" in flag for flag in one.flags)
    old = Browser(closed)
    old.cookies = {COOKIE: one.cookies[COOKIE]}
    await old.send("GET", "/me", 401)
    before = dict(two.cookies)
    await two.send("POST", "/password", 400, old="wrong", new="another good one")
    await two.send("POST", "/password", 400, old=PASSWORD, new="short")
    await two.send("POST", "/password", old=PASSWORD, new="another good one")
    await three.send("GET", "/me", 401)
    await two.send("GET", "/me")
    stolen = Browser(closed)
    stolen.cookies = before
    await stolen.send("GET", "/me", 401)
    await Browser(closed).log_in("viewer", 401)
    four = Browser(closed)
    await four.log_in("viewer", password="another good one")
    await four.send("POST", "/logout", everywhere=True)
    await two.send("GET", "/me", 401)
    five = Browser(closed)
    await five.log_in("viewer", password="another good one")
    closed.clock.advance(3_601 * S)
    await five.send("GET", "/me", 401)


async def test_a_new_role_and_a_removal_count_at_once(closed: Running) -> None:
    """Sessions don't keep what somebody could do when they began."""
    admin, ana = await browser(closed, "admin"), await browser(closed, "operator")
    await admin.send("PATCH", "/users/operator", role="viewer")
    await ana.send("POST", "/silences", 403, match="hot", duration="1h")
    await admin.send("DELETE", "/users/operator")
    await ana.send("GET", "/me", 401)
    await admin.send("DELETE", "/users/operator", 404)
    await admin.send("DELETE", "/users/admin", 409)
    await admin.send("PATCH", "/users/admin", 409, role="viewer")


# --- other sites, other tricks


async def test_a_change_by_a_cookie_needs_the_sessions_csrf_token(closed: Running) -> None:
    """Its own, whole; a token of a program needs none, and reading needs none."""
    ana, bob = await browser(closed, "operator"), await browser(closed, "admin")
    good = ana.csrf
    for wrong in ("", bob.csrf, good[:-1], good.upper(), "é", good + "0"):
        ana.csrf = wrong
        said = await ana.send("POST", "/silences", 403, match="hot", duration="1h")
        assert "CSRF" in said["error"]["message"]
        await ana.send("POST", "/logout", 403)
    await ana.send("GET", "/silences")
    ana.csrf = good
    await ana.send("POST", "/silences", match="hot", duration="1h")
    await Browser(closed).send(
        "POST", "/silences", 200, await bearer(closed, Role.OPERATOR), match="hot", duration="1h"
    )


async def test_another_sites_page_can_not_act_though_it_knew_the_csrf_token(closed: Running) -> None:
    """The Origin check stands beside it; logins are under it too."""
    ana = await browser(closed, "operator")
    evil = {"Origin": "https://evil.example"}
    await ana.send("POST", "/silences", 403, evil, match="hot", duration="1h")
    await Browser(closed).send("POST", "/login", 403, evil, user="admin", password=PASSWORD)


@pytest.mark.parametrize(
    "cookie", ["", "x" * 2_000, "é", "../../etc/passwd", "a\tb", "'; DROP TABLE account; --", "%00"]
)
async def test_a_cookie_that_is_none_of_ours_is_nobodys(closed: Running, cookie: str) -> None:
    """Whatever is in it."""
    asking = Browser(closed)
    asking.cookies = {COOKIE: cookie, DEVICE: cookie}
    await asking.send("GET", "/me", 401)


@pytest.mark.parametrize(
    "name", ["..%2f..%2fadmin", "%2e%2e", "a%0d%0aSet-Cookie:%20x=1", "admin%00", "a%20b", "ADMIN"]
)
async def test_a_name_in_the_path_leads_nowhere_else(closed: Running, name: str) -> None:
    """Path traversal and header injection are names that no account has."""
    admin = await browser(closed, "admin")
    for method in ("PATCH", "DELETE"):
        async with closed.client.request(
            method,
            f"/api/v1/users/{name}",
            headers={"Cookie": f"{COOKIE}={admin.cookies[COOKIE]}", CSRF: admin.csrf},
            json={"role": "viewer"} if method == "PATCH" else None,
        ) as answer:
            assert answer.status in {400, 404, 405}
            assert "Set-Cookie" not in answer.headers
    assert len(await closed.world.store.accounts.all()) == 3


@pytest.mark.parametrize(
    "path", ["/%2e%2e/auth.py", "/..%2fauth.py", "/%2e%2e%2f%2e%2e%2fetc/passwd", "//etc/passwd"]
)
async def test_the_console_serves_nothing_beside_its_folder(closed: Running, path: str) -> None:
    """And what guards a path is its route, however the path is written."""
    async with closed.client.session.get(
        URL(str(closed.client.make_url("/"))[:-1] + path, encoded=True)
    ) as answer:
        text = await answer.text()
    assert "root:" not in text
    assert "import " not in text
    async with closed.client.session.get(
        URL(str(closed.client.make_url("/"))[:-1] + "/%61pi/v1/%61gents", encoded=True)
    ) as answer:
        assert answer.status == 401


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CSRF token and the tokens of the file, all of which are compared whichever fits; the rest is found by its digest."""
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def spy(one: Any, two: Any) -> bool:
        compared.append((one, two))
        return real(one, two)

    monkeypatch.setattr(auth.hmac, "compare_digest", spy)
    tokens = tuple(auth._digest(f"token_{n}_0123456789") for n in range(3))
    gate = Gate(tokens, frozenset(), S, secure=False)
    assert gate.knows("token_0_0123456789")
    assert len(compared) == 3
    assert not gate.knows("no")
    assert len(compared) == 6


async def test_an_unknown_name_takes_as_long_and_says_the_same_as_a_wrong_password(
    closed: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hash is checked either way, made with today's parameters; and the name isn't written down."""
    checked: list[str] = []
    real = passwords._right
    monkeypatch.setattr(
        passwords, "_right", lambda hashed, given: checked.append(hashed) or real(hashed, given)
    )
    unknown = await Browser(closed).log_in("hunter2-typed-here", 401)
    wrong = await Browser(closed).log_in("admin", 401, "wrong password")
    assert unknown == wrong
    assert checked == [passwords.NOBODY, HASHED]
    assert not passwords.outdated(passwords.NOBODY)
    assert await log(closed, action="session") == [
        "admin/console session.refuse admin",
        "unknown/console session.refuse ",
    ]
    assert "hunter2" not in str(await closed.world.store.audited(AuditQuery()))


async def test_what_is_refused_does_not_repeat_a_password(closed: Running) -> None:
    """Neither the answer nor the audit log."""
    admin = await browser(closed, "admin")
    for body in ({"password": 12345678901}, {"password": ""}, {"password": "hunter2"}):
        said = await admin.send("POST", "/users", 400, name="eve", role="viewer", **body)
        assert "hunter2" not in str(said)
        assert "12345678901" not in str(said)
    await admin.send("POST", "/users", name="eve", role="viewer", password=PASSWORD)
    assert PASSWORD not in str(await closed.world.store.audited(AuditQuery()))


# --- guessing


async def test_guessing_slows_its_address_down_and_keeps_nobody_else_out(closed: Running) -> None:
    """Ten thousand wrong ones: the guesser is told to wait ever longer and nothing more is hashed; whoever was here before gets in."""
    here = await browser(closed, "admin")
    await here.send("POST", "/logout")
    body = json.dumps({"user": "admin", "password": "wrong password"}).encode()
    headers = {"Content-Type": "application/json"}
    taken = 0
    for _ in range(10_000):
        async with closed.client.post("/api/v1/login", data=body, headers=headers) as answer:
            taken += answer.status == 401
            last = int(answer.headers.get("Retry-After", 0))
        closed.clock.advance(S // 100)
    assert taken <= 12
    assert 1 <= last <= 300
    # The right password doesn't tell the guesser that it is right.
    await Browser(closed).log_in("admin", 429)
    # A browser that this person logged in with before: at once, from the same address.
    await here.log_in("admin")
    # The person, from another address.
    async with ClientSession(connector=TCPConnector(local_addr=("127.0.0.2", 0))) as elsewhere:
        body = {"user": "admin", "password": PASSWORD}
        async with elsewhere.post(closed.client.make_url("/api/v1/login"), json=body) as answer:
            assert answer.status == 200
    # One that is known for one account isn't for another.
    await here.log_in("viewer", 429)


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("ipv4:192.0.2.1:50123", "ipv4:192.0.2.1:50124", True),
        ("ipv4:192.0.2.1:50123", "192.0.2.1", True),
        ("ipv6:%5B2001:db8:1:2::1%5D:50123", "ipv6:[2001:db8:1:2::9]:1", True),
        ("ipv6:[2001:db8:1:2::1]:1", "ipv6:[2001:db8:1:3::1]:1", False),
        ("unix:/run/a", "unix:/run/b", False),
    ],
)
def test_one_customers_addresses_are_one(one: str, two: str, same: bool) -> None:  # noqa: FBT001
    """Or IPv6 gives a guesser 2**64 fresh starts; a port is none of anybody's."""
    assert (network(one) == network(two)) is same


async def test_one_ipv6_network_has_one_share_of_requests(start: Any) -> None:
    """Of all, and of the few that anybody may ask: no other address of it begins anew."""
    api: Running = await start(closed=True, rate=1.0, peers=Peers(["127.0.0.1", "::1"]))

    async def status(path: str, peer: str) -> int:
        async with api.client.get(path, headers={"X-Forwarded-For": peer}) as answer:
            return answer.status

    async def forged(peer: str) -> int:
        body = {"agent": "pump", "challenge": "x", "signature": "x"}
        headers = {"X-Forwarded-For": peer}
        async with api.client.post("/api/v1/enroll/renew", json=body, headers=headers) as answer:
            return answer.status

    for n in range(50):
        assert await forged(f"2001:db8:1:2::{n:x}") == 401, n
    assert await forged("2001:db8:1:2:ffff::9") == 429
    assert await forged("2001:db8:1:3::9") == 401
    for path, share in (("/api/v1/agents", 2), ("/api/v1/enroll", 50)):
        for n in range(share):
            assert await status(path, f"2001:db8:1:2::{n:x}") != 429, (path, n)
        assert await status(path, "2001:db8:1:2:ffff::9") == 429
        assert await status(path, "2001:db8:1:3::9") != 429


async def test_hashing_is_bounded_and_known_browsers_do_not_queue_behind_strangers(
    closed: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads at most for strangers, a bounded queue, then 503; no guess is charged for it."""
    monkeypatch.setattr(passwords, "MAX_WAITING", 0)
    known = await browser_known(closed, monkeypatch)
    for _ in range(8):
        await Browser(closed).log_in("admin", 503)
    await known.log_in("admin")
    monkeypatch.setattr(passwords, "MAX_WAITING", 32)
    await Browser(closed).log_in("admin")
    assert closed.world.passwords._strangers._max_workers == passwords.THREADS


async def browser_known(api: Running, monkeypatch: pytest.MonkeyPatch) -> Browser:
    """A browser that was logged in before."""
    with monkeypatch.context() as patch:
        patch.setattr(passwords, "MAX_WAITING", 32)
        return await browser(api, "admin")


# --- the first account, tokens, openness


async def test_the_first_link_makes_an_admin_once_and_logs_in(start: Any) -> None:
    """In its hour; nothing else gets in meanwhile."""
    api: Running = await start(closed=True)
    await api.world.store.accounts.offer_first(digest("the-code"), api.clock.now_ns() + 3_600 * S)
    ana = Browser(api)
    await ana.send("GET", "/me", 401)
    await ana.send("POST", "/first", 401, code="wrong", name="ana", password=PASSWORD)
    await ana.send("POST", "/first", 400, code="the-code", name="ana", password="aaaaaaaaaaaa")
    await ana.send("POST", "/first", 400, code="the-code", name="../x", password=PASSWORD)
    await ana.send("POST", "/first", code="the-code", name="Ana", password=PASSWORD)
    me = await ana.send("GET", "/me")
    assert (me["name"], me["role"]) == ("ana", "admin")
    await Browser(api).send("POST", "/first", 401, code="the-code", name="eve", password=PASSWORD)
    assert await log(api) == ["ana/console session.begin ana", "ana/console user.add ana"]


async def test_an_open_collector_stays_open_until_there_is_an_account(api: Running) -> None:
    """On loopback, as before; nobody can shut the others out over the open API; then it asks."""
    anybody = Browser(api)
    assert (await anybody.send("GET", "/me"))["via"] == "open"
    assert (await anybody.log_in("x"))["needed"] is False
    await anybody.send("POST", "/users", 409, name="eve", role="admin", password=PASSWORD)
    await anybody.send("POST", "/tokens", 409, name="eve", role="admin", expires="1d")
    await anybody.send("POST", "/silences", 400, match="hot", duration="1h")
    await anybody.send("POST", "/silences", match="hot", duration="1h", author="ana")
    assert (await log(api))[0].startswith("anybody/api silence.add")
    await api.world.store.accounts.add("ana", Role.ADMIN, HASHED, BY)
    await anybody.send("GET", "/me", 401)


async def test_a_token_is_shown_once_and_holds_until_it_is_revoked(closed: Running) -> None:
    """Scoped, expiring, named, and one sees when it was used."""
    admin = await browser(closed, "admin")
    made = await admin.send("POST", "/tokens", name="ci", role="operator", expires="90d")
    await admin.send("POST", "/tokens", 409, name="ci", role="viewer", expires="90d")
    await admin.send("POST", "/tokens", 400, name="ci2", role="viewer", expires="4000d")
    headers = {"Authorization": f"Bearer {made['token']}"}
    program = Browser(closed)
    assert (await program.send("GET", "/me", 200, headers))["name"] == "token ci"
    listed = await admin.send("GET", "/tokens")
    assert "token" not in listed["tokens"][0]
    assert made["token"] not in str(listed)
    page = Browser(closed)
    await page.send("POST", "/login", token=made["token"])
    assert (await page.send("GET", "/me"))["role"] == "operator"
    await admin.send("DELETE", f"/tokens/{made['id']}")
    await program.send("GET", "/me", 401, headers)
    await page.send("GET", "/me", 401)
    assert made["token"] not in str(await closed.world.store.audited(AuditQuery()))


async def test_who_is_removed_leaves_no_token_behind_that_nobody_was_told_of(closed: Running) -> None:
    """The answer names those that it made; with `revoke_tokens` they, and what was made with them, open nothing any more."""
    admin = await browser(closed, "admin")
    for name, revoke in (("bea", False), ("cem", True)):
        await admin.send("POST", "/users", name=name, role="admin", password="a good one of theirs")
        theirs = Browser(closed)
        await theirs.log_in(name, password="a good one of theirs")
        made = await theirs.send("POST", "/tokens", name=f"ci of {name}", role="admin", expires="1d")
        bearer = {"Authorization": f"Bearer {made['token']}"}
        more = {"name": f"more of {name}", "role": "viewer", "expires": "1d"}
        async with closed.client.post("/api/v1/tokens", json=more, headers=bearer) as answer:
            assert answer.status == 200, await answer.text()
        user = await admin.send("PATCH", f"/users/{name}", role="admin")
        assert (user["tokens"], user["sessions"]) == (2, 1)
        assert user in (await admin.send("GET", "/users"))["users"]
        gone = await admin.send("DELETE", f"/users/{name}{'?revoke_tokens=true' if revoke else ''}")
        assert {one["name"] for one in gone["tokens"]} == {f"ci of {name}", f"more of {name}"}
        assert {one["revoked_ns"] is not None for one in gone["tokens"]} == {revoke}
        async with closed.client.get("/api/v1/agents", headers=bearer) as answer:
            assert answer.status == (401 if revoke else 200)
    ended = await log(closed, action="token.revoke")
    assert ended == ["admin/console token.revoke more of cem", "admin/console token.revoke ci of cem"]


async def test_the_audit_log_is_read_with_filters_and_in_pages(closed: Running) -> None:
    """Who, from where, what it was and is."""
    admin = await browser(closed, "admin")
    await admin.send("PATCH", "/users/viewer", role="operator")
    rows = (await admin.send("GET", "/audit?action=user&target=viewer"))["audit"]
    assert [row["action"] for row in rows] == ["user.role", "user.add"]
    first = rows[0]
    assert (first["actor"], first["via"], first["peer"]) == ("admin", "console", "127.0.0.1")
    assert (first["before"], first["after"]) == (
        {"name": "viewer", "role": "viewer"},
        {"name": "viewer", "role": "operator"},
    )
    page = (await admin.send("GET", "/audit?limit=1"))["audit"]
    rest = (await admin.send("GET", f"/audit?before={page[0]['id']}"))["audit"]
    assert [row["id"] for row in page + rest] == [
        row["id"] for row in (await admin.send("GET", "/audit"))["audit"]
    ]


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("short", "characters"),
        ("aaaaaaaaaaaa", "guessed"),
        ("abababababab", "guessed"),
        ("verylongname", "guessed"),
        ("x" * 999 + "yzab", "more than"),
    ],
)
def test_a_password_that_can_be_guessed_is_not_taken(password: str, words: str) -> None:
    """The sentence says why."""
    assert words in (passwords.weakness("verylongname", password) or "")
    assert passwords.weakness("verylongname", PASSWORD) is None
