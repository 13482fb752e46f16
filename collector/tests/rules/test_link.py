"""Rules about the link: silence by the collector's clock and connection log alone."""

from dataclasses import replace
from typing import Any

import pytest

from telemetryx.fleet import AgentState

S = 1_000_000_000
NOW = 1_700_000_000 * S
RULE = (
    "rules:\n  - {name: silent, kind: link, after: 2m, summary: '{{ labels.agent }} at {{ labels.site }}'}\n"
)


@pytest.fixture
async def at(bench: Any) -> Any:
    """A collector that has just started; gw1 is heard now."""
    made = bench(RULE, now_ns=NOW)
    await made.settle()
    made.store.seen("gw1", NOW, site="plant1")
    return made


async def states(at: Any) -> list[tuple[str, int, int | None]]:
    """Look, and return the alerts."""
    await at.service.look()
    return [(str(a.state), a.started_ns, a.resolved_ns) for a in at.store.alerts.values()]


async def test_an_agent_is_silent_after_its_time_and_heard_again(at: Any) -> None:
    """It began when it was last seen, and ends when it is seen again."""
    at.clock.advance(119 * S)
    assert await states(at) == []
    at.clock.advance(2 * S)
    assert await states(at) == [("firing", NOW, None)]
    (alert,) = await at.service.alerts("open")
    assert alert["summary"] == "gw1 at plant1"
    assert alert["labels"] == {"agent": "gw1", "site": "plant1"}
    at.clock.advance(3_600 * S)
    assert await states(at) == [("firing", NOW, None)]
    at.store.seen("gw1", NOW + 3_000 * S)
    assert await states(at) == [("resolved", NOW, NOW + 3_000 * S), ("firing", NOW + 3_000 * S, None)]
    at.store.seen("gw1", at.clock.now_ns())
    assert [state for state, *_ in await states(at)] == ["resolved", "resolved"]


async def test_a_start_of_the_collector_blames_nobody_and_forgets_nothing(at: Any) -> None:
    """Who was silent while nobody listened gets his time again; an alert that runs goes on running."""
    at.store.seen("gw2", NOW - 7_200 * S)
    at.clock.advance(121 * S)
    assert len(await states(at)) == 2
    at.clock.advance(3_600 * S)
    at.store.seen("gw3", NOW + 121 * S)
    at.restart()
    await at.settle()
    assert [state for state, *_ in await states(at)] == ["firing", "firing"]
    at.clock.advance(121 * S)
    assert [state for state, *_ in await states(at)] == ["firing", "firing", "firing"]


async def test_a_jump_of_the_clock_blames_nobody(at: Any) -> None:
    """NTP sets the collector's clock an hour forth."""
    at.clock.advance(60 * S)
    at.clock.step(3_600 * S)
    assert await states(at) == []
    at.clock.advance(121 * S)
    assert [state for state, *_ in await states(at)] == ["firing"]


async def test_an_outage_of_the_store_blames_nobody(at: Any) -> None:
    """For three minutes nobody could note who was heard: silence is counted from when the store took writes again."""
    began = at.clock.now_ns()
    at.listening_since = at.clock.now_ns
    at.clock.advance(180 * S)
    assert await states(at) == []
    back = at.clock.now_ns()
    at.listening_since = lambda: back
    at.store.seen("gw2", back + S)
    at.clock.advance(119 * S)
    assert await states(at) == []
    at.clock.advance(S)
    assert await states(at) == [("firing", began, None)], "who doesn't come back is silent"


async def test_backfill_never_retracts_it(at: Any) -> None:
    """Readings of the silent time arrive: the link was down all the same."""
    at.clock.advance(600 * S)
    await states(at)
    at.store.commit_samples(1, [("temperature", {}, NOW + n * S, 1.0) for n in range(600)])
    await at.settle()
    assert await states(at) == [("firing", NOW, None)]


async def test_an_agent_that_is_removed_closes_its_alert(at: Any) -> None:
    """Nobody waits for it any more."""
    at.clock.advance(600 * S)
    await states(at)
    del at.store.fleet["gw1"]
    assert [state for state, *_ in await states(at)] == ["closed"]


async def test_an_agent_that_is_revoked_has_no_such_alert(at: Any) -> None:
    """One that runs is closed, and none begins: it is silent for good, as somebody wanted."""
    at.store.seen("gw2", NOW - 300 * S)
    at.clock.advance(600 * S)
    assert len(await states(at)) == 2
    for name, agent in at.store.fleet.items():
        at.store.fleet[name] = replace(agent, state=AgentState.REVOKED)
    at.store.seen("gw3", NOW)
    at.store.fleet["gw3"] = replace(at.store.fleet["gw3"], state=AgentState.REVOKED)
    assert [state for state, *_ in await states(at)] == ["closed", "closed"]
    at.clock.advance(600 * S)
    assert [state for state, *_ in await states(at)] == ["closed", "closed"]


async def test_a_thousand_silent_agents_are_found(at: Any) -> None:
    """More than a page of them."""
    for number in range(1_200):
        at.store.seen(f"a{number}", NOW)
    at.clock.advance(600 * S)
    assert len(await states(at)) == 1_201


async def test_matchers_choose_agents_by_what_they_say_about_themselves(bench: Any) -> None:
    """By a label, or by name."""
    made = bench(
        "rules:\n  - {name: s, kind: link, agents: '{site=\"b\"}'}\n  - {name: n, kind: link, agents: '{agent=~\"x.*\"}'}\n",
        now_ns=NOW,
    )
    await made.settle()
    made.store.seen("x1", NOW, site="a")
    made.store.seen("y1", NOW, site="b")
    made.clock.advance(121 * S)
    await made.service.look()
    assert sorted((a.rule, a.labels["agent"]) for a in made.store.alerts.values()) == [
        ("n", "x1"),
        ("s", "y1"),
    ]
