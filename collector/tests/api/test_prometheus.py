"""The Prometheus API as Grafana calls it: recorded requests, Prometheus' exact JSON, its status codes, and its limits."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from prometheus_asking import ask
from running import T0, Running, S, key
from telemetryx.api.auth import read_tokens
from telemetryx.api.prometheus import endpoints, source, work
from telemetryx.api.prometheus.params import unescaped
from telemetryx.api.world import Limits

START = T0 // S
EVIL = 'a"b\\c\n<script>alert(1)</script>; DROP TABLE series'
TOKEN = "tx_0123456789abcdef"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def field(api: Running) -> Running:
    """Two pumps with a counter each and a temperature, ten minutes of a sample every ten seconds before T0."""
    for device, rate in (("pump1", 1.0), ("pump2", 2.0)):
        times = [T0 - 600 * S + 10 * S * n for n in range(61)]
        await api.field.send(
            {
                key("strokes_total", site="north", device=device): [
                    (time, 10 * rate * n) for n, time in enumerate(times)
                ],
                key("pump.temp", site="north", device=device): [(time, 20.5) for time in times],
            }
        )
    return api


async def test_grafanas_connection_test_works(api: Running) -> None:
    """`Save & test` asks for 1+1 at 4, and the answer is a scalar."""
    assert await ask(api, "query", query="1+1", time=4) == {
        "status": "success",
        "data": {"resultType": "scalar", "result": [4, "2"]},
    }


async def test_an_instant_query_is_a_vector_in_prometheus_json(field: Running) -> None:
    """Times are numbers of seconds, values are texts, the name and the agent are labels."""
    found = await ask(field, "query", query='strokes_total{device="pump2"}', time=f"{START}.5")
    assert found["data"] == {
        "resultType": "vector",
        "result": [
            {
                "metric": {
                    "__name__": "strokes_total",
                    "agent": "edge",
                    "device": "pump2",
                    "site": "north",
                },
                "value": [START + 0.5, "1200"],
            }
        ],
    }


#: What Grafana sent, with only the times changed: the path, its parameters, and what must be in the answer.
RECORDED: list[tuple[str, dict[str, Any], str]] = [
    ("query", {"query": "1+1", "time": "4"}, '"scalar"'),
    ("query_range", {"query": "sum by(device) (rate(strokes_total[5m]))", "start": START - 300, "end": START, "step": "15"}, '"pump2"'),
    ("query_range", {"query": "strokes_total", "start": f"{START - 300}.123", "end": f"{START}.623", "step": "0.5", "timeout": "30s"}, '"matrix"'),
    ("query_range", {"query": '{"pump.temp"} > 20', "start": START - 60, "end": START, "step": "15"}, '"20.5"'),
    ("query_range", {"query": 'avg_over_time({__name__="pump.temp"}[1m0s])', "start": START - 60, "end": START, "step": "60"}, '"20.5"'),
    ("query_range", {"query": 'topk(5, max by(site, device) ({"pump.temp", site=~"north|south"}))', "start": START - 60, "end": START, "step": "15"}, '"20.5"'),
    ("query_range", {"query": "histogram", "start": START - 60, "end": START, "step": "15"}, '"result":[]'),
    ("labels", {"start": START - 3600, "end": START, "limit": "40000", "match": '{__name__!=""}'}, '"device"'),
    ("labels", {"start": START - 3600, "end": START, "limit": "40000", "match": ["strokes_total", '{"pump.temp"}']}, '"site"'),
    ("label/__name__/values", {"start": START - 3600, "end": START, "limit": "40000"}, '["pump.temp","strokes_total"]'),
    ("label/device/values", {"start": START - 3600, "end": START, "match": 'strokes_total{site="north"}'}, '["pump1","pump2"]'),
    ("label/agent/values", {"start": START - 3600, "end": START}, '["edge"]'),
    ("series", {"match": '{__name__!=""}', "start": START - 3600, "end": START, "limit": "40000"}, '"pump.temp"'),
    ("metadata", {}, '"type":"counter","help":"","unit":"°C"'),
    ("query_exemplars", {"query": "strokes_total", "start": START - 3600, "end": START}, '"data":[]'),
    ("status/buildinfo", {}, '"version":"3.0.0"'),
    ("rules", {}, '"type":"alerting"'),
    ("alerts", {}, '"alerts":[]'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "pairs", "words"), RECORDED, ids=[f"{n} {one[0]}" for n, one in enumerate(RECORDED)]
)
async def test_recorded_requests_of_grafana_are_answered(
    field: Running, path: str, pairs: dict[str, Any], words: str
) -> None:
    """Each of them, by GET and POST, with status success."""
    found = await ask(field, path, **pairs)
    assert found["status"] == "success"
    assert words in json.dumps(found, separators=(",", ":"), ensure_ascii=False)
    assert "features" not in json.dumps(found)


async def test_a_range_query_has_a_value_at_each_step(field: Running) -> None:
    """A rate over the counter's steady rise, at fractions of a second."""
    found = await ask(
        field,
        "query_range",
        query='rate(strokes_total{device="pump1"}[1m])',
        start=START - 1,
        end=START,
        step=0.5,
    )
    (line,) = found["data"]["result"]
    assert "__name__" not in line["metric"]
    assert [point[0] for point in line["values"]] == [START - 1, START - 0.5, START]
    assert [float(point[1]) for point in line["values"]] == pytest.approx([1.0, 1.0, 1.0])


