"""Remote care over the API: who may push and ask, what is refused and why, what is shown, how an answer is fetched."""

from typing import Any

import pytest

from api.test_accounts import bearer
from enrolment.conftest import Host
from running import T0, Running, S
from telemetryx.api.world import Limits
from telemetryx.care.check import check
from telemetryx.store.accounts import Role
from telemetryx.store.audit import AuditQuery
from telemetryx.store.care import MAX_TOML, CareRefused, ConfigState, Phase, RequestState
from telemetryx.store.tables import pushed, requests

EVIL = "<img src=x onerror=alert(1)>"
TEXT = f"# {EVIL}\n[fold]\nlateness = '3s'\n"


async def connected(api: Running, name: str, phase: Phase = Phase.NONE, **labels: str) -> int:
    """Have an agent in the store that is connected, and what it said."""
    session = await api.world.store.session_opened(name, "p", "1.0", labels, 0.0)
    said = ConfigState(name, session, phase=phase, requests=phase is not Phase.UNSUPPORTED)
    assert api.world.care is not None
    await api.world.care.store.write(lambda db: pushed.note(db, [said]))
    return session


async def send(
    api: Running,
    method: str,
    path: str,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **body: Any,
) -> dict[str, Any]:
    """Ask with a JSON body."""
    async with api.client.request(method, f"/api/v1{path}", json=body, headers=headers) as answer:
        said: dict[str, Any] = await answer.json()
        assert answer.status == status, said
        return said


async def test_a_configuration_is_checked_pushed_shown_and_taken_back(api: Running) -> None:
    """What the check says is what the push does; the agent's page and the list of states show how far it is."""
    await connected(api, "pump", site="plant1")
    await connected(api, "valve", site="plant1")
    await connected(api, "old", Phase.UNSUPPORTED, site="plant1")
    await connected(api, "fan", site="plant2")
    body = {"toml": TEXT, "match": '{site="plant1"}', "note": EVIL, "canary": "50%"}
    reach = await send(api, "POST", "/configs/check", **body)
    assert (await api.get("/configs"))["configs"] == []
    made = await send(api, "POST", "/configs", **body)
    config = made.pop("config")
    assert made == reach
    assert (reach["agents"], reach["first"], reach["unsupported"]) == (["pump", "valve"], ["pump"], ["old"])
    assert reach["replaced"] == [{"version": 0, "agents": 2}]
    assert (config["match"], config["state"], config["note"]) == ('site="plant1"', "canary", EVIL)
    assert (await api.get("/configs/1"))["toml"] == TEXT
    states = await api.get("/configs/states")
    assert {row["agent"]: (row["wanted"], row["phase"]) for row in states["agents"]} == {
        "fan": (0, "none"),
        "old": (0, "unsupported"),
        "pump": (1, "waiting"),
        "valve": (0, "none"),
    }
    assert states["counts"]["none"] == 2
    only = await api.get("/configs/states", phase="waiting", version=1)
    assert [row["agent"] for row in only["agents"]] == ["pump"]
    shown = (await api.get("/agents/pump"))["config"]
    assert (shown["wanted"], shown["phase"], shown["in_force"], shown["requests"]) == (1, "waiting", 0, True)
    again = await send(api, "POST", "/configs/1/push-again", canary="")
    assert (again["config"]["version"], again["config"]["state"]) == (2, "everywhere")
    gone = await send(api, "POST", "/configs/2/take-back")
    assert (gone["state"], gone["taken_back_ns"]) == ("taken_back", T0)
    newest = await api.get("/configs", limit=1)
    assert ([row["version"] for row in newest["configs"]], newest["next"]) == ([2], 2)
    listed = await api.get("/configs", limit=1, before=2)
    assert [row["version"] for row in listed["configs"]] == [1]
    for path in ("/configs/9/take-back", "/configs/9/push-again"):
        assert "there is no configuration 9" in (await send(api, "POST", path, 404))["error"]["message"]


