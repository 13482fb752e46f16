"""Agents, devices and the loss ledger over REST."""

from typing import Any
from urllib.parse import quote

import pytest

from running import T0, Running, S, key
from telemetryx.fleet import AgentStatus
from telemetryx.types import BatchKey, Cause, LossFrame


async def _fleet(api: Running) -> None:
    for number, name in enumerate(("a1", "b2", "c3")):
        await api.field.send(
            {key("m", site="plant", device=f"d{number}"): [(T0 + number * S, 1.0)]}, agent=name
        )
    for name in ("a1", "b2"):
        session = await api.world.store.session_opened(name, "127.0.0.1:1", "0.1.0", {"os": "linux"}, 1.5)
        backlog = 1_000_000 if name == "b2" else 0
        await api.world.store.session_seen(
            session,
            AgentStatus(
                backlog, backlog // 1_000, T0 - 900 * S if backlog else 0, 1.5, 10.0, '{"inputs": []}'
            ),
        )


async def test_the_fleet_is_counted_by_state_and_listed(api: Running) -> None:
    """Silent is a state, not an error."""
    await _fleet(api)
    answer = await api.get("/agents")
    assert answer["total"] == 3
    assert answer["counts"] == {"live": 1, "catching_up": 1, "silent": 1, "revoked": 0}
    assert [(row["name"], row["state"]) for row in answer["agents"]] == [
        ("a1", "live"),
        ("b2", "catching_up"),
        ("c3", "silent"),
    ]


async def test_the_list_is_sorted_filtered_and_paged_by_the_server(api: Running) -> None:
    """Counts stay those of the whole fleet."""
    await _fleet(api)
    answer = await api.get("/agents", state="silent")
    assert [row["name"] for row in answer["agents"]] == ["c3"]
    assert sum(answer["counts"].values()) == 3
    largest = await api.get("/agents", sort="backlog", order="desc", limit=1)
    assert [row["name"] for row in largest["agents"]] == ["b2"]
    assert [row["name"] for row in (await api.get("/agents", limit=1, offset=1))["agents"]] == ["b2"]
    assert (await api.get("/agents", filter="B2"))["total"] == 1
    assert (await api.get("/agents", site="elsewhere"))["total"] == 0


async def test_pages_by_place_hold_every_row_once_while_agents_report(api: Running) -> None:
    """With each answer's `next` to the end and its `previous` back, whatever changed in between."""
    await _fleet(api)
    seen, params = list[str](), dict[str, Any](limit=1)
    while True:
        page = await api.get("/agents", **params)
        seen += [row["name"] for row in page["agents"]]
        assert (page["skipped"], page["total"]) == (len(seen) - 1, 3)
        # Whoever was shown falls silent or comes back: sorted by when they were last seen, all would change places.
        await api.world.store.session_opened(seen[-1], "127.0.0.1:2", "0.1.0", {}, 0.0)
        if page["next"] is None:
            break
        params["after"] = page["next"]
    assert seen == ["a1", "b2", "c3"]
    back = await api.get("/agents", limit=1, before=page["previous"])
    assert [row["name"] for row in back["agents"]] == ["b2"]
    assert (await api.get("/agents", limit=1, before=back["previous"]))["previous"] is None

    found, params = list[str](), dict[str, Any](limit=2)
    while True:
        page = await api.get("/devices", **params)
        found += [row["device"] for row in page["devices"]]
        if page["next"] is None:
            break
        await api.field.send({key("m", site="a", device="new"): [(T0, 1.0)]}, agent="a0")
        params["after"] = page["next"]
    assert found == ["d0", "d1", "d2"]
    front = await api.get("/devices", before=page["previous"])
    assert [row["device"] for row in front["devices"]] == ["new", "d0", "d1"]


async def test_pages_of_a_sorted_list_are_read_by_place_too(api: Running) -> None:
    """The answer's places lead through it and back, also where all rows have one value."""
    await _fleet(api)
    for sort in ("last_seen", "last_event", "backlog", "skew", "rate"):
        for order in ("asc", "desc"):
            asked = {"sort": sort, "order": order}
            whole = [row["name"] for row in (await api.get("/agents", **asked))["agents"]]
            first = await api.get("/agents", limit=1, **asked)
            second = await api.get("/agents", limit=1, after=first["next"], **asked)
            third = await api.get("/agents", limit=1, after=second["next"], **asked)
            pages = (first, second, third)
            assert [page["agents"][0]["name"] for page in pages] == whole
            assert [page["skipped"] for page in pages] == [0, 1, 2]
            assert (first["previous"], third["next"]) == (None, None)
            back = await api.get("/agents", limit=1, before=third["previous"], **asked)
            assert back["agents"] == second["agents"]


