"""The engine around one history: silence, lateness, retraction, restarts, poison, and changed rules."""

from typing import Any

import pytest

from telemetryx.errors import SchemaBroken, StoreError, StoreUnavailable
from telemetryx.rules import judge
from telemetryx.rules.group import Group
from telemetryx.store.alerts import AlertState

S = 1_000_000_000
T0 = 1_700_000_000 * S
HOT = """
rules:
  - name: hot
    select: temperature
    agg: last
    window: 30s
    when: "> 80"
    for: 20s
    recover_when: "< 70"
"""


class Story:
    """A device that reports every ten seconds, told value by value."""

    def __init__(self, bench: Any, rules: str = HOT, now_ns: int = T0) -> None:
        """Begin at a time."""
        self.at = bench(rules, now_ns=now_ns)
        self.seq = 0

    async def report(
        self, seconds: float, *values: float, device: str = "pump7", metric: str = "temperature"
    ) -> None:
        """Commit readings from a second on, one every ten, and judge."""
        self.seq += 1
        rows = [
            (metric, {"device": device}, T0 + int(seconds * S) + 10 * S * index, value)
            for index, value in enumerate(values)
        ]
        self.at.store.commit_samples(self.seq, rows)
        await self.at.settle()

    def states(self) -> list[str]:
        """Return the states of all alerts, oldest first."""
        found = sorted(self.at.store.alerts.values(), key=lambda alert: alert.started_ns)
        return [str(alert.state) for alert in found]


@pytest.fixture
async def story(bench: Any) -> Story:
    """A collector that runs the rule before anything happens."""
    made = Story(bench)
    await made.at.settle()
    return made


async def test_an_alert_carries_when_it_happened_and_when_it_was_found(story: Story) -> None:
    """Event time for the readings, the collector's clock for the finding."""
    story.at.clock.advance(41 * S)
    await story.report(0, 20.0, 90.0, 90.0, 91.0)
    (alert,) = await story.at.service.alerts("firing")
    assert (alert["started_ns"], alert["fired_ns"]) == (T0 + 10 * S, T0 + 30 * S)
    assert (alert["detected_ns"], alert["late"]) == (T0 + 41 * S, False)
    assert alert["value"] == 91.0
    assert alert["labels"] == {"__name__": "temperature", "agent": "gw1", "device": "pump7"}


async def test_silence_never_resolves_and_shows_as_unknown(story: Story) -> None:
    """Days without a reading: the alert stands, its state says that nothing is known now."""
    await story.report(0, 90.0, 90.0, 90.0)
    story.at.clock.advance(3 * 86_400 * S)
    await story.at.settle()
    (alert,) = await story.at.service.alerts("open")
    assert alert["state"] == "unknown"
    assert story.states() == ["firing"]
    assert await story.at.service.alerts("resolved") == []
    await story.report(3 * 86_400, 90.0)
    assert story.states() == ["firing"]
    await story.report(3 * 86_400 + 20, 60.0, 60.0)
    assert story.states() == ["resolved"]


async def test_the_last_reading_before_a_silence_is_judged_by_the_clock(bench: Any) -> None:
    """A device that reports the worst and dies is not overlooked."""
    story = Story(bench, HOT.replace("for: 20s", "for: 0s"))
    await story.at.settle()
    await story.report(3, 95.0)
    assert story.states() == []
    story.at.clock.advance(10 * S + judge.SETTLE_NS)
    await story.at.settle()
    assert story.states() == ["firing"]


async def test_what_the_clock_owes_is_not_lost_by_a_restart(bench: Any) -> None:
    """Killed between the reading and its judgement."""
    story = Story(bench, HOT.replace("for: 20s", "for: 0s"))
    await story.at.settle()
    await story.report(3, 95.0)
    story.at.restart()
    story.at.clock.advance(12 * S)
    await story.at.settle()
    assert story.states() == ["firing"]


async def test_late_data_that_disproves_an_alert_retracts_it(story: Story) -> None:
    """The gap in between held cool readings."""
    await story.report(0, 90.0)
    await story.report(20, 90.0, 90.0)
    assert story.states() == ["firing"]
    await story.report(10, 20.0)
    assert story.states() == ["pending", "retracted"] or story.states() == ["retracted", "pending"]
    assert story.at.store.told == [("hot", "firing"), ("hot", "retracted")]
    assert await story.at.service.alerts("firing") == []