async def test_viewers_look_operators_ask_and_admins_push(start: Any) -> None:
    """Each endpoint with each role; who may not leaves no trace in the store."""
    api: Running = await start(closed=True)
    await connected(api, "pump")
    viewer, operator, admin = [await bearer(api, role) for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN)]
    body = {"toml": TEXT}
    for headers in (viewer, operator):
        for path in ("/configs", "/configs/check"):
            await send(api, "POST", path, 403, headers, **body)
    for path in ("/agents/pump/log-level", "/agents/pump/diagnostics"):
        await send(api, "POST", path, 403, viewer, level="debug")
    care = api.world.care
    assert care is not None
    assert await care.configs(9) == []
    assert await care.requests(None, 9) == []
    made = await send(api, "POST", "/configs", 200, admin, **body)
    version = made["config"]["version"]
    for headers in (viewer, operator):
        await send(api, "POST", f"/configs/{version}/take-back", 403, headers)
        await send(api, "POST", f"/configs/{version}/push-again", 403, headers)
    for path, status in (
        ("/configs", 200),
        ("/configs/states", 200),
        (f"/configs/{version}", 403),
        ("/requests", 403),
        ("/requests/1", 403),
        ("/requests/1/answer", 403),
    ):
        async with api.client.get(f"/api/v1{path}", headers=viewer) as answer:
            assert answer.status == status, path
    async with api.client.get(f"/api/v1/configs/{version}") as answer:
        assert answer.status == 401
    await send(api, "GET", f"/configs/{version}", 200, operator)
    asked = await send(
        api, "POST", "/agents/pump/log-level", 200, operator, level="info,uplink=trace", duration="90s"
    )
    assert asked["args"] == {"level": "info,uplink=trace", "for_s": 90}
    await send(api, "POST", "/agents/pump/diagnostics", 200, operator)
    await send(api, "POST", f"/configs/{version}/take-back", 200, admin)
    rows = await api.world.store.audited(AuditQuery())
    noted = [
        (row.actor.name.removeprefix("token "), row.action, row.target)
        for row in rows
        if row.action.startswith(("config", "agent"))
    ]
    assert noted == [
        ("admin", "config.take_back", str(version)),
        ("operator", "agent.diagnostics", "pump"),
        ("operator", "agent.log_level", "pump"),
        ("admin", "config.push", str(version)),
    ]


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("", "is empty"),
        ("[fold", "is no TOML"),
        ("a = 1\na = 2", "is no TOML"),
        ('[uplink]\nurl = "https://evil"', "uplink.url: it decides where"),
        ('[uplink]\n"token_file" = "/etc/shadow"', "uplink.token_file: it decides where"),
        ('uplink = { fallback_url = "mqtts://evil" }', "uplink.fallback_url"),
        ('agent.name = "eve"', "agent.name: it is who the agent is"),
        ('[agent]\ndata_dir = "/"', "agent.data_dir"),
        ("[remote]\nrequests = false", "remote: whether and how"),
        ("[uplink]\nmax_backoff = 90_000", "uplink.max_backoff: a pause"),
        ('[model]\nhost_dir = "/tmp"', "model.host_dir: files and folders"),
        ('[input.host]\nroot = "/tmp"', "input.host.root: files and folders"),
        ('[input.http]\ntoken_file = "/etc/shadow"', "input.http.token_file"),
        ('[[input.mqtt_client]]\nurl = "mqtt://b"\n[[input.mqtt_client]]\npassword_file = "/x"', "input.mqtt_client.password_file"),
        ("a = " + "[" * 100_000, "nests"),
        ("a." * 2_000 + "b = 1", "more than 32 parts"),
        ('[ "a\\"" .' + " 'b' ." * 40 + "c]", "more than 32 parts"),
        ("a = { b = { c = 1 } }\n" + "[a.b]" , "is no TOML"),
    ],
)  # fmt: skip
async def test_what_an_agent_would_refuse_for_sure_is_refused_at_once(
    api: Running, toml: str, words: str
) -> None:
    """With the key and why; nothing is stored."""
    for path in ("/configs", "/configs/check"):
        async with api.client.post(f"/api/v1{path}", json={"toml": toml}) as answer:
            assert answer.status in {400, 413}, await answer.text()
            said = await answer.json()
        if answer.status == 400:
            assert words in said["error"]["message"]
    assert (await api.get("/configs"))["configs"] == []
    if toml:
        with pytest.raises(CareRefused, match=words.split(":", maxsplit=1)[0]):
            check(toml)


