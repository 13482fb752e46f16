"""What all endpoints with questions have in common: one wording for one mistake, and an answer that is cut says so."""

from typing import Any

import pytest

from enrolment.conftest import Host
from running import T0, Running, S, key
from telemetryx.api import export
from telemetryx.api.route import Route
from telemetryx.api.routes import ROUTES

QUESTIONS = [route for route in ROUTES if route.method == "GET" and "{" not in route.path]
LIMITED = [route for route in QUESTIONS if "limit" in route.params.model_fields]
#: What the endpoints need besides.
NEEDED = {"/api/v1/aggregate": {"match": "temp"}, "/api/v1/query_range": {"match": "temp"}}
#: Here the parameter is a text, and elsewhere a number.
TEXTS = {("/api/v1/events", "q"), ("/api/v1/agents", "before"), ("/api/v1/devices", "before")}
EXPORT = export.PATH.replace("{kind}", "samples")


async def refused(api: Running, path: str, **params: str) -> dict[str, str]:
    """Ask what is refused, and return the refusal."""
    async with api.client.get(path, params={**NEEDED.get(path, {}), **params}) as answer:
        found = await answer.json()
    assert answer.status == 400, (path, params, found)
    return dict(found["error"])


def paths(*names: str) -> list[str]:
    """Return the endpoints that have all these parameters."""
    found = [route.path for route in QUESTIONS if set(names) <= set(route.params.model_fields)]
    return [*found, EXPORT] if set(names) <= set(export.ExportParams.model_fields) else found


@pytest.mark.parametrize("route", LIMITED, ids=lambda route: route.path)
def test_an_answer_with_a_limit_says_whether_it_is_cut(route: Route) -> None:
    """By `truncated`, by `next` for the next page, or by the `total` of all rows."""
    assert set(route.response.model_fields) & {"truncated", "next", "total"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("limit", "0", "parameter 'limit': it must be at least 1 (got '0')"),
        ("limit", "1001", "parameter 'limit': it must be at most 1000 (got '1001')"),
        ("limit", "x", "parameter 'limit': it must be a whole number (got 'x')"),
        ("offset", "-1", "parameter 'offset': it must be at least 0 (got '-1')"),
        ("before", "0", "parameter 'before': it must be at least 1 (got '0')"),
        ("match", "temp{", "parameter 'match': a label name is expected at column 6"),
        ("match", "m" * 4_001, f"parameter 'match': it is longer than 4000 characters (got '{'m' * 80}…')"),
        ("agent", "a" * 1_001, f"parameter 'agent': it is longer than 1000 characters (got '{'a' * 80}…')"),
        ("series", "0", "parameter 'series': it must be at least 1 (got '0')"),
        ("q", "2", "parameter 'q': it must be at most 1 (got '2')"),
        ("step", "10", "parameter 'step': '10' is not a duration: write a number and a unit, like 250ms, 10s, 1h30m or 7d"),
    ],
)  # fmt: skip
async def test_one_mistake_has_one_wording_everywhere(api: Running, name: str, value: str, said: str) -> None:
    """It names the parameter, says what it must be, and quotes once what was given."""
    asked = [path for path in paths(name) if (path, name) not in TEXTS]
    assert asked
    for path in asked:
        assert (await refused(api, path, **{name: value}))["message"] == said, path


async def test_an_unknown_word_is_refused_with_the_words_that_there_are(api: Running) -> None:
    """So that nobody has to look them up."""
    said = (await refused(api, "/api/v1/query_range", agg="p99"))["message"]
    assert said == (
        "parameter 'agg': it must be 'avg', 'min', 'max', 'sum', 'count', 'last' or 'raw' (got 'p99')"
    )


@pytest.mark.parametrize("path", paths("start", "end"))
async def test_a_time_that_ends_before_it_begins_is_refused(api: Running, path: str) -> None:
    """An empty answer would look as if there were nothing."""
    for start, end in (("now", "-1h"), ("-1h", "-1h")):
        error = await refused(api, path, start=start, end=end)
        assert error["message"] == "start is not before end"
        assert error["hint"]


async def test_a_label_without_a_name_is_refused(api: Running) -> None:
    """An aggregate by nothing is asked for by leaving `by` out."""
    assert "`by` names no label" in (await refused(api, "/api/v1/aggregate", by=""))["message"]


async def listed(api: Running, path: str, **params: Any) -> dict[str, Any]:
    """Ask for a page of a list."""
    return await api.get(path, limit=2, **params)


async def test_lists_of_what_people_did_say_when_there_is_more(api: Running) -> None:
    """Silences and enrolment tokens; and the audit log, which has it page by page, each entry once."""
    for number in range(3):
        body = {"match": f"hot{number}", "duration": "1h", "author": "ana", "comment": "x"}
        async with api.client.post("/api/v1/silences", json=body) as answer:
            assert answer.status == 200, await answer.text()
        async with api.client.post("/api/v1/enroll/tokens", json={"site": f"s{number}"}) as answer:
            assert answer.status == 200, await answer.text()
    for path, rows in (("/silences", "silences"), ("/enroll/tokens", "tokens")):
        page = await listed(api, path)
        assert (len(page[rows]), page["truncated"]) == (2, True), path
        assert (await api.get(path, limit=3))["truncated"] is False, path
    seen: list[int] = []
    page = {"next": None}
    while page["next"] is not None or not seen:
        page = await listed(api, "/audit", **({"before": page["next"]} if seen else {}))
        seen += [row["id"] for row in page["audit"]]
    assert len(seen) == len(set(seen)) >= 6
    assert seen == sorted(seen, reverse=True)