async def test_a_range_has_one_sample_a_millisecond(api: Running) -> None:
    """The last: a Prometheus has no finer times."""
    await api.field.send({key("fast"): [(T0 - S + n * 250_000, float(n)) for n in range(10)]})
    found = await ask(api, "query", query="fast[5s]", time=START)
    assert found["data"]["result"][0]["values"] == [
        [START - 1, "3"],
        [START - 0.999, "7"],
        [START - 0.998, "9"],
    ]


async def test_a_time_that_is_too_large_says_in_which_unit_it_is_read(api: Running) -> None:
    """Seconds: who gave milliseconds or a year beyond those of the store is told."""
    for time in ("9999999999", f"{START * 1_000}", "2200-01-01T00:00:00Z", "1700-01-01T00:00:00Z"):
        found = await ask(api, "query", 400, query="1", time=time)
        assert (
            "it is seconds since the epoch, from -4611686018 to 4611686018 (the year 2116)" in found["error"]
        )


async def test_what_a_limit_cuts_is_said_and_what_is_not_there_is_listed_elsewhere(api: Running) -> None:
    """Also of the units; and the reference of the own API isn't that of Prometheus'."""
    await api.field.send({key("a"): [(T0 - S, 1.0)], key("b"): [(T0 - S, 1.0)]})
    for path in ("metadata", "labels", "label/__name__/values"):
        assert (await ask(api, path, limit=1))["warnings"] == ["results truncated due to limit"], path
        assert "warnings" not in await ask(api, path, limit=9), path
    async with api.client.get("/prometheus/api/v1/targets") as answer:
        assert answer.status == 404
        assert "docs/how-to/grafana.md" in (await answer.json())["error"]


@pytest.mark.parametrize("after", ["1e15", "1e300", "5e9"])
async def test_a_time_after_at_that_is_none_is_refused(field: Running, after: str) -> None:
    """The parser takes any number there."""
    found = await ask(field, "query", 400, query=f"strokes_total @ {after}", time=START)
    assert found["errorType"] == "bad_data"


async def test_a_range_at_the_top_of_an_instant_query_gives_its_samples(field: Running) -> None:
    """Open on the left: the sample exactly at its begin is not one of them."""
    found = await ask(field, "query", query='strokes_total{device="pump1"}[30s]', time=START)
    (line,) = found["data"]["result"]
    assert line["values"] == [[START - 20, "580"], [START - 10, "590"], [START, "600"]]


