"""A site that is offline for a day, with the time compressed: readings of 24 hours, the agent killed in between, and the return.

    just fault day --rate 20 [--hours 24] [--kills 4] [--link BYTES] [--seed N] [--json]

Readings with event times spread evenly over the last day go in as fast as the agent takes them, in the order of their times, two of
three raw and the third into windows of a minute; the link is cut and the agent is killed with kill -9 a few times. Then the link returns,
no faster than `--link`, and the backlog drains beside fresh readings at the same rate. Exit code 1 unless every acknowledged raw reading is stored once,
the windows hold the others, both sums of the ledger balance, and nothing of the day expired or was refused for its age. Prints how
fast the backlog drained, and the time to the end that `status` forecast first, beside the real one.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fault.figures import show
from tests.fault.link import through
from tests.fault.outage import DEVICES, Steady
from tests.harness import Collector, Stack, until
from tests.harness.ledger import settled

SECOND = 1_000_000_000
HOUR_S = 3_600
LINES = 2_000
WINDOW_S = 60
#: The fold makes windows of these; the age cap must not touch a day.
CONFIG = f"""
[spool]
max_age = "25h"
[[fold.route]]
match = "win.v"
to = "window"
window = "{WINDOW_S}s"
"""
NO_CONTENT = 204
DRAIN_S = 1_800.0


def body(first: int, count: int, begin: int, step: int, noise: random.Random) -> str:
    """Return readings first to first + count: each of raw `s.n` and `s.v` and of windowed `win.v`, the n-th at its time."""
    numbers = range(first, first + count)
    return "\n".join(
        f"s,device=d{n % DEVICES} n={n}i,v={noise.gauss(20, 3)!r} {begin + n * step}\nwin,device=d{n % DEVICES} v={n % 100} {begin + n * step}"
        for n in numbers
    )


def day(stack: Stack, rate: int, hours: float, kills: int, link: float, seed: int) -> dict[str, Any]:
    """Run it and return the figures."""
    draw = random.Random(seed)
    collector, agent, proxy = through(stack)
    proxy.cut()
    agent.config.write_text(agent.config.read_text() + CONFIG)
    assert agent.process is not None
    agent.process.kill()
    agent.start()
    total = max(LINES, int(rate / 3 * hours * HOUR_S))
    step = int(hours * HOUR_S * SECOND) // total
    begin = time.time_ns() - total * step
    killed = set(draw.sample(range(1, max(kills + 2, total // LINES)), kills))
    started = time.monotonic()
    for chunk, first in enumerate(range(0, total, LINES)):
        if chunk in killed:
            agent.process.kill()
            agent.start()
        assert agent.write(body(first, min(LINES, total - first), begin, step, draw)) == NO_CONTENT
    until("the day is in batches", agent.in_batches, DRAIN_S)
    taken = time.monotonic() - started
    waiting = agent.status()["spool"]

    proxy.limit(up=link)
    proxy.mend()
    until("the session returns", lambda: agent.status()["link"]["connected"])
    returned, back = time.time_ns(), time.monotonic()
    # Numbered from 0 again, and fresh.
    steady = Steady(agent, rate)
    steady.start()
    forecast: float | None = None
    at = 0.0

    def drained() -> bool:
        nonlocal forecast, at
        status = agent.status()
        found = status["link"]["backlog"]["caught_up_s"]
        if forecast is None and found is not None:
            forecast, at = found, time.monotonic() - back
        return bool((status["spool"]["oldest_ns"] or returned) >= returned)

    until("the backlog is stored", drained, DRAIN_S)
    took = time.monotonic() - back
    until("fresh readings are there too", lambda: steady.sent >= rate)
    steady.stop()
    until("all windows are closed", lambda: windowed(collector) >= total, 180.0)
    proxy.limit()
    counts = settled(collector, agent, 3 * total + 2 * steady.sent)
    proxy.close()
    lost, twice = judge(collector, total, begin)
    return {
        "hours": hours,
        "readings": 3 * total,
        "taken_in_s": taken,
        "kills": kills,
        "batches": waiting["batches"],
        "backlog_bytes": waiting["bytes"],
        "drain_s": took,
        "drain_bytes_per_second": waiting["bytes"] / took,
        "forecast_s": -1.0 if forecast is None else forecast,
        "forecast_was_made_after_s": at,
        "then_it_took_s": took - at,
        "acknowledged_and_lost": lost,
        "stored_twice": twice,
        "windowed_and_lost": total - windowed(collector),
        "dropped_for_age_or_time": counts.get("expired", 0) + counts.get("rejected_time", 0),
    }


def judge(collector: Collector, total: int, begin: int) -> tuple[int, int]:
    """Return how many of the day's raw readings are missing, and how many are there twice."""
    lost = twice = 0
    since = f"-{(time.time_ns() - begin) // SECOND + HOUR_S}s"
    for device in range(min(DEVICES, total)):
        found = collector.values(f's.n{{device="d{device}"}}', start=since)
        # The fresh ones count from 0 again; theirs are the last times, so the day's come first.
        mine = [int(value) for value in (found[0] if found else [])][: len(range(device, total, DEVICES))]
        counted = Counter(mine)
        lost += len(set(range(device, total, DEVICES)) - counted.keys())
        twice += sum(count > 1 for count in counted.values())
    return lost, twice


def windowed(collector: Collector) -> int:
    """Return how many readings the stored windows hold."""
    answer = collector.get(
        "/api/v1/query_range", match="win.v", start="-2d", end="now", step="1h", agg="count"
    )
    return int(sum(count for series in answer["series"] for count in series["values"] if count))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=20, help="readings a second of the day (20)")
    parser.add_argument("--hours", type=float, default=24.0, help="how long the site is offline (24)")
    parser.add_argument("--kills", type=int, default=4, help="kill -9 of the agent meanwhile (4)")
    parser.add_argument(
        "--link", type=float, default=65_536, help="bytes a second of the link afterwards (65536)"
    )
    parser.add_argument("--seed", type=int, default=1, help="when the agent is killed")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="telemetryx-day-") as folder:
        stack = Stack(Path(folder))
        try:
            found = day(stack, given.rate, given.hours, given.kills, given.link, given.seed)
        finally:
            stack.close()
    show(found, as_json=given.json)
    must_be_zero = ("acknowledged_and_lost", "stored_twice", "windowed_and_lost", "dropped_for_age_or_time")
    missed = [name for name in must_be_zero if found[name]]
    for name in missed:
        print(f"{name.replace('_', ' ')}: {found[name]}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