async def test_late_data_that_moves_an_alert_back_tells_no_end_of_it(story: Story) -> None:
    """It began earlier than was known: the receiver sees it go on firing under an earlier start."""
    await story.report(60, 90.0, 90.0, 90.0)
    await story.report(40, 90.0, 90.0)
    assert story.states() == ["firing", "retracted"]
    assert [state for _, state in story.at.store.told] == ["firing", "firing"]


async def test_an_hour_held_back_gives_the_same_alert_with_its_own_time(story: Story) -> None:
    """Found late, it says so; it is one finished alert, not a storm."""
    story.at.clock.advance(3_600 * S)
    await story.report(0, 20.0, 90.0, 90.0, 90.0, 60.0, 60.0)
    (alert,) = await story.at.service.alerts("all")
    assert (alert["started_ns"], alert["resolved_ns"]) == (T0 + 10 * S, T0 + 40 * S)
    assert (alert["state"], alert["late"]) == ("resolved", True)
    assert story.at.store.told == [("hot", "resolved")]


async def test_a_wrong_clock_far_ahead_moves_nothing(story: Story) -> None:
    """A device in the year 2100 doesn't make everybody's readings too late."""
    await story.report(75 * 365 * 86_400, 95.0)
    await story.report(0, 90.0, 90.0, 90.0)
    assert story.states() == ["firing"]


