"""From an alert's change to the receiver: once it is told, told until it has arrived, and a storm as one digest."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telemetryx.notify import Sender, Webhook, WebhookTarget
from telemetryx.notify.sender import FINAL_ATTEMPTS, GIVE_UP_NS
from telemetryx.store import alerts as kept
from telemetryx.store.alerts import AlertQuery, AlertState, ChangeKind, RulesCommit
from telemetryx.traces import Context, Tracer

S = 1_000_000_000
NOW = 1_700_000_000 * S


async def test_a_firing_alert_is_posted_as_alertmanager_does(desk: Any) -> None:
    """Version 4 of its webhook, our fields beside it, a bearer token from the file, a key against repetition."""
    await desk.change(AlertState.PENDING)
    assert not await desk.send()
    await desk.change(AlertState.FIRING)
    assert await desk.send()
    (message,), (head,) = desk.got, desk.heads
    assert (message["version"], message["status"], message["truncatedAlerts"]) == ("4", "firing", 0)
    assert message["commonLabels"] == {
        "agent": "gw1",
        "device": "g",
        "alertname": "hot",
        "severity": "warning",
    }
    (alert,) = message["alerts"]
    assert (alert["status"], alert["startsAt"], alert["endsAt"]) == (
        "firing",
        "2023-11-14T22:13:00Z",
        "0001-01-01T00:00:00Z",
    )
    assert alert["annotations"] == {"summary": "too hot"}
    assert alert["generatorURL"] == "https://console.example/alerts/1"
    assert alert["telemetryx"]["state"] == "firing"
    assert alert["telemetryx"]["value"] == 91.5
    assert head["Authorization"] == "Bearer s3cret"
    assert len(head["Idempotency-Key"]) == 32
    assert not await desk.send()


async def test_each_change_of_state_is_told_once_and_repetition_is_not(desk: Any) -> None:
    """Firing, firing again, resolved: two messages about the same thing."""
    for state in (AlertState.FIRING, AlertState.FIRING, AlertState.RESOLVED):
        await desk.change(state)
        await desk.send()
    assert [one["status"] for one in desk.got] == ["firing", "resolved"]
    assert desk.got[0]["alerts"][0]["fingerprint"] == desk.got[1]["alerts"][0]["fingerprint"]
    assert desk.got[1]["alerts"][0]["endsAt"] == "2023-11-14T22:14:20Z"


async def test_the_same_message_is_sent_until_it_arrives(desk: Any) -> None:
    """Same bytes, same key, growing pauses; what happens meanwhile waits for the next message."""
    desk.answers = [(500, {}), (503, {"Retry-After": "120"})]
    await desk.change(AlertState.FIRING)
    assert not await desk.send()
    await desk.change(AlertState.RESOLVED)
    assert not await desk.send(0)
    assert len(desk.got) == 1
    assert not await desk.send(3)
    assert not await desk.send(100)
    assert len(desk.got) == 2
    assert await desk.send(21)
    assert await desk.send()
    assert desk.got[0] == desk.got[1] == desk.got[2]
    assert len({head["Idempotency-Key"] for head in desk.heads[:3]}) == 1
    assert [one["status"] for one in desk.got] == ["firing", "firing", "firing", "resolved"]


async def test_a_restart_in_the_middle_sends_the_same_message_again(desk: Any) -> None:
    """The answer was lost with the process: the key is the same."""
    await desk.change(AlertState.FIRING)
    desk.clock.advance(2 * S)
    first = await desk.kept.outbox_claim(desk.hook.name, desk.clock.now_ns(), 10)
    await desk.hook.send(first)
    again = Sender(desk.kept, desk.clock, [desk.hook])
    assert await again.send_next(desk.hook)
    assert not await again.send_next(desk.hook)
    assert desk.got[0] == desk.got[1]
    assert desk.heads[0]["Idempotency-Key"] == desk.heads[1]["Idempotency-Key"]


async def test_a_storm_after_an_outage_is_one_digest(desk: Any) -> None:
    """Two thousand alerts that are over already: one message names a hundred and counts the others."""
    desk.clock.advance(3_600 * S)
    for number in range(300):
        await desk.change(AlertState.RESOLVED, f"d{number}")
    assert not await desk.send(10)
    await desk.change(AlertState.FIRING, "still")
    assert await desk.send(25)
    assert not await desk.send(60)
    (message,) = desk.got
    assert (len(message["alerts"]), message["truncatedAlerts"]) == (100, 201)
    assert message["alerts"][0]["labels"]["device"] == "still"
    assert message["telemetryx"]["late"] == 100


async def test_a_live_alert_does_not_wait_for_a_storm(desk: Any) -> None:
    """What happens now is told now."""
    desk.clock.advance(3_600 * S)
    await desk.change(AlertState.RESOLVED, "late")
    await desk.change(AlertState.FIRING, "now", fired_ns=desk.clock.now_ns())
    assert await desk.send(2)
    assert [alert["labels"]["device"] for alert in desk.got[0]["alerts"]] == ["now"]


async def test_a_retracted_alert_is_told_and_a_moved_one_is_not(desk: Any) -> None:
    """Retraction is news; going on under an earlier start isn't."""
    await desk.change(AlertState.FIRING, "a")
    await desk.change(AlertState.FIRING, "b")
    await desk.send()
    await desk.change(AlertState.PENDING, "a", kind=ChangeKind.WITHDRAWN)
    await desk.change(AlertState.PENDING, "b", kind=ChangeKind.MOVED)
    assert await desk.send()
    (alert,) = desk.got[1]["alerts"]
    assert (alert["labels"]["device"], alert["status"], alert["telemetryx"]["state"]) == (
        "a",
        "resolved",
        "retracted",
    )