@pytest.mark.parametrize(
    ("path", "pairs", "status", "kind", "words"),
    [
        ("query", {}, 400, "bad_data", "no expression found"),
        ("query", {"query": "sum("}, 400, "bad_data", "parse error"),
        ("query", {"query": "histogram_count(x)"}, 400, "bad_data", "histogram_count"),
        ("query", {"query": "1", "time": "noon"}, 400, "bad_data", 'invalid parameter "time"'),
        ("query", {"query": "1", "time": "NaN"}, 400, "bad_data", 'invalid parameter "time"'),
        ("query", {"query": "1", "time": "1e300"}, 400, "bad_data", 'invalid parameter "time"'),
        ("query", {"query": "1", "limit": "-1"}, 400, "bad_data", "limit"),
        ("query", {"query": "1\0"}, 400, "bad_data", "NUL"),
        ("query_range", {"query": "1", "start": 1, "end": 2}, 400, "bad_data", 'invalid parameter "step"'),
        ("query_range", {"query": "1", "start": 1, "end": 2, "step": 0}, 400, "bad_data", "zero or negative"),
        ("query_range", {"query": "1", "start": 2, "end": 1, "step": 1}, 400, "bad_data", "before start"),
        (
            "query_range",
            {"query": "1", "start": 0, "end": 90000, "step": 1},
            400,
            "bad_data",
            "11,000 points",
        ),
        ("query_range", {"query": "x[5m]", "start": 0, "end": 1, "step": 1}, 400, "bad_data", "range vector"),
        ("series", {}, 400, "bad_data", "match[]"),
        ("series", {"match": "rate(x[5m])"}, 400, "bad_data", "no selector"),
        ("query", {"query": 'label_replace(x, "", "", "", "")'}, 422, "execution", "label"),
        ("nothing", {}, 404, "not_found", "nothing"),
    ],
)
async def test_refusals_have_prometheus_shape_and_status(
    api: Running, path: str, pairs: dict[str, Any], status: int, kind: str, words: str
) -> None:
    """Status, errorType and error: clients read these and nothing else."""
    found = await ask(api, path, status, **pairs)
    assert (found["status"], found["errorType"]) == ("error", kind)
    assert words in found["error"]


async def test_times_are_read_as_seconds_or_rfc3339(field: Running) -> None:
    """The same moment in both, and now without one."""
    wanted = await ask(field, "query", query="strokes_total", time=START)
    assert await ask(field, "query", query="strokes_total", time="2026-03-01T10:00:00Z") == wanted
    assert await ask(field, "query", query="strokes_total") == wanted


async def test_what_is_cut_at_a_limit_is_told(field: Running) -> None:
    """In `warnings`, as Prometheus does."""
    for path, pairs in (
        ("query", {"query": "strokes_total"}),
        ("query_range", {"query": "strokes_total", "start": START - 60, "end": START, "step": 15}),
        ("labels", {}),
        ("label/device/values", {}),
        ("series", {"match": "strokes_total"}),
    ):
        found = await ask(field, path, **pairs, limit=1)
        assert found["warnings"] == ["results truncated due to limit"]
        data = found["data"]["result"] if "query" in path else found["data"]
        assert len(data) == 1


