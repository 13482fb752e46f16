"""An outage under a steady load, and a link afterwards that has room for twice the load: how old fresh readings get.

    just fault outage --seconds 60 --rate 5000 [--room 2] [--silent] [--json]

Readings go to the agent over HTTP all the time, each with the time of its sending. The link is cut (or, `--silent`, a black hole)
for so many seconds, then limited to `--room` times the bytes of the live load. Prints how old fresh readings are when they are
committed while the backlog drains beside them, and what share of the bytes the backlog has. Exit code 1 unless everything
acknowledged is stored once and no fresh reading is a second old. On a link that needs longer than a second for one batch that
can't be: then it says so instead.
"""

import argparse
import http.client
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np

from tests.fault.figures import show
from tests.fault.link import through
from tests.harness import Agent, Collector, Stack, until
from tests.harness.ledger import settled

SECOND = 1_000_000_000
DEVICES = 50
POSTS_A_SECOND = 50
#: How long the live load's bytes are measured before, and watched after the drain.
STEADY_S = 10.0
#: Batches stay as they were shipped, so that their arrival can be looked up afterwards.
#: What a fresh reading may be old while the backlog drains.
PROMISED_S = 1.0
AS_SHIPPED = '[store]\ncompact_interval = "12h"\n'
DRAIN_S = 1_800.0


