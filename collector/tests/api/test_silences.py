"""Silences and acknowledgements over REST: what an operator says about alerts, and what the list of alerts shows of it."""

from typing import Any

import pytest

from running import T0, Running, S
from telemetryx.store.alerts import AlertChange, AlertState, ChangeKind, RulesCommit
from telemetryx.store.tables.rules import StoredRules

EVIL = 'a"b<script>'


async def fire(api: Running, rule: str = "hot", **labels: str) -> int:
    """Have an alert in the store and in what the judge answers; return its id."""
    change = AlertChange(
        ChangeKind.STANDS, rule, str(labels), T0, T0, AlertState.FIRING, "warning", labels, fired_ns=T0
    )
    (alert,) = await StoredRules(api.world.store).rules_commit(  # type: ignore[arg-type]
        RulesCommit("rules", changes=[change])
    )
    shown: dict[str, Any] = {
        "id": alert.id, "rule": rule, "state": "firing", "severity": "warning", "labels": labels,
    }  # fmt: skip
    api.judge.found.append(shown)
    return alert.id


async def post(api: Running, path: str, status: int = 200, **body: object) -> dict[str, Any]:
    """POST JSON."""
    answer = await api.client.post(f"/api/v1{path}", json=body)
    assert answer.status == status, await answer.text()
    return dict(await answer.json())


async def test_a_silence_is_made_listed_and_ended(api: Running) -> None:
    """With a duration or an end, from now or from later on; alerts say which silences hold them now."""
    north, south = await fire(api, site="north"), await fire(api, site=EVIL)
    made = await post(api, "/silences", match='hot{site="north"}', duration="2h", author="ana", comment=EVIL)
    assert (made["starts_ns"], made["ends_ns"], made["state"]) == (T0, T0 + 7_200 * S, "active")
    later = {"starts": "2026-03-01T10:30:00Z", "ends": "2026-03-01T11:00:00Z"}
    coming = await post(api, "/silences", match="hot", author="bob", **later)
    assert coming["state"] == "pending"
    listed = (await api.get("/silences"))["silences"]
    assert [one["id"] for one in listed] == [coming["id"], made["id"]]
    assert listed[1]["comment"] == EVIL
    held = {row["id"]: row["silenced_by"] for row in (await api.get("/alerts"))["alerts"]}
    assert held == {north: [made["id"]], south: []}
    ended = await api.client.delete(f"/api/v1/silences/{made['id']}")
    said = await ended.json()
    assert (said["state"], said["ended_before"]) == ("ended", False)
    assert [one["id"] for one in (await api.get("/silences", state="ended"))["silences"]] == [made["id"]]
    assert (await api.get("/alerts"))["alerts"][0]["silenced_by"] == []
    assert (await api.client.delete("/api/v1/silences/99")).status == 404
    api.clock.advance(S)
    again = await (await api.client.delete(f"/api/v1/silences/{made['id']}")).json()
    assert (again["ended_before"], again["ends_ns"]) == (True, said["ends_ns"])


async def test_a_new_silence_says_how_many_open_alerts_meet_it(api: Running) -> None:
    """By the rule's name as webhooks write it too; none is an answer."""
    await fire(api, "pump hot", site="north")
    await fire(api, "pump hot", site="south")
    for match, met in (
        ('{alertname="pump hot"}', 2),
        ('{"pump hot", site="north"}', 1),
        ('{alertname="pump hit"}', 0),
    ):
        made = await post(api, "/silences", match=match, duration="2h", author="ana")
        assert made["alerts"] == met, match
    refused = await post(api, "/silences", 400, match="pump hot", duration="2h", author="ana")
    assert '{__name__="pump hot"}' in str(refused)


async def test_of_any_number_of_open_alerts_all_are_counted(api: Running) -> None:
    """By a new silence and in /metrics: a storm has more than any list of them shows."""
    many = 10_100
    api.judge.found = [
        {
            "id": number, "started_ns": T0 + number // 7, "rule": "hot", "severity": "warning",
            "state": "unknown" if number < 300 else "firing", "labels": {"site": "north" if number % 2 else "south"},
        }
        for number in range(many, 0, -1)
    ]  # fmt: skip
    made = await post(api, "/silences", match='hot{site="north"}', duration="2h", author="ana")
    assert made["alerts"] == many // 2
    async with api.client.get("/metrics") as answer:
        text = await answer.text()
    assert f'telemetryx_collector_alerts{{state="firing"}} {many - 299}\n' in text
    assert 'telemetryx_collector_alerts{state="unknown"} 299\n' in text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"match": "hot"}, "isn't said when the silence ends"),
        ({"match": "hot", "duration": "1h", "ends": "2026-03-01T11:00:00Z"}, "both `duration` and `ends`"),
        ({"match": 'hot{a=~"("}', "duration": "1h"}, "isn't a regular expression"),
        ({"match": "hot", "duration": "100000d"}, "longest is 36525d"),
        ({"match": "{}", "duration": "1h"}, "everything"),
        ({"match": "hot{", "duration": "1h"}, "label"),
        ({"match": "hot", "ends": "2026-03-01T09:00:00Z"}, "ended already"),
        ({"match": "hot", "duration": "soon"}, "soon"),
        ({"match": "hot", "duration": "1h", "author": ""}, "author"),
        ({"match": "hot", "duration": "1h", "why": "x"}, "why"),
        ({"match": "hot", "duration": "1h", "comment": "a\0b"}, "NUL"),
    ],
)
async def test_a_silence_that_makes_no_sense_is_refused(
    api: Running, body: dict[str, str], words: str
) -> None:
    """With what is wrong."""
    refused = await post(api, "/silences", 400, **{"author": "ana", **body})
    assert words in refused["error"]["message"] + refused["error"]["hint"]
    assert "temperature" not in refused["error"]["hint"]
    assert (await api.get("/silences"))["silences"] == []


@pytest.mark.parametrize(
    ("given", "shown"), [(True, "'true'"), (10**40, "'1" + "0" * 40 + "'"), (1.5, "'1.5'"), (None, "'null'")]
)
async def test_what_was_sent_is_shown_as_it_was_sent(api: Running, given: object, shown: str) -> None:
    """In JSON's words, not Python's; numbers of any length too."""
    refused = await post(api, "/silences", 400, match="hot", duration="1h", author="ana", comment=given)
    assert f"(got {shown})" in refused["error"]["message"]


async def test_an_alert_is_taken_on_and_let_go(api: Running) -> None:
    """Others see who did; an alert that isn't there can't be."""
    alert = await fire(api)
    assert (await api.get("/alerts"))["alerts"][0]["acknowledged"] is None
    said = await post(api, f"/alerts/{alert}/acknowledge", author="ana", comment="on my way")
    assert said["acknowledged"] == {"author": "ana", "comment": "on my way", "at_ns": T0}
    assert said["before"] is None
    assert (await api.get("/alerts"))["alerts"][0]["acknowledged"] == said["acknowledged"]
    await post(api, "/alerts/99/acknowledge", 404, author="ana")
    await post(api, f"/alerts/{alert}/acknowledge", 400)
    taken_over = await post(api, f"/alerts/{alert}/acknowledge", author="bob")
    assert (taken_over["acknowledged"]["author"], taken_over["before"]) == ("bob", said["acknowledged"])
    path = f"/api/v1/alerts/{alert}/acknowledge"
    withdrawn = await api.client.delete(path)
    assert (withdrawn.status, (await withdrawn.json())["before"]["author"]) == (200, "bob")
    assert (await api.client.delete(path)).status == 404
    assert (await api.get("/alerts"))["alerts"][0]["acknowledged"] is None