async def test_what_never_fired_leaves_no_trace(desk: Any) -> None:
    """A pending alert that lapses is forgotten, and nobody is told."""
    await desk.change(AlertState.PENDING)
    (gone,) = await desk.change(AlertState.PENDING, kind=ChangeKind.WITHDRAWN)
    assert gone.state is AlertState.RETRACTED
    assert await desk.kept.rules_alerts(AlertQuery()) == []
    assert not await desk.send(60)


async def test_a_refusal_is_believed_after_some_attempts_and_counted(desk: Any) -> None:
    """404 may be a proxy's mistake; after five it is given up, visibly, and the next message goes out."""
    desk.answers = [(404, {})] * FINAL_ATTEMPTS
    await desk.change(AlertState.FIRING)
    for _ in range(FINAL_ATTEMPTS):
        assert not await desk.send(400)
    usage = await desk.kept.outbox_usage(desk.hook.name)
    assert (usage.dropped, usage.deliveries) == (1, 0)
    assert "404 'so it is'" in usage.last_error
    assert "hidden" not in usage.last_error
    await desk.change(AlertState.RESOLVED)
    assert await desk.send()


async def test_a_receiver_that_is_away_for_a_day_costs_its_messages_and_nothing_else(desk: Any) -> None:
    """A bound on everything: the message is dropped and counted."""
    desk.answers = [(500, {}), (500, {})]
    await desk.change(AlertState.FIRING)
    await desk.send()
    await desk.send(GIVE_UP_NS / S + 1)
    assert (await desk.kept.outbox_usage(desk.hook.name)).dropped == 1