@pytest.mark.parametrize(
    ("path", "params", "told"),
    [
        ("/agents", {"after": "a1", "sort": "backlog"}, "is no place in this list"),
        ("/agents", {"after": '["a","b"]', "sort": "backlog"}, "is no place in this list"),
        ("/agents", {"before": '["1.5","b"]', "sort": "last_seen"}, "is no place in this list"),
        (
            "/agents",
            {"before": '["99999999999999999999","b"]', "sort": "backlog"},
            "is no place in this list",
        ),
        ("/agents", {"before": '[1,"b"]', "sort": "rate"}, "is no place in this list"),
        ("/series", {"after": 1, "before": 2}, "both say where the page is"),
        ("/series", {"after": 0}, "'after'"),
        ("/quarantine", {"after": 1, "offset": 2}, "both say where the page is"),
        ("/quarantine", {"before": "x"}, "'before'"),
        ("/agents", {"after": "a1", "offset": 2}, "both say where the page is"),
        ("/agents", {"after": "a1", "before": "b2"}, "both say where the page is"),
        ("/agents", {"after": ""}, "'after'"),
        ("/devices", {"before": "d1"}, "is no place in this list"),
        ("/devices", {"after": '["a","b"]'}, "is no place in this list"),
        ("/devices", {"after": '["a","b","c"]', "offset": 1}, "both say where the page is"),
    ],
)
async def test_a_place_that_is_none_is_refused_with_what_to_give(
    api: Running, path: str, params: dict[str, Any], told: str
) -> None:
    """A page of another list would miss rows without a word."""
    error = (await api.get(path, 400, **params))["error"]
    assert told in error["message"]


async def test_one_agent_shows_its_status_devices_and_losses(api: Running) -> None:
    """All that is known about it, on one page."""
    await _fleet(api)
    await api.world.store.commit_loss(
        [LossFrame(BatchKey("a1", b"e" * 16, 9), T0, T0 + S, {Cause.OVERFLOWED: 7})]
    )
    answer = await api.get("/agents/a1")
    assert answer["status"] == {"inputs": []}
    assert [device["device"] for device in answer["devices"]] == ["d0"]
    lost = {row["cause"]: row["count"] for row in answer["loss"]}
    assert lost["overflowed"] == 7
    assert answer["balance"] == 0
    everything = (await api.get("/loss"))["loss"]
    assert {row["agent"] for row in everything} >= {"a1"}
    assert await api.get("/loss", agent="nobody") == {"loss": [], "balance": {}}


async def test_an_agent_with_a_slash_or_markup_in_its_name_can_be_asked_for(api: Running) -> None:
    """Names are percent-encoded, nothing more."""
    name = "<b>x</b> /é%"
    await api.field.send({key("m"): [(T0, 1.0)]}, agent=name)
    async with api.client.get(f"/api/v1/agents/{quote(name, safe='')}") as answer:
        assert answer.status == 200, await answer.text()
        assert (await answer.json())["name"] == name


async def test_an_unknown_agent_is_404(api: Running) -> None:
    """With a pointer to the list."""
    assert (await api.get("/agents/none", 404))["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "params",
    [{"sort": "id"}, {"order": "up"}, {"state": "dead"}, {"limit": 0}, {"limit": 1_001}, {"offset": -1}],
)
async def test_a_wrong_list_parameter_is_refused(api: Running, params: dict[str, Any]) -> None:
    """None is guessed."""
    await api.get("/agents", 400, **params)


async def test_devices_are_listed_by_site(api: Running) -> None:
    """A device is the distinct (agent, site, device) of the series."""
    await _fleet(api)
    answer = await api.get("/devices", site="plant", filter="d1")
    assert answer["total"] == 1
    assert answer["devices"][0] == {
        "agent": "b2",
        "site": "plant",
        "device": "d1",
        "series": 1,
        "last_event_ns": T0 + S,
    }