async def test_more_series_than_are_evaluated_are_refused_not_cut(
    field: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum over some of them would be wrong, and look right."""
    monkeypatch.setattr(source, "MAX_SERIES", 1)
    found = await ask(field, "query", 422, query="sum(strokes_total)")
    assert (found["errorType"], "more than 1 series" in found["error"]) == ("execution", True)


async def test_lists_go_through_any_number_of_series(field: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grafana's pickers ask for all names of a store that has more series than one query may be about; an answer's own bound is told."""
    monkeypatch.setattr(source, "MAX_SERIES", 1)
    since = {"start": START - 3_600, "end": START}
    for asked in ({}, since, {**since, "match": '{__name__!=""}'}):
        names = await ask(field, "label/__name__/values", **asked)
        assert (names["data"], "warnings" in names) == (["pump.temp", "strokes_total"], False)
        assert (await ask(field, "label/device/values", **asked))["data"] == ["pump1", "pump2"]
        assert "site" in (await ask(field, "labels", **asked))["data"]
    assert set((await ask(field, "metadata"))["data"]) == {"pump.temp", "strokes_total"}
    found = await ask(field, "series", match=["strokes_total", '{device="pump1"}'], **since)
    assert (len(found["data"]), "warnings" in found) == (3, False)
    monkeypatch.setattr(endpoints, "MAX_LISTED", 2)
    monkeypatch.setattr(endpoints, "MAX_NAMES", 1)
    for path, count in (("series", 2), ("label/device/values", 1), ("labels", 1), ("metadata", 1)):
        found = await ask(field, path, match='{__name__!=""}', limit=40_000)
        assert (len(found["data"]), found["warnings"]) == (count, ["results truncated due to limit"]), path


async def test_more_samples_than_are_held_are_refused(
    field: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Prometheus' words for it."""
    monkeypatch.setattr(source, "MAX_SAMPLES", 10)
    found = await ask(field, "query", 422, query="rate(strokes_total[10m])", time=START)
    assert "too many samples" in found["error"]


async def test_a_query_ends_when_its_time_is_over(field: Running) -> None:
    """503 and errorType timeout; others are answered afterwards."""
    found = await ask(field, "query", 503, query="sum(strokes_total)", timeout="0")
    assert found["errorType"] == "timeout"
    assert (await ask(field, "query", query="1"))["status"] == "success"


async def test_the_event_loop_answers_while_queries_are_evaluated(field: Running) -> None:
    """Evaluation runs in threads: many at once leave the server answering, and all of them end."""
    heavy = [
        ask(field, "query", query="sum_over_time(sum(strokes_total)[10m:100ms])", time=START)
        for _ in range(8)
    ]
    light = field.client.get("/healthz")
    *answers, health = await asyncio.gather(*heavy, light)
    assert health.status == 200
    assert len({json.dumps(answer) for answer in answers}) == 1


async def test_queries_that_take_long_leave_the_rest_of_the_api_free(
    field: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than threads wait for their turn, beyond that they are told to come again; REST answers meanwhile."""
    gate, begun = threading.Event(), threading.Semaphore(0)
    evaluated = endpoints.evaluate

    def held(*given: Any) -> Any:
        begun.release()
        assert gate.wait(120)
        return evaluated(*given)

    monkeypatch.setattr(endpoints, "evaluate", held)
    url = "/prometheus/api/v1/query?query=1"
    try:
        running = [asyncio.create_task(field.client.get(url)) for _ in range(work.THREADS)]
        for _ in running:
            assert await asyncio.to_thread(begun.acquire, timeout=60)
        queued = [asyncio.create_task(field.client.get(url)) for _ in range(work.MAX_WAITING)]
        async with asyncio.timeout(60):
            while True:
                assert (await field.get("/series"))["total"] == 4
                async with field.client.get(f"{url}&timeout=10ms") as answer:
                    found = await answer.json()
                if found["errorType"] == "unavailable":
                    break
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    finally:
        gate.set()
    answers = await asyncio.gather(*running, *queued)
    assert [one.status for one in answers[: work.THREADS]] == [200] * work.THREADS
    assert {one.status for one in answers} <= {200, 503}


async def test_labels_of_any_text_come_back_as_they_are(api: Running) -> None:
    """Quotes, line breaks, tags and SQL are data, in queries and in answers."""
    await api.field.send({key(EVIL, device=EVIL): [(T0, 1.0)]})
    quoted = json.dumps(EVIL)
    (row,) = (await ask(api, "query", query=f"{{{quoted}, device={quoted}}}", time=START))["data"]["result"]
    assert (row["metric"]["__name__"], row["metric"]["device"]) == (EVIL, EVIL)
    assert (await ask(api, "label/__name__/values"))["data"] == [EVIL]
    assert (await ask(api, "label/device/values", match=f"{{device={quoted}}}"))["data"] == [EVIL]
    assert (await ask(api, "query", query='count({__name__!=""})', time=START))["data"]["result"][0]["value"][
        1
    ] == "1"


async def test_a_label_named_agent_is_kept_beside_the_agents_name(api: Running) -> None:
    """As Prometheus does with labels that collide: exported_agent."""
    await api.field.send({key("x", agent="own"): [(T0, 1.0)]})
    await api.field.send({key("x"): [(T0, 2.0)]}, agent="other")
    (row,) = (await ask(api, "query", query='x{exported_agent="own"}', time=START))["data"]["result"]
    assert row["metric"] == {"__name__": "x", "agent": "edge", "exported_agent": "own"}
    (row,) = (await ask(api, "query", query='x{agent="other"}', time=START))["data"]["result"]
    assert row["value"][1] == "2"
    found = await ask(api, "query", query="sum by (agent) (x)", time=START)
    assert {one["metric"]["agent"]: one["value"][1] for one in found["data"]["result"]} == {
        "edge": "1",
        "other": "2",
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("U__pump_2e_temp", "pump.temp"),
        ("U__a__b", "a_b"),
        ("U___e9__20_", "é "),
        ("device", "device"),
        ("U__broken_zz_", "U__broken_zz_"),
        ("U___d800_", "U___d800_"),
    ],
)
def test_escaped_label_names_are_read(name: str, expected: str) -> None:
    """Grafana escapes names that older clients couldn't say."""
    assert unescaped(name) == expected


async def test_escaped_names_work_in_the_url(api: Running) -> None:
    """And names that need no escaping but the URL's."""
    await api.field.send({key("x", **{"net.peer": "p1"}): [(T0, 1.0)]})
    assert (await ask(api, "label/U__net_2e_peer/values"))["data"] == ["p1"]
    assert (await ask(api, "label/net.peer/values"))["data"] == ["p1"]


async def test_series_without_data_since_the_start_are_left_out(api: Running) -> None:
    """What ended before the time that is asked for isn't offered."""
    await api.field.send({key("old"): [(T0 - 7_200 * S, 1.0)], key("new"): [(T0, 1.0)]})
    assert (await ask(api, "label/__name__/values", start=START - 3_600))["data"] == ["new"]
    assert (await ask(api, "label/__name__/values"))["data"] == ["new", "old"]


async def test_series_that_began_after_the_end_are_left_out(api: Running) -> None:
    """By event time, the end's own instant included: for names, values and series alike."""
    await api.field.send({key("old", place="cellar"): [(T0 - 7_200 * S, 1.0)]})
    await api.field.send({key("new", site="roof"): [(T0, 1.0)]})
    asked = {"start": START - 8_000, "end": START - 7_200}
    assert (await ask(api, "label/__name__/values", **asked))["data"] == ["old"]
    assert (await ask(api, "label/__name__/values", end=START - 7_201))["data"] == []
    assert (await ask(api, "label/__name__/values", end=START))["data"] == ["new", "old"]
    names = (await ask(api, "labels", **asked))["data"]
    assert ("place" in names, "site" in names) == (True, False)
    (found,) = (await ask(api, "series", match='{__name__!=""}', **asked))["data"]
    assert found["__name__"] == "old"


async def test_the_api_needs_the_token_and_refuses_in_its_own_shape(start: Any, tmp_path: Path) -> None:
    """Grafana sends it as a bearer token."""
    (tmp_path / "tokens").touch(mode=0o600)
    (tmp_path / "tokens").write_text(TOKEN)
    api = await start(tokens=read_tokens(tmp_path / "tokens"))
    for path in ("api/v1/query?query=1", "api/v1/labels", "api/v1/nothing", "-/healthy"):
        async with api.client.get(f"/prometheus/{path}") as answer:
            assert answer.status == 401
            assert (await answer.json())["status"] == "error"
    async with api.client.get(
        "/prometheus/api/v1/query?query=1", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as answer:
        assert answer.status == 200


async def test_a_body_over_the_limit_is_refused(start: Any) -> None:
    """Before it is read."""
    api = await start(limits=Limits(64, 100, 100_000, 30.0, 3))
    async with api.client.post(
        "/prometheus/api/v1/query", data=urlencode({"query": "1" * 200}), headers=FORM
    ) as answer:
        assert answer.status == 413
        assert (await answer.json())["status"] == "error"


async def test_open_alerts_look_as_prometheus_shows_them(api: Running) -> None:
    """Firing, pending, and one whose data stopped: it still fires."""
    common = {
        "severity": "warning",
        "labels": {"device": EVIL},
        "annotations": {},
        "summary": "hot",
        "started_ns": T0,
    }
    api.judge.found = [
        {"rule": "hot", "state": state, "value": 5.5, **common} for state in ("firing", "pending", "unknown")
    ]
    (alert, *_) = found = (await ask(api, "alerts"))["data"]["alerts"]
    assert [one["state"] for one in found] == ["firing", "pending", "firing"]
    assert alert["labels"] == {"alertname": "hot", "device": EVIL, "severity": "warning"}
    assert (alert["activeAt"], alert["value"]) == ("2026-03-01T10:00:00Z", "5.500000e+00")
    (group,) = (await ask(api, "rules"))["data"]["groups"]
    assert (group["file"], group["rules"][0]["state"], len(group["rules"][0]["alerts"])) == (
        "a.yaml",
        "firing",
        3,
    )
    assert (await ask(api, "rules", type="record"))["data"]["groups"] == []


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ({"type": "alert"}, True),
        ({"rule_name[]": ["cold", "hot"]}, True),
        ({"rule_name[]": "cold"}, False),
        ({"rule_group[]": "a", "file[]": "a.yaml"}, True),
        ({"rule_group[]": "b"}, False),
        ({"file[]": "b.yaml"}, False),
        ({"rule_name[]": "hot", "file[]": "b.yaml"}, False),
    ],
)
async def test_rules_are_filtered_as_prometheus_does(
    api: Running, asked: dict[str, Any], *, there: bool
) -> None:
    """By type, name, group and file; a group of which nothing is left isn't shown."""
    assert bool((await ask(api, "rules", **asked))["data"]["groups"]) == there


async def test_alerts_can_be_left_out_of_rules_and_are_not_cut_in_silence(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule's state stays; a filter that is none is refused."""
    common = {"severity": "warning", "labels": {}, "annotations": {}, "summary": "", "started_ns": T0}
    api.judge.found = [{"rule": "hot", "state": "firing", "value": 5.5, **common} for _ in range(2)]
    for asked, count in (({}, 2), ({"exclude_alerts": "false"}, 2), ({"exclude_alerts": "true"}, 0)):
        found = await ask(api, "rules", **asked)
        (rule,) = found["data"]["groups"][0]["rules"]
        assert (rule["state"], len(rule["alerts"]), "warnings" in found) == ("firing", count, False)
    for asked in ({"type": "silent"}, {"exclude_alerts": "perhaps"}):
        assert (await ask(api, "rules", 400, **asked))["errorType"] == "bad_data"
    monkeypatch.setattr(endpoints, "MAX_ALERTS", 1)
    for path in ("rules", "alerts"):
        assert (await ask(api, path))["warnings"] == [
            "there are more than 1 open alerts: the others are left out"
        ]
    assert len((await ask(api, "alerts"))["data"]["alerts"]) == 1