async def test_the_outbox_is_bounded(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first, and are counted."""
    monkeypatch.setattr("telemetryx.store.tables.rules.MAX_WAITING", 10)
    for number in range(14):
        await desk.change(AlertState.FIRING, f"d{number}")
    usage = await desk.kept.outbox_usage(desk.hook.name)
    assert (usage.waiting, usage.dropped) == (10, 4)


@pytest.mark.parametrize("fault", ["refused", "slow", "token"])
async def test_each_fault_is_named_and_shows_no_secret(desk: Any, fault: str, tmp_path: Path) -> None:
    """Nobody listens, it doesn't answer in time, the token can't be read."""
    url, token, timeout = "http://user:pw@127.0.0.1:9/x?key=hidden", None, 2 * S
    if fault == "token":
        token = tmp_path / "none"
    mute = socket.create_server(("127.0.0.1", 0))  # takes connections and never says a word
    if fault == "slow":
        url, timeout = f"http://127.0.0.1:{mute.getsockname()[1]}/x?key=hidden", 50_000_000
    async with aiohttp.ClientSession() as session:
        hook = Webhook(WebhookTarget.of(url, token, timeout), session)
        desk.sender, desk.hook = Sender(desk.kept, desk.clock, [hook]), hook
        await desk.change(AlertState.FIRING)
        assert not await desk.send()
    mute.close()
    error = (await desk.kept.outbox_usage(hook.name)).last_error
    assert error
    assert "hidden" not in error + hook.name
    assert "pw" not in error + hook.name
    assert {"refused": "can't be reached", "slow": "within 0.05 s", "token": "token_file"}[fault] in error


async def test_the_task_sends_when_woken_and_ends_when_told(desk: Any) -> None:
    """With the real loop: an alert changes, wake() is called, the message is out, stop ends the task."""
    stop = asyncio.Event()
    task = asyncio.create_task(desk.sender.run(stop))
    await desk.change(AlertState.FIRING)
    desk.clock.advance(2 * S)
    desk.sender.wake()
    async with asyncio.timeout(60):
        while not desk.got:
            await asyncio.sleep(0.01)
        stop.set()
        await task
    assert await desk.kept.outbox_next(desk.hook.name) is None


async def test_without_a_receiver_nothing_is_kept(desk: Any) -> None:
    """Off by default: no rows wait for nobody."""
    await desk.kept.rules_commit(RulesCommit("rules", changes=[], receivers=()))
    desk.sender = Sender(desk.kept, desk.clock, [])
    await desk.change(AlertState.FIRING)
    await desk.sender.run(asyncio.Event())
    assert (await desk.kept.outbox_usage(desk.hook.name)).waiting == 0


async def test_old_alerts_are_forgotten_in_pieces_and_open_ones_never(desk: Any) -> None:
    """Retention of what has ended."""
    for number in range(5):
        await desk.change(AlertState.RESOLVED, f"d{number}")
    await desk.change(AlertState.FIRING, "open")
    assert [await desk.kept.rules_forget(NOW + 1, 3) for _ in range(3)] == [3, 2, 0]
    assert len(await desk.kept.rules_alerts(AlertQuery())) == 1
    assert kept.OPEN


async def test_a_notification_goes_on_with_the_alerts_trace(desk: Any) -> None:
    """Each attempt is a span of it, named in the header; the trace stays with the alert, and people find its id."""
    trace, more = Context(b"\x07" * 16, b"\x08" * 8), Context(b"\x09" * 16, b"\x01" * 8)
    tracer = Tracer(desk.clock)
    desk.sender = Sender(desk.kept, desk.clock, [desk.hook], tracer=tracer)
    (pending,) = await desk.change(AlertState.PENDING, trace=str(trace))
    assert pending.trace == str(trace)
    # What comes of other readings later changes nothing of what it came of; a trace alone is no change.
    assert await desk.change(AlertState.PENDING, trace=str(more)) == []
    (firing,) = await desk.change(AlertState.FIRING, trace=str(more))
    assert firing.trace == str(trace)
    await desk.change(AlertState.FIRING, "other", trace=str(more))
    desk.answers = [(503, {})]
    assert not await desk.send()
    assert await desk.send(3_600)
    failed, done = tracer.take(9)
    assert [head["traceparent"] for head in desk.heads] == [str(failed.context), str(done.context)]
    assert (failed.name, failed.parent, list(failed.links)) == ("notify", trace.span, [more])
    assert failed.failed
    assert not done.failed
    assert done.attributes["telemetryx.attempt"] == 2
    told = {alert["labels"]["device"]: alert["telemetryx"] for alert in desk.got[-1]["alerts"]}
    assert told["g"]["trace_id"] == trace.trace.hex()


async def test_an_alert_without_a_trace_is_told_without_one(desk: Any) -> None:
    """No header, no field, no span."""
    await desk.change(AlertState.FIRING)
    assert await desk.send()
    assert "traceparent" not in desk.heads[0]
    assert "trace_id" not in desk.got[0]["alerts"][0]["telemetryx"]