async def test_a_rule_that_fails_is_switched_off_and_hurts_no_other(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is shown; the rule beside it goes on; after a restart it catches up."""
    two = HOT + HOT.replace("rules:\n", "").replace("name: hot", "name: other")
    story = Story(bench, two)
    await story.at.settle()
    real = judge.evaluate

    def broken(agg: Any, window: int, *rest: Any) -> Any:
        if broken.armed and broken.calls % 2 == 0:
            broken.calls += 1
            raise ZeroDivisionError("poison")
        broken.calls += 1
        return real(agg, window, *rest)

    broken.armed, broken.calls = True, 0
    monkeypatch.setattr(judge, "evaluate", broken)
    await story.report(0, 90.0, 90.0, 90.0)
    assert [(a.rule, str(a.state)) for a in story.at.store.alerts.values()] == [("other", "firing")]
    first, second = await story.at.service.rules()
    assert (first.state, second.state) == ("failed", "ok")
    assert "ZeroDivisionError: poison" in first.error
    broken.armed = False
    story.at.restart()
    await story.report(30, 90.0, 90.0, 90.0)
    assert sorted(a.rule for a in story.at.store.alerts.values()) == ["hot", "other"]
    assert [rule.state for rule in await story.at.service.rules()] == ["ok", "ok"]


@pytest.mark.parametrize("error", [StoreUnavailable("away", "locked"), SchemaBroken("it lacks a table")])
async def test_a_store_that_is_away_skips_nothing(story: Story, error: StoreError) -> None:
    """The step fails as a whole and is repeated; no rule is switched off for it."""
    story.at.store.broken = error
    with pytest.raises(type(error)):
        await story.report(0, 90.0, 90.0, 90.0)
    story.at.store.broken = None
    await story.at.settle()
    assert story.states() == ["firing"]


async def test_a_rule_with_another_meaning_closes_the_alerts_of_the_old_one(story: Story) -> None:
    """Another threshold is another question. Another text isn't."""
    await story.report(0, 90.0, 90.0, 90.0)
    story.at.restart(HOT.replace('"> 80"', '"> 95"'))
    await story.at.settle()
    assert story.states() == ["closed"]


async def test_another_text_leaves_alerts_alone(story: Story) -> None:
    """Severity and words may change while an alert runs."""
    await story.report(0, 90.0, 90.0, 90.0)
    story.at.restart(HOT + "    severity: critical\n")
    await story.at.settle()
    assert story.states() == ["firing"]


async def test_a_rule_that_is_taken_away_closes_its_alerts(story: Story) -> None:
    """And its memory goes."""
    await story.report(0, 90.0, 90.0, 90.0)
    story.at.restart("rules: []")
    await story.at.settle()
    assert story.states() == ["closed"]
    assert story.at.store.groups == {}


async def test_a_new_version_of_a_model_goes_on_with_the_same_alert(bench: Any) -> None:
    """The label model_version is no part of the group."""
    at = bench(HOT.replace("temperature", "score"), now_ns=T0 + 60 * S)
    await at.settle()
    for seq, version in enumerate("112233"):
        at.store.commit_samples(seq, [("score", {"model_version": version}, T0 + seq * 10 * S, 90.0)])
        await at.settle()
    (alert,) = at.store.alerts.values()
    assert alert.state is AlertState.FIRING
    assert "model_version" not in alert.labels


async def test_group_by_judges_all_series_of_a_group_together(bench: Any) -> None:
    """The average over a site's devices, by the label that is left."""
    rules = HOT.replace("agg: last", "agg: avg\n    group_by: [site]").replace("for: 20s", "for: 0s")
    at = bench(rules, now_ns=T0 + 600 * S)
    await at.settle()
    rows = [
        ("temperature", {"site": "a", "device": str(n)}, T0, value) for n, value in enumerate([100.0, 50.0])
    ]
    rows += [
        ("temperature", {"site": "b", "device": str(n)}, T0, value) for n, value in enumerate([100.0, 90.0])
    ]
    at.store.commit_samples(1, rows)
    await at.settle()
    (alert,) = at.store.alerts.values()
    assert (alert.labels, alert.value) == ({"site": "b"}, 95.0)


async def test_series_that_the_agent_reduces_to_windows_are_judged_too(bench: Any) -> None:
    """A window counts at its last reading, for all its readings."""
    at = bench(HOT.replace("agg: last", "agg: max").replace("for: 20s", "for: 0s"), now_ns=T0 + 600 * S)
    await at.settle()
    window = (T0, 10 * S, 3, 150.0, 20.0, 95.0, T0 + S, 35.0, T0 + 9 * S, 20.0)
    at.store.commit_windows(1, "temperature", {"device": "p"}, [window])
    await at.settle()
    (alert,) = at.store.alerts.values()
    assert (alert.value, alert.started_ns) == (95.0, T0 + 10 * S)


async def test_the_memory_of_a_group_stays_small_and_spans_the_lateness(story: Story) -> None:
    """A week of readings leaves a few dozen states, the oldest before the lateness."""
    story.at.clock.advance(8 * 86_400 * S)
    for hour in range(24 * 7):
        await story.report(hour * 3_600, *[20.0] * 360)
    (state,) = story.at.store.groups.values()
    group = Group.unpack(state)
    assert len(group.checkpoints) <= 40
    assert group.born
    gaps = [b.at_ns - a.at_ns for a, b in zip(group.checkpoints[1:], group.checkpoints[2:], strict=False)]
    head = group.head.at_ns
    for checkpoint, gap in zip(group.checkpoints[2:], gaps, strict=False):
        assert gap <= max(640 * S, (head - checkpoint.at_ns))


async def test_many_groups_are_judged_in_one_read(bench: Any) -> None:
    """A hundred devices at once cost no more reads than one."""
    at = bench(HOT, now_ns=T0 + 600 * S)
    await at.settle()
    for seq in range(3):
        rows = [("temperature", {"device": str(n)}, T0 + seq * 10 * S, 90.0) for n in range(100)]
        at.store.commit_samples(seq, rows)
        await at.settle()
    assert at.store.reads <= 6
    assert len(at.store.alerts) == 100
    assert {alert.state for alert in at.store.alerts.values()} == {AlertState.FIRING}


async def test_listeners_hear_of_each_change_and_may_fail(story: Story) -> None:
    """The live stream gets alerts as the API shows them; a listener's error is its own."""

    def bad(_alerts: Any) -> None:
        raise RuntimeError("listener")

    story.at.service.subscribe(bad)
    stop = story.at.service.subscribe(lambda _: None)
    stop()
    await story.report(0, 90.0, 90.0, 90.0, 60.0)
    assert [one["state"] for one in story.at.seen][-1] == "resolved"