async def test_enrolment_is_paged_without_gap_or_repetition(api: Running) -> None:
    """Tokens newest first, agents by name; a part of a name finds them in whatever case."""
    assert api.world.enrolment is not None
    async with api.client.post("/api/v1/enroll/tokens", json={"uses": 5}) as answer:
        token = (await answer.json())["token"]
    names = ["Pump-1", "pump-2", "pump-3", "valve"]
    for name in names:
        body = {"token": token, "agent": name, "csr": Host(name).csr()}
        async with api.client.post("/api/v1/enroll", json=body) as answer:
            assert answer.status == 200, await answer.text()
        async with api.client.post("/api/v1/enroll/tokens", json={}) as answer:
            assert answer.status == 200, await answer.text()

    async def everything(path: str, rows: str, key: str, cursor: str, **params: Any) -> list[Any]:
        """Go through all pages."""
        seen: list[Any] = []
        page = await listed(api, path, **params)
        while True:
            seen += [row[key] for row in page[rows]]
            assert page["truncated"] is (page["next"] is not None)
            if page["next"] is None:
                return seen
            page = await listed(api, path, **params, **{cursor: page["next"]})

    assert await everything("/enroll/tokens", "tokens", "id", "before") == [5, 4, 3, 2, 1]
    assert await everything("/enroll/agents", "agents", "agent", "after") == names
    assert await everything("/enroll/agents", "agents", "agent", "after", filter="pump") == names[:3]
    (valve,) = (await api.get("/enroll/agents", filter="ALV"))["agents"]
    assert valve["renewed_ns"] == valve["asked_ns"] == api.clock.now_ns()
    assert int(valve["serial"], 16) > 0


async def test_an_agent_says_how_many_devices_it_has(api: Running) -> None:
    """Beside those that its answer lists."""
    await api.field.send({key("temp", device=f"d{number}"): [(T0 - S, 1.0)] for number in range(3)})
    found = await api.get("/agents/edge")
    assert (len(found["devices"]), found["devices_total"]) == (3, 3)


async def test_series_are_paged_without_gap_or_repetition_while_others_come(api: Running) -> None:
    """They are in the order in which they were first seen: new ones come at the end."""
    await api.field.send({key("temp", device=f"m{number}"): [(T0 - S, 1.0)] for number in range(5)})
    seen: list[int] = []
    while True:
        page = await listed(api, "/series", offset=len(seen))
        seen += [row["id"] for row in page["series"]]
        if len(seen) >= page["total"]:
            break
        if page["total"] < 9:
            # By name it would stand before all.
            await api.field.send({key("a", device=f"a{len(seen)}"): [(T0 - S, 1.0)]})
    assert len(seen) == len(set(seen)) == page["total"]


async def test_an_agent_that_was_revoked_is_told_as_that_and_raises_no_alarm(api: Running) -> None:
    """The shipped rules go by when an agent was last seen and by its clock; its other numbers stay."""
    async with api.client.post("/api/v1/enroll/tokens", json={"uses": 2}) as answer:
        token = (await answer.json())["token"]
    for name in ("pump", "valve"):
        body = {"token": token, "agent": name, "csr": Host(name).csr()}
        async with api.client.post("/api/v1/enroll", json=body) as answer:
            assert answer.status == 200, await answer.text()
        await api.field.send({key("m"): [(T0, 1.0)]}, agent=name)
    async with api.client.post("/api/v1/enroll/agents/pump/revoke", json={}) as answer:
        assert answer.status == 200, await answer.text()
    async with api.client.get("/metrics") as answer:
        text = await answer.text()
    assert 'telemetryx_collector_agent_last_seen_seconds{agent="valve"}' in text
    assert 'telemetryx_collector_agent_last_seen_seconds{agent="pump"}' not in text
    assert 'telemetryx_collector_agent_clock_skew_seconds{agent="valve"}' in text
    assert 'telemetryx_collector_agent_clock_skew_seconds{agent="pump"}' not in text
    assert 'telemetryx_collector_agents{state="revoked"} 1' in text
    answer = await api.get("/agents")
    assert {row["name"]: row["state"] for row in answer["agents"]} == {"pump": "revoked", "valve": "silent"}
    assert answer["counts"] == {"live": 0, "catching_up": 0, "silent": 1, "revoked": 1}
    assert [row["name"] for row in (await api.get("/agents", state="revoked"))["agents"]] == ["pump"]
    async with api.client.post(
        "/api/v1/configs/check", json={"toml": "[agent]\nlog = 'info'", "match": 'os!="x"'}
    ) as answer:
        assert (await answer.json())["agents"] == ["valve"], (
            "one that gets nothing any more is not waited for"
        )
    assert 'telemetryx_collector_agent_backlog_bytes{agent="pump"}' in text