class Steady(threading.Thread):
    """Readings at a rate; the n-th has the value n and goes to device n modulo DEVICES."""

    def __init__(self, agent: Agent, rate: int) -> None:
        """Begin with none sent."""
        super().__init__(name="steady", daemon=True)
        self._agent, self._lines = agent, max(1, rate // POSTS_A_SECOND)
        self._end = threading.Event()
        self._noise = random.Random(1)
        self.sent = 0
        self.refused = 0
        self.behind_s = 0.0

    def run(self) -> None:
        """Post until stopped; a post that is late is not left out."""
        link = http.client.HTTPConnection("127.0.0.1", self._agent.http, timeout=60)
        begin, posts = time.monotonic(), 0
        while not self._end.is_set():
            due = begin + posts / POSTS_A_SECOND
            now = time.monotonic()
            if now < due:
                self._end.wait(due - now)
                continue
            self.behind_s = max(self.behind_s, now - due)
            at = time.time_ns()
            body = "\n".join(
                f"s,device=d{number % DEVICES} n={number}i,v={self._noise.gauss(20, 3)!r} {at}"
                for number in range(self.sent, self.sent + self._lines)
            )
            link.request("POST", "/write", body)
            answer = link.getresponse()
            answer.read()
            # A body that was refused is sent again: what counts is what was acknowledged.
            if answer.status == http.client.NO_CONTENT:
                self.sent += self._lines
            else:
                self.refused += 1
            posts += 1

    def stop(self) -> None:
        """End."""
        self._end.set()
        self.join(90)


def outage(stack: Stack, seconds: float, rate: int, room: float, *, silent: bool) -> dict[str, float]:
    """Run it and return the figures."""
    collector, agent, proxy = through(stack, collector_extra=AS_SHIPPED)
    with proxy:
        # Each line has two fields, so that half as many lines are asked for as readings.
        steady = Steady(agent, rate // 2)
        steady.start()
        until("the load is stored", lambda: collector.latest("s.n"))
        before, begin = proxy.passed[0], time.monotonic()
        time.sleep(STEADY_S)
        live_bytes = (proxy.passed[0] - before) / (time.monotonic() - begin)
        (proxy.black_hole if silent else proxy.cut)()
        time.sleep(seconds)
        proxy.limit(up=live_bytes * room)
        returned = time.time_ns()
        proxy.mend()

        def drained() -> bool:
            oldest = agent.status()["spool"]["oldest_ns"] or time.time_ns()
            return bool(oldest > returned)

        until("the backlog is stored", drained, DRAIN_S)
        time.sleep(STEADY_S)
        steady.stop()
        proxy.limit()
        settled(collector, agent, steady.sent * 2)
    lost, twice = judge(collector, steady.sent)
    return {
        "live_bytes_per_second": live_bytes,
        "readings": steady.sent * 2,
        "sender_was_late_by_at_most_s": steady.behind_s,
        "refused": steady.refused,
        "link_bytes_per_second": live_bytes * room,
        **drain(collector, returned),
        "acknowledged_and_lost": lost,
        "stored_twice": twice,
    }


def drain(collector: Collector, returned: int) -> dict[str, float]:
    """Look the drain up in the store: a batch's readings count as old as its oldest."""
    with closing(sqlite3.connect(f"file:{collector.database}?mode=ro", uri=True)) as store:
        rows = np.array(
            store.execute(
                "SELECT received_ns, t0_ns, t1_ns, samples, length(payload) FROM batch WHERE received_ns > ? AND samples > 0 "
                "ORDER BY received_ns",
                (returned,),
            ).fetchall(),
            dtype=np.int64,
        )
    came, first, last, samples, size = rows.T
    session = int(came[0])
    # What gathered while there was no session is backlog, also what did so between the link's return and the session's.
    old = last < session
    end = int(came[old].max()) if old.any() else session
    within = came <= end
    # Also what was measured during the drain and came after it.
    fresh = ~old & (np.maximum(first, session) <= end)
    # What was measured between the link's return and the session's waited for the session, not behind the backlog.
    ages = (came - np.maximum(first, session))[fresh] / SECOND
    order = np.argsort(ages)
    share = np.cumsum(samples[fresh][order]) / max(1, samples[fresh].sum())
    p99 = ages[order][np.searchsorted(share, 0.99)] if fresh.any() else 0.0
    return {
        "session_back_after_s": (session - returned) / SECOND,
        "drain_took_s": (end - session) / SECOND,
        "backlog_readings": int(samples[old].sum()),
        "fresh_readings_during_drain": int(samples[fresh].sum()),
        "fresh_age_max_s": float(ages.max()) if fresh.any() else 0.0,
        "fresh_age_p99_s": float(p99),
        "largest_batch_bytes": int(size[within].max()),
        "backlog_share_of_bytes": float(size[old & within].sum() / max(1, size[within].sum())),
    }


def judge(collector: Collector, sent: int) -> tuple[int, int]:
    """Return how many are missing, and how many are there twice, device by device."""
    lost = twice = 0
    for device in range(min(DEVICES, sent)):
        found = collector.values(f's.n{{device="d{device}"}}')
        counted = Counter(int(value) for value in (found[0] if found else []))
        lost += len(set(range(device, sent, DEVICES)) - counted.keys())
        twice += sum(count > 1 for count in counted.values())
    return lost, twice


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the link is down (60)")
    parser.add_argument("--rate", type=int, default=5_000, help="readings a second (5000)")
    parser.add_argument("--room", type=float, default=2.0, help="the link afterwards, in live loads (2)")
    parser.add_argument("--silent", action="store_true", help="a black hole instead of a cut")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="telemetryx-outage-") as folder:
        stack = Stack(Path(folder))
        try:
            found = outage(stack, given.seconds, given.rate, given.room, silent=given.silent)
        finally:
            stack.close()
    show(found, as_json=given.json)
    return verdict(found)


def verdict(found: dict[str, float]) -> int:
    """Say what of the promises was missed; 1 when one was."""
    bad = bool(found["acknowledged_and_lost"] or found["stored_twice"])
    if not found["fresh_readings_during_drain"]:
        print("the drain was too short to see fresh readings beside it: give more --seconds", file=sys.stderr)
    elif found["fresh_age_max_s"] >= PROMISED_S:
        print("fresh readings were older than a second while the backlog drained", file=sys.stderr)
        bad = True
    return int(bad)


if __name__ == "__main__":
    raise SystemExit(main())
