"""A fault that nobody wrote a limit for: the shipped model sees it, the default rule tells, and late data changes nothing."""

import math
import time
from datetime import datetime
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.harness import Agent, Collector, Stack, until
from tests.harness.procfs import Procfs
from tests.harness.receiver import Receiver
from tests.harness.recording import SECOND, TICK, Recording

RULE = "host metric anomalous"
SCORE = 'telemetryx.anomaly.score{model="host"}'
HOUR = 3600 * SECOND
#: So far ahead of now a recording that is to be on time ends: on a busy machine it takes a while to play it, and an alert that is
#: found a minute after it fired is late.
AHEAD = 30 * SECOND
#: The order in which a recording names a series' labels.
ORDER = ("disk", "interface", "direction", "mode", "state")


def feed(agent: Agent, recording: Recording, start: int) -> None:
    """Send every tick as a request of its own, each durable before the next."""
    for lines in recording.play(start):
        assert agent.write(lines) == 204


def alerts(collector: Collector) -> list[dict[str, Any]]:
    """Return all alerts of the default rule."""
    return list(collector.get("/api/v1/alerts", rule=RULE, state="all")["alerts"])


def firing(collector: Collector) -> dict[str, Any]:
    """Wait for the one alert that fires."""

    def look() -> dict[str, Any] | None:
        found = [alert for alert in alerts(collector) if alert["fired_ns"] is not None]
        return found[0] if found else None

    alert = until("an alert fires", look)
    assert len(alerts(collector)) == 1
    return alert


def scores(collector: Collector) -> dict[int, float]:
    """Return every score by its time."""
    answer = collector.get(
        "/api/v1/query_range", match=SCORE, start="-1d", end="now", agg="raw", max_points=100_000
    )
    (series,) = answer["series"]
    assert series["labels"]["device"] == "gw-1"
    assert series["labels"]["model_version"]
    return dict(zip(series["times_ns"], series["values"], strict=True))


def nanoseconds(text: str) -> int:
    """Read a message's time, which lies on the grid of whole seconds."""
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


def same(alert: dict[str, Any], start: int) -> dict[str, Any]:
    """Return what must not depend on when it was found out, with times from the recording's start."""
    kept = {
        key: alert[key] for key in ("rule", "severity", "labels", "value", "threshold", "summary", "state")
    }
    return kept | {key: alert[key] - start for key in ("started_ns", "fired_ns")}


def host_input(kernel: Procfs, recording: Recording, interval: str) -> str:
    """Return the agent's TOML that reads a recorded /proc."""
    return f'[input.host]\ninterval = "{interval}"\ndevice = "{recording.device}"\n{kernel.config}'


def test_the_recording_has_the_series_that_the_host_input_reads_from_proc(stack: Stack) -> None:
    """What is played over HTTP has the names, labels and values that an agent gives a host of its own."""
    recording = Recording(calm=2, fault=0)
    first, second = recording.values()
    kernel = Procfs(stack.folder)
    kernel.tick(first)
    collector = stack.collector()
    stack.agent(collector, inputs=host_input(kernel, recording, "100ms"))

    def latest() -> dict[str, float]:
        return {
            ",".join(
                [one["name"], *(f"{name}={one['labels'][name]}" for name in ORDER if name in one["labels"])]
            ): one["latest"]["value"]
            for one in collector.latest(f'{{device="{recording.device}"}}')
        }

    until("the first tick", latest)
    kernel.tick(second)

    def as_played() -> bool:
        seen = latest()
        # The processor's shares are those since the tick before, and it stands still after this one.
        return second.keys() <= seen.keys() and all(
            "cpu.utilization" in name or math.isclose(seen[name], value, rel_tol=0.01)
            for name, value in second.items()
        )

    until("what the recording reads, out of the host input", as_played)
    for name, value in second.items():
        if "cpu.utilization" in name:
            mode = name.partition("=")[2]
            (shares,) = collector.values(
                f'system.cpu.utilization{{device="{recording.device}",mode="{mode}"}}'
            )
            assert max(shares) == pytest.approx(value, abs=0.002)