@pytest.mark.parametrize("toml", ["a." * (MAX_TOML // 2 - 4) + "b = 1", "a = " + "{b = " * (MAX_TOML // 6)])
def test_a_text_that_would_take_all_memory_is_refused(toml: str) -> None:
    """Python's reader keeps every beginning of a key: of the first text tens of gigabytes."""
    with pytest.raises(CareRefused, match=r"parts|nests"):
        check(toml)


def test_how_the_link_is_used_may_be_pushed() -> None:
    """Not where it goes: shares, limits and pauses are what one pushes to a site with a slow link."""
    check(
        '[uplink]\nmax_backoff = 3600\nconnect_timeout = 20\n[uplink.lanes]\nlimit = "64KiB/s"\n[agent]\nlog = "debug"'
    )


async def test_a_configuration_has_at_most_256_kib(start: Any) -> None:
    """In bytes, not in characters."""
    api: Running = await start(limits=Limits(2 << 20, 100, 100_000, 30.0, 3))
    line = "a = 1\n"
    fits = line + "#" * (MAX_TOML - len(line))
    made = await send(api, "POST", "/configs", toml=fits)
    assert made["config"]["bytes"] == MAX_TOML
    for toml in (fits + "#", line + "#" + "ä" * (MAX_TOML // 2)):
        await send(api, "POST", "/configs", 400, toml=toml)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"match": "site="}, "can't be read"),
        ({"match": 'site=~"("'}, "can't be read"),
        ({"match": "temperature"}, "can't be read"),
        ({"match": '__name__="x"'}, "names no label"),
        ({"match": "{}"}, None),
        ({"agent": "a", "match": 'b="c"'}, "both `agent` and `match`"),
        ({"canary": "110%"}, "go first"),
        ({"canary": "some"}, "canary"),
        ({"toml": "a = 1\0"}, "NUL"),
        ({"level": 1}, "level"),
    ],
)
async def test_a_target_that_cannot_be_is_refused(
    api: Running, body: dict[str, Any], words: str | None
) -> None:
    """With what is wrong; braces with nothing in them are all agents, as in every selector."""
    said = await send(
        api, "POST", "/configs/check", 200 if words is None else 400, **{"toml": "a = 1", **body}
    )
    assert words is None or words in said["error"]["message"]


async def test_a_label_value_is_compared_and_never_run(api: Running) -> None:
    """Quotes, percent signs and SQL in labels and matchers are text."""
    evil = "a\"b' OR 1=1 --%"
    await connected(api, "pump", site=evil)
    await connected(api, "valve", site="plant1")
    quoted = evil.replace('"', '\\"')
    reach = await send(api, "POST", "/configs", toml="a = 1", match=f'site="{quoted}"')
    assert reach["agents"] == ["pump"]
    reach = await send(api, "POST", "/configs/check", toml="a = 1", match='site=~"plant.*", agent!="pump"')
    assert reach["agents"] == ["valve"]


async def test_requests_that_cannot_be_are_refused(api: Running) -> None:
    """An agent nobody knows, one that takes none, a level that is no filter, a time over a day."""
    await connected(api, "pump")
    await connected(api, "old", Phase.UNSUPPORTED)
    await send(api, "POST", "/agents/nobody/diagnostics", 404)
    assert (
        "takes no requests" in (await send(api, "POST", "/agents/old/diagnostics", 409))["error"]["message"]
    )
    for body in (
        {"level": "debug\x1b[31m"},
        {"level": "debug", "duration": "25h"},
        {"level": "debug", "duration": "0s"},
    ):
        said = await send(api, "POST", "/agents/pump/log-level", 400, **body)
        if body.get("duration") == "25h":
            # Not in nanoseconds, in which it is kept.
            assert "it must be at most 1d (got '25h')" in said["error"]["message"]
    for _ in range(8):
        await send(api, "POST", "/agents/pump/diagnostics")
    await send(api, "POST", "/agents/pump/diagnostics", 409)


async def test_what_is_for_a_revoked_agent_is_refused_at_once(api: Running) -> None:
    """Nothing reaches it any more: what was asked or pushed would wait for nothing."""
    token = (await send(api, "POST", "/enroll/tokens"))["token"]
    host = Host("gone")
    await send(api, "POST", "/enroll", token=token, agent=host.name, csr=host.csr())
    await connected(api, "gone")
    made = await send(api, "POST", "/configs", toml="a = 1", agent="gone")
    await send(api, "POST", "/enroll/agents/gone/revoke")
    for path, body in (
        ("/agents/gone/diagnostics", {}),
        ("/agents/gone/log-level", {"level": "debug"}),
        ("/configs/check", {"toml": "a = 2", "agent": "gone"}),
        ("/configs", {"toml": "a = 2", "agent": "gone"}),
        (f"/configs/{made['config']['version']}/push-again", {}),
    ):
        error = (await send(api, "POST", path, 409, **body))["error"]
        assert "'gone' was revoked" in error["message"]
        assert "--agent gone --replace" in error["hint"]


async def test_a_bundle_is_fetched_as_a_file_once_it_is_whole(api: Running) -> None:
    """Piece by piece; before that, and for what has no file, the answer says so."""
    await connected(api, 'pu"mp\n')
    asked = await send(api, "POST", "/agents/pu%22mp%0A/diagnostics", wait="1h")
    number, care = asked["id"], api.world.care
    assert care is not None
    path = f"/api/v1/requests/{number}/answer"
    async with api.client.get(path) as answer:
        assert answer.status == 404
    now = api.clock.now_ns()
    await care.store.write(lambda db: requests.claim(db, [number], now))
    for at in (0, 4):
        await care.store.write(lambda db, at=at: requests.add_piece(db, number, at, b"\0zst", now))  # type: ignore[misc]
    assert (await api.get(f"/requests/{number}"))["bytes"] == 8
    await care.store.write(lambda db: requests.finish(db, number, RequestState.DONE, "", now))
    async with api.client.get(path) as answer:
        assert answer.status == 200
        assert await answer.read() == b"\0zst\0zst"
        assert answer.headers["Content-Disposition"] == f'attachment; filename="pu_mp_-{number}.tar.zst"'
        assert answer.headers["Content-Type"] == "application/zstd"
        assert answer.headers["Cache-Control"] == "no-store"
    assert [row["id"] for row in (await api.get("/requests", agent='pu"mp\n'))["requests"]] == [number]
    assert (await api.get("/requests", agent="pump"))["requests"] == []
    async with api.client.get("/api/v1/requests/99/answer") as answer:
        assert answer.status == 404


async def test_the_metrics_say_how_many_agents_failed(api: Running) -> None:
    """By phase, also those that none is in."""
    await connected(api, "pump", Phase.FAILED)
    await connected(api, "old", Phase.UNSUPPORTED)
    api.clock.advance(2 * S)
    text = await (await api.client.get("/metrics")).text()
    assert 'telemetryx_collector_configured_agents{phase="failed"} 1' in text
    assert 'telemetryx_collector_configured_agents{phase="unsupported"} 1' in text
    assert 'telemetryx_collector_configured_agents{phase="applied"} 0' in text
