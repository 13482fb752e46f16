"""A fault that nobody wrote a limit for: the shipped model sees it, the default rule tells, and late data changes nothing."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.harness import Agent, Collector, Stack, until
from tests.harness.receiver import Receiver
from tests.harness.recording import SECOND, TICK, Recording

RULE = "host metric anomalous"
SCORE = 'telemetryx.anomaly.score{model="host"}'
HOUR = 3600 * SECOND


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


def kernel_files(root: Path, ticks: int = 0) -> None:
    """Write what a kernel shows of the recording's host, after so many ticks of its processor."""
    (root / "net").mkdir(parents=True, exist_ok=True)
    for name, content in {
        "stat": f"cpu {100 + ticks} 0 100 {800 + ticks} 10 0 0 0 0 0\ncpu0 {100 + ticks} 0 100 {800 + ticks} 10 0 0 0 0 0\n",
        "loadavg": "0.50 1.00 1.50 2/100 7\n",
        "meminfo": "MemTotal: 4194304 kB\nMemFree: 500 kB\nMemAvailable: 700 kB\nBuffers: 50 kB\nCached: 150 kB\n",
        "diskstats": "8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n",
        "net/dev": "eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n",
    }.items():
        written = root / f"{name}.new"
        written.write_text(content)
        written.rename(root / name)


def test_the_recording_has_the_series_that_the_host_input_reads_from_proc(stack: Stack) -> None:
    """What is played over HTTP below has the names and labels that an agent gives a host of its own."""
    (stack.folder / "sys/block/sda").mkdir(parents=True)
    proc = stack.folder / "proc"
    kernel_files(proc)
    collector = stack.collector()
    recording = Recording()
    host = (
        f'[input.host]\ninterval = "100ms"\ndevice = "{recording.device}"\nprocfs_root = "{proc}"\n'
        f'sysfs_root = "{stack.folder / "sys"}"\ngroups = ["cpu", "load", "memory", "disk", "network"]\n'
    )
    stack.agent(collector, inputs=host)
    replayed = stack.collector()
    agent = stack.agent(replayed)
    feed(agent, Recording(calm=1, fault=0), time.time_ns())
    agent.wait_drained()

    def series(collector: Collector) -> set[tuple[str, ...]]:
        return {
            (one["name"], *sorted(f"{name}={value}" for name, value in one["labels"].items()))
            for one in collector.latest('{device="gw-1"}')
        }

    played = series(replayed)
    assert len(played) == 11
    ticks = 0

    def seen() -> bool:
        # The processor's shares are those since the tick before, so it must go on.
        nonlocal ticks
        ticks += 1
        kernel_files(proc, ticks)
        return played < series(collector)

    until(f"{played} among the host input's series", seen)


def test_a_recorded_fault_raises_the_score_and_alerts_over_rest_and_at_a_webhook(stack: Stack) -> None:
    """Calm scores stay below one; the fault's rise above it within half a minute, and the alert has the fault's time."""
    with Receiver() as receiver:
        collector = stack.collector(receiver.config)
        agent = stack.agent(collector)
        recording = Recording()
        start = recording.start(time.time_ns())
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
    on_time = recording.start(time.time_ns())
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
        assert {at - then: score for at, score in scores(away).items()} == {
            at - on_time: score for at, score in scores(live).items()
        }

        told = until("the webhook is told", lambda: receiver.alerts(RULE))
        assert [nanoseconds(one["startsAt"]) for one in told] == [alert["started_ns"]]
        assert told[0]["telemetryx"]["late"] is True
