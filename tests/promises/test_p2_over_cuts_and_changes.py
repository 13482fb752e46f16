"""P2 where nobody would look for it: a link that dies unnoticed, and a config that changes at the moment of a kill."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.fault.link import through
from tests.harness import Agent, Collector, Stack, until
from tests.harness.ledger import settled

SECOND = 1_000_000_000


def numbers(collector: Collector) -> list[float]:
    """Return what is stored of the series n."""
    found = collector.values("n", start="-1h")
    return sorted(found[0]) if found else []


@pytest.mark.parametrize("forgotten", [True, False], ids=["connection forgotten", "connection still there"])
@pytest.mark.waits(seconds=60)
def test_what_was_sent_into_a_cut_that_nobody_noticed_is_stored_once(
    stack: Stack, *, forgotten: bool
) -> None:
    """No reset, no error: the agent goes on sending, and after the link's return nothing is missing and nothing there twice."""
    collector, agent, proxy = through(stack)
    with proxy:
        assert agent.write("n value=0i") == 204
        until("the link works", lambda: numbers(collector) == [0.0])
        before = agent.status()["link"]["sessions"]
        # The last batches on the way: one is at the collector and its ack is lost, the others never reach it.
        proxy.half_open(up=True)
        assert agent.write("n value=1i") == 204
        until("it is stored, and the agent isn't told", lambda: numbers(collector) == [0.0, 1.0])
        assert agent.status()["spool"]["batches"] >= 1
        proxy.black_hole()
        # Many at once, so that they share their fsyncs: after twenty seconds without a word the agent would notice.
        with ThreadPoolExecutor(16) as senders:
            bodies = [f"n value={number}i" for number in range(2, 50)]
            assert set(senders.map(agent.write, bodies)) == {204}
        until("they are sent, as far as the agent knows", lambda: agent.status()["spool"]["in_flight"] > 1)
        assert agent.status()["link"]["connected"]
        assert numbers(collector) == [0.0, 1.0]
        if forgotten:
            proxy.forget()
        proxy.mend()
        until("all is stored", lambda: len(numbers(collector)) >= 50)
        counts = settled(collector, agent, 50)
        assert (agent.status()["link"]["sessions"] > before) is forgotten
    assert numbers(collector) == [float(number) for number in range(50)]
    assert counts["stored"] == 50


def reconfigured(agent: Agent, window: str) -> None:
    """Kill the agent and start it with windows of another length."""
    assert agent.process is not None
    agent.process.kill()
    text = agent.config.read_text()
    head, _, _ = text.partition("\n[[fold.route]]")
    agent.config.write_text(f'{head}\n[[fold.route]]\nmatch = "slow.*"\nto = "window"\nwindow = "{window}"\n')
    agent.start()


def per_minute(collector: Collector, base: int) -> dict[int, tuple[int, float, float, float]]:
    """Return count, sum, min and max by minute since the base, over all windows that lie in it."""
    with closing(sqlite3.connect(f"file:{collector.database}?mode=ro", uri=True)) as store:
        rows = store.execute(
            "SELECT (start_ns - ?1) / 60000000000, sum(count), sum(sum), min(min), max(max), max(start_ns + length_ns - ?1) "
            'FROM "window" GROUP BY 1 ORDER BY 1',
            (base,),
        ).fetchall()
    assert all(end <= (minute + 1) * 60 * SECOND for minute, *_, end in rows)
    return {minute: (count, total, low, high) for minute, count, total, low, high, _ in rows}


def test_windows_that_change_their_length_at_a_kill_hold_each_reading_once(stack: Stack) -> None:
    """60 s windows become 10 s ones and 60 s ones again, the agent killed in the middle of each."""
    collector = stack.collector()
    agent = stack.agent(
        collector, extra='\n[[fold.route]]\nmatch = "slow.*"\nto = "window"\nwindow = "60s"\n'
    )
    base = time.time_ns() // (60 * SECOND) * 60 * SECOND - 3_600 * SECOND
    minutes = 6

    def write(seconds: range) -> None:
        for first in range(seconds.start, seconds.stop, 5):
            several = range(first, min(first + 5, seconds.stop))
            assert agent.write("\n".join(f"slow v={at}i {base + at * SECOND}" for at in several)) == 204

    write(range(95))
    reconfigured(agent, "10s")
    write(range(95, 173))
    reconfigured(agent, "60s")
    write(range(173, 221))
    reconfigured(agent, "10s")
    write(range(221, minutes * 60))

    by_hand = {
        minute: (60, float(sum(each)), float(min(each)), float(max(each)))
        for minute in range(minutes)
        for each in [range(minute * 60, minute * 60 + 60)]
    }
    until("all windows are made", lambda: per_minute(collector, base) == by_hand)
    counts = settled(collector, agent, minutes * 60)
    assert counts["received"] == counts["reduced_window"] == minutes * 60
    assert per_minute(collector, base) == by_hand