@pytest.mark.waits(seconds=300)
def test_a_recorded_proc_with_a_fault_alerts_on_an_open_console_and_at_a_webhook_in_real_time(
    stack: Stack, page: Page
) -> None:
    """The same through the host input, as long as it takes: three minutes of warm-up, then the fault."""
    with Receiver() as receiver:
        recording = Recording(calm=22, fault=8)
        kernel = Procfs(stack.folder)
        collector = stack.collector(receiver.config)
        page.goto(f"http://127.0.0.1:{collector.http}/alerts")
        page.evaluate("window.notReloaded = true")
        ticks = recording.values()
        kernel.tick(next(ticks))
        stack.agent(collector, inputs=host_input(kernel, recording, "10s"))
        begins = 0
        for at, values in enumerate(ticks, start=1):
            # In the middle between two ticks of the input, which fall on the multiples of ten seconds.
            now = time.time_ns()
            time.sleep(((now - TICK // 2) // TICK * TICK + TICK + TICK // 2 - now) / SECOND)
            kernel.tick(values)
            if at == recording.calm:
                begins = (time.time_ns() // TICK + 1) * TICK
        alert = firing(collector)
        assert begins <= alert["started_ns"] <= begins + 3 * TICK
        assert alert["late"] is False
        assert max(score for at, score in scores(collector).items() if at <= begins) < 1.0

        row = page.get_by_role("table", name="alert").get_by_role("row", name=RULE)
        expect(row).to_contain_text("firing")
        expect(row.get_by_role("link", name=recording.device)).to_be_visible()
        assert page.evaluate("window.notReloaded") is True
        told = until("the webhook is told", lambda: receiver.alerts(RULE))
        assert [nanoseconds(one["startsAt"]) for one in told] == [alert["started_ns"]]


def test_a_recorded_fault_raises_the_score_and_alerts_over_rest_and_at_a_webhook(stack: Stack) -> None:
    """Calm scores stay below one; the fault's rise above it within half a minute, and the alert has the fault's time."""
    with Receiver() as receiver:
        collector = stack.collector(receiver.config)
        agent = stack.agent(collector)
        recording = Recording()
        start = recording.start(time.time_ns() + AHEAD)
        feed(agent, recording, start)
        alert = firing(collector)
        begins = recording.fault_begins(start)
        # A score is for the ten seconds that end with its time.
        assert begins + TICK <= alert["started_ns"] <= begins + 3 * TICK
        assert alert["fired_ns"] == alert["started_ns"] + 2 * TICK
        assert alert["labels"]["device"] == "gw-1"
        assert alert["state"] == "firing"
        assert alert["value"] > alert["threshold"] == 1.0
        assert alert["late"] is False, "found out within a minute"

        known = scores(collector)
        calm = [score for at, score in known.items() if at <= begins]
        assert len(calm) > 90
        assert max(calm) < 1.0
        assert all(score > 1.0 for at, score in known.items() if at >= alert["started_ns"])

        told = until("the webhook is told", lambda: receiver.alerts(RULE))
        assert [nanoseconds(one["startsAt"]) for one in told] == [alert["started_ns"]]
        assert nanoseconds(told[0]["telemetryx"]["fired_at"]) == alert["fired_ns"]
        assert (told[0]["status"], told[0]["telemetryx"]["late"]) == ("firing", False)


def test_the_same_batches_held_back_for_an_hour_give_the_same_alert_at_its_own_time(stack: Stack) -> None:
    """An agent cut off from its collector scores all the same; what comes an hour later is judged as of then, marked late."""
    recording = Recording()
    live = stack.collector()
    agent = stack.agent(live)
    on_time = recording.start(time.time_ns() + AHEAD)
    feed(agent, recording, on_time)
    expected = firing(live)
    assert expected["late"] is False

    with Receiver() as receiver:
        away = stack.collector(receiver.config, start=False)
        cut_off = stack.agent(away)
        # The recording ended an hour ago, and nothing of it has reached the collector, which knows nothing of the agent.
        then = on_time - HOUR
        feed(cut_off, recording, then)
        away.start()
        alert = firing(away)
        assert alert["late"] is True
        assert alert["started_ns"] == expected["started_ns"] - HOUR
        assert alert["detected_ns"] - alert["fired_ns"] > HOUR - 60 * SECOND
        # The score hasn't been heard of since: over REST it is no longer known whether the fault lasts.
        assert alert["state"] == "unknown"
        assert same(alert, then) | {"state": "firing"} == same(expected, on_time)
        # The alert is there before the last of the backlog is.
        agent.wait_drained()
        cut_off.wait_drained()
        # The last window of each is closed by a tick of its own, and a score is for the ten seconds that end with its time.
        for collector, start in ((live, on_time), (away, then)):
            end = start + recording.ticks * TICK
            until("all windows are there", lambda of=collector, end=end: max(scores(of)) == end)
        assert {at - then: score for at, score in scores(away).items()} == {
            at - on_time: score for at, score in scores(live).items()
        }

        told = until("the webhook is told", lambda: receiver.alerts(RULE))
        assert [nanoseconds(one["startsAt"]) for one in told] == [alert["started_ns"]]
        assert told[0]["telemetryx"]["late"] is True
