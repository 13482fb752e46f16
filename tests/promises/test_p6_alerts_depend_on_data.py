"""P6: which alerts stand depends on what was measured when, not on when or in what order it came."""

import random
import time
from typing import Any

from tests.harness import Agent, Collector, Stack, until

SECOND = 1_000_000_000
RULES = """rules:
  - name: hot
    select: temperature
    agg: max
    window: 10s
    when: "> 80"
    for: 20s
    recover_when: "< 70"
    severity: critical
    summary: "{{ labels.device }} is at {{ value }}"
  - name: hot on average
    select: temperature
    agg: avg
    window: 1m
    when: ">= 60"
    group_by: [site]
    severity: warning
"""
#: From when to when each pump is hot, in seconds from the beginning; too short for an alert where under 20.
HOT = {
    "pump1": [(300, 420), (900, 1000)],
    "pump2": [(600, 610), (1200, 1500)],
    "pump3": [(305, 380)],
    "pump4": [],
}
LENGTH = 1800


def readings(base: int) -> list[str]:
    """Return what the pumps measured, a line for each five seconds and pump, in the order of their times."""
    return [
        f"temperature,site=plant1,device={pump} value={95.5 if any(a <= at < b for a, b in hot) else 40.25} {base + at * SECOND}"
        for at in range(0, LENGTH, 5)
        for pump, hot in HOT.items()
    ]


def expected(base: int) -> list[tuple[object, ...]]:
    """Say by hand which alerts of `hot` stand: (device, started, fired, resolved)."""
    alerts: list[tuple[object, ...]] = []
    for pump, hot in HOT.items():
        for begins, ends in hot:
            # The rule looks every ten seconds, at the ten before; the last hot reading is five seconds before the end.
            started = -(-begins // 10) * 10
            resolved = -(-(ends - 5) // 10) * 10 + 10
            if resolved - started > 20:
                alerts.append((pump, *(base + at * SECOND for at in (started, started + 20, resolved))))
    return sorted(alerts)


def standing(collector: Collector) -> list[dict[str, Any]]:
    """Return the alerts that stand, without what says how they were found out."""
    found = collector.get("/api/v1/alerts", state="all", limit=1000)["alerts"]
    how = ("id", "detected_ns", "changed_ns", "data_ns", "late", "revision")
    alerts = [
        {key: value for key, value in alert.items() if key not in how}
        for alert in found
        if alert["state"] not in {"retracted", "closed"} and alert["rule"].startswith("hot")
    ]
    return sorted(
        alerts, key=lambda alert: (alert["rule"], alert["labels"].get("device", ""), alert["started_ns"])
    )


def send(agent: Agent, lines: list[str], pieces: int) -> None:
    """Send lines in the order given, in so many requests."""
    size = -(-len(lines) // pieces)
    for at in range(0, len(lines), size):
        assert agent.write("\n".join(lines[at : at + size])) == 204


def test_the_same_readings_in_any_order_leave_the_same_alerts_standing(stack: Stack) -> None:
    """In order, newest first, and shuffled with the collector killed on the way: equal, and as worked out by hand."""
    rules = stack.folder / "rules.yaml"
    rules.write_text(RULES)
    base = time.time_ns() // (600 * SECOND) * 600 * SECOND - 7200 * SECOND
    lines = readings(base)
    shuffled = random.Random(11).sample(lines, len(lines))
    collectors: list[Collector] = []
    for order, killed in ((lines, False), (lines[::-1], False), (shuffled, True)):
        collector = stack.collector(f'[rules]\nfiles = ["{rules}"]\n')
        agent = stack.agent(collector)
        half = len(order) // 2
        send(agent, order[:half], 20)
        if killed:
            assert collector.process is not None
            collector.process.kill()
        send(agent, order[half:], 20)
        if killed:
            collector.start()
        agent.wait_drained()

        def as_by_hand(collector: Collector = collector) -> bool:
            alerts = [alert for alert in standing(collector) if alert["rule"] == "hot"]
            seen = sorted(
                (alert["labels"]["device"], alert["started_ns"], alert["fired_ns"], alert["resolved_ns"])
                for alert in alerts
            )
            return seen == expected(base)

        until("the alerts worked out by hand", as_by_hand)
        collectors.append(collector)

    def alike() -> list[list[dict[str, Any]]] | None:
        # The other rule isn't worked out by hand: that it is done, too, shows when all three tell the same of it.
        found = [standing(collector) for collector in collectors]
        both = {alert["rule"] for alert in found[0]} == {"hot", "hot on average"}
        return found if both and found[0] == found[1] == found[2] else None

    until("the same alerts stand in all three", alike)
