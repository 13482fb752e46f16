"""What a silence holds back is told when it ends, as it then stands; of what began and ended inside one nobody is told."""

from typing import Any

import pytest

from telemetryx.store.alerts import AlertState

S = 1_000_000_000
NOW = 1_700_000_000 * S
HOUR = 3_600


async def silence(desk: Any, match: str, seconds: float = HOUR, begin: float = 0) -> int:
    """Begin a silence now, or later."""
    starts = desk.clock.now_ns() + int(begin * S)
    made = await desk.store.add_silence(match, starts, starts + int(seconds * S), "ana", "works")
    return int(made.id)


async def test_a_silenced_alert_is_told_when_the_silence_ends_and_it_still_fires(desk: Any) -> None:
    """Not before, and once; alerts that it isn't about are told at once."""
    await silence(desk, 'hot{device="g"}')
    await desk.change(AlertState.FIRING)
    await desk.change(AlertState.FIRING, "other")
    assert await desk.send()
    assert [alert["labels"]["device"] for alert in desk.got[0]["alerts"]] == ["other"]
    assert not await desk.send(HOUR - 10)
    assert await desk.kept.outbox_next(desk.hook.name) == NOW + HOUR * S
    assert await desk.send(20)
    (alert,) = desk.got[1]["alerts"]
    assert (alert["labels"]["device"], alert["status"]) == ("g", "firing")
    assert not await desk.send()


async def test_what_begins_and_ends_inside_is_told_to_nobody(desk: Any) -> None:
    """Neither inside nor afterwards."""
    await silence(desk, "hot")
    desk.clock.advance(60 * S)
    await desk.change(AlertState.FIRING)
    assert not await desk.send()
    await desk.change(AlertState.RESOLVED)
    assert not await desk.send()
    assert not await desk.send(2 * HOUR)
    assert desk.got == []
    assert (await desk.kept.outbox_usage(desk.hook.name)).waiting == 0


async def test_the_end_of_an_alert_that_was_told_before_is_told_after_the_silence(desk: Any) -> None:
    """Who was told that it fires is told that it is over."""
    await desk.change(AlertState.FIRING)
    assert await desk.send()
    await silence(desk, '{severity="warning",agent=~"gw.*"}')
    await desk.change(AlertState.RESOLVED)
    assert not await desk.send()
    assert await desk.send(HOUR)
    assert [one["status"] for one in desk.got] == ["firing", "resolved"]


async def test_ending_a_silence_early_lets_go_of_what_no_other_holds(desk: Any) -> None:
    """Two silences hold one alert: the last one counts, whichever is ended by hand."""
    first, second = await silence(desk, "hot"), await silence(desk, '{device="g"}', 2 * HOUR)
    await desk.change(AlertState.FIRING)
    await desk.change(AlertState.FIRING, "other")
    assert not await desk.send()
    assert (await desk.store.end_silence(first)).ends_ns == desk.clock.now_ns()
    assert await desk.send(0)
    assert [alert["labels"]["device"] for alert in desk.got[0]["alerts"]] == ["other"]
    assert not await desk.send(HOUR)
    await desk.store.end_silence(second)
    assert await desk.send(0)
    assert [alert["labels"]["device"] for alert in desk.got[1]["alerts"]] == ["g"]


async def test_a_silence_that_is_to_come_holds_nothing_yet(desk: Any) -> None:
    """And one that ended holds nothing any more."""
    await silence(desk, "hot", begin=60)
    await desk.change(AlertState.FIRING)
    assert await desk.send()
    desk.clock.advance(2 * HOUR * S)
    await desk.change(AlertState.RESOLVED)
    assert await desk.send()
    assert [one["status"] for one in desk.got] == ["firing", "resolved"]


@pytest.mark.parametrize("limit", [3])
async def test_what_is_silenced_does_not_stand_in_the_way_of_others(desk: Any, limit: int) -> None:
    """More of it than one message may name, before what is told; a digest of late ones doesn't bring it back."""
    await silence(desk, '{device=~"s.*"}')
    for number in range(3 * limit):
        await desk.change(AlertState.FIRING, f"s{number}", fired_ns=NOW - 600 * S)
    await desk.change(AlertState.FIRING, "loud", fired_ns=NOW - 600 * S)
    desk.clock.advance(40 * S)
    told = await desk.kept.outbox_claim(desk.hook.name, desk.clock.now_ns(), limit)
    assert [alert.group for alert in told.alerts] == ["loud"]
    await desk.kept.outbox_done(told.id)
    await desk.change(AlertState.FIRING, "late", fired_ns=NOW - 600 * S)
    desk.clock.advance(40 * S)
    told = await desk.kept.outbox_claim(desk.hook.name, desk.clock.now_ns(), 100)
    assert [alert.group for alert in told.alerts] == ["late"]
    assert (await desk.kept.outbox_usage(desk.hook.name)).waiting == 3 * limit
